"""A key that is planted in the environment is found in no file, log, page or metric, whatever fails.

What a model says is kept word for word, with one exception: the endpoint's own key, which `***` stands for. A key that
somebody types into a command line stands in the shell's history, which is none of ours; it is not repeated.
"""

import asyncio
import base64
import json
import signal
import sqlite3
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pyarrow
import pyarrow.parquet
import pytest

from actors.models import prepare_model
from engine.control import ask
from engine.corpus import Corpus
from engine.rundir import RunDirectory
from tests.planted import QUICK, VARIABLE, Place, generate, make_key, write
from tests.running import free_port, start
from tests.stub import Call, Fault, answer_by_purpose, serve
from tests.test_hosted_rounds import HostedStub
from tests.tuning_stub import CREATE, EVENTS, UPLOAD, serve_tuning
from tests.tuning_stub import Fault as TuningFault

KEY = make_key()
HEADER = f"Bearer {KEY}"
TALK = 'patient = "base"\nlistener = "base"'


LOCAL = ['models.local={kind="vllm", max_model_len=4096, kv_cache_gib=0.5, max_num_seqs=4}']


class Always(deque[Fault]):
    """A fault for every call."""

    def popleft(self) -> Fault:
        return self[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place; nothing in it, and nothing that was said, may hold the key at the end."""
    place = Place(tmp_path, KEY)
    yield place
    assert place.leaks() == []


# ---------------------------------------------------------------- what an endpoint does


@dataclass(frozen=True)
class Case:
    """How every call fails, how the command then ends, and a word of what it says or keeps that shows it."""

    name: str
    fault: Fault
    shows: str
    overrides: list[str] = field(default_factory=list)
    code: int = 0


CASES = (
    Case("401 with the key", Fault(401, f"Incorrect API key provided: {KEY}"), "401", code=1),
    Case("403 with the header", Fault(403, f"no scope for {HEADER}"), "403", code=1),
    Case("404 with the key as model", Fault(404, f"no model {KEY}"), "404"),
    Case("429 for ever", Fault(429, f"slow down, {KEY}", headers={"Retry-After": "0.02"}), "rate_limited"),
    Case("500 with the header", Fault(500, json.dumps({"Authorization": HEADER})), "500"),
    Case("503 with cut keys", Fault(503, f"keys {KEY[:20]}... and {KEY[:12]}"), "503"),
    Case("500 with a key at the cut", Fault(500, "x" * 285 + KEY), "500"),
    Case(
        "500 in base64",
        Fault(500, " ".join(base64.b64encode(b"k" * n + KEY.encode()).decode() for n in range(3))),
        "500",
    ),
    Case("500 percent-encoded", Fault(500, f"/v1?key={quote(KEY, safe='')}"), "500"),
    Case("no JSON", Fault(raw=f"<html>{HEADER}</html>"), "malformed"),
    Case("another JSON", Fault(raw=json.dumps({"choices": KEY, KEY: KEY})), "malformed"),
    Case("an answer cut off", Fault(cut=json.dumps({"error": KEY})), "connection"),
    Case("hung up", Fault(hang_up=True), "connection"),
    Case("too late", Fault(delay_s=30), "timeout", ["scheduler.request_timeout_s=0.2"]),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_endpoint_that_fails(place: Place, case: Case) -> None:
    with serve(api_key=KEY) as stub:
        stub.faults = Always([case.fault])
        said = generate(place, write(place, stub.base_url), *QUICK, *case.overrides, expect=case.code)
        assert stub.chats and stub.chats[0].headers["authorization"] == HEADER
    kept = [] if case.code else [error_of(record) for record in Corpus.open(RunDirectory.open(place.run))]
    assert case.shows in said + "".join(kept), "it failed in another way"


def error_of(record: object) -> str:
    return str(getattr(record, "error", ""))


def test_an_endpoint_that_refuses_the_connection(place: Place) -> None:
    assert "must be reachable" in generate(place, write(place, f"http://127.0.0.1:{free_port()}/v1"), expect=1)


def test_an_endpoint_that_refuses_the_key_at_once(place: Place) -> None:
    with serve(api_key="another") as stub:
        assert f"environment variable {VARIABLE}" in generate(place, write(place, stub.base_url), expect=1)


def test_an_embedder_that_fails(place: Place) -> None:
    with serve(api_key=KEY) as good, serve(api_key=KEY) as bad:
        bad.faults = Always([Fault(500, HEADER)])
        config = write(place, good.base_url, embed_url=bad.base_url)
        assert "500" in generate(place, config, "protocol.similarity=0.9", expect=None) + kept_text(place)
        assert bad.calls[0].headers["authorization"] == HEADER


def kept_text(place: Place) -> str:
    return "".join(map(error_of, Corpus.open(RunDirectory.open(place.run)))) if place.run.exists() else ""


def test_an_endpoint_that_sends_elsewhere(place: Place) -> None:
    with serve() as other, serve(api_key=KEY) as stub:
        target = {"Location": f"{other.base_url}/chat/completions"}
        stub.faults = Always([Fault(307, "over there", headers=target)])
        generate(place, write(place, stub.base_url), *QUICK, expect=None)
        assert stub.chats
        assert not any(KEY in str(call.headers) for call in other.calls)


def test_a_model_that_says_the_key(place: Place) -> None:
    with serve(lambda call: f"Your key is {KEY}, is it not?", api_key=KEY) as stub:
        body = {"choices": [{"message": {"content": f"It is {KEY}."}}], "model": KEY, "system_fingerprint": KEY}
        stub.faults.append(Fault(raw=json.dumps(body)))
        generate(place, write(place, stub.base_url), *QUICK)
    records = list(Corpus.open(RunDirectory.open(place.run)))
    texts = [step.reply.text for record in records for step in record.steps if step.reply is not None]
    assert any("It is ***." in text for text in texts) and any("Your key is ***, is it not?" in text for text in texts)


TYPED = f"sk-proj-{KEY[10:20].replace('/', '1').replace('+', '2')}abcdefgh12345678"


@pytest.mark.parametrize(
    "override",
    [
        f"roles.patient={TYPED}",
        f"protocol.name={TYPED}",
        f"privacy.egress={TYPED}",
        f"models.base.base_url=http://127.0.0.1:9/{TYPED}/v1",
        f"models.base.model={TYPED}",
        f"models.base.{TYPED}=1",
        f"corpus.target_options.secret_key={TYPED}",
    ],
    ids=lambda override: override.replace(TYPED, "KEY"),
)
def test_a_key_that_is_typed_is_refused_and_not_repeated(tmp_path: Path, override: str) -> None:
    place = Place(tmp_path, TYPED)
    generate(place, write(place, "http://127.0.0.1:9/v1"), override, expect=2)
    assert place.leaks() == []


# ---------------------------------------------------------------- what ends a run

PROTOCOL = """
import os
from engine.asking import ask_text
from engine.protocol import protocol
from engine.steps import Generate, Sampling
from engine.views import View

@protocol(roles=("patient", "listener"))
def talk(case, rules):
    environment = dict(os.environ)
    view = View.of("You are a patient.").hear("(Begin.)")
    told = yield from ask_text(Generate("1/patient", "patient", view, Sampling(16, 0.0), "tell"))
    if told.replica:
        raise RuntimeError(f"a bug that prints all it has: {{environment}}")
    return {{}}
"""


def test_a_protocol_that_raises_its_environment(place: Place) -> None:
    path = place.outside / "talk.py"
    path.write_text(PROTOCOL.format(), "utf-8")
    with serve(api_key=KEY) as stub:
        config = write(place, stub.base_url, protocol="talk.py:talk", roles=TALK)
        generate(place, config)
    assert "a bug that prints all it has" in kept_text(place) and VARIABLE in kept_text(place)


def test_a_protocol_that_raises_before_it_is_one(place: Place) -> None:
    path = place.outside / "talk.py"
    path.write_text("import os\nraise RuntimeError(str(os.environ))\n", "utf-8")
    config = write(place, "http://127.0.0.1:9/v1", protocol="talk.py:talk", roles=TALK)
    assert "RuntimeError" in generate(place, config, expect=None)


def test_a_bug_of_our_own_prints_its_traceback_without_the_key(place: Place) -> None:
    (place.outside / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'engine.openai_backend':\n"
        "            raise RuntimeError(f'a bug with {os.environ}')\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    place.env["PYTHONPATH"] = str(place.outside)
    said = generate(place, write(place, "http://127.0.0.1:9/v1"), expect=1)
    assert "Traceback" in said and "a bug with" in said and VARIABLE in said


async def test_killed_interrupted_asked_and_resumed(place: Place) -> None:
    """Killed in the middle, resumed, asked by its socket, interrupted, resumed to its end, and then read."""
    good = answer_by_purpose()

    def answer(call: Call) -> str:
        if len(stub.calls) == 8:
            stub.hold()
        return good(call)

    with serve(answer, api_key=KEY) as stub:
        stub.faults.extend([Fault(500, HEADER), Fault(raw=KEY)])
        with started(place, "generate", write(place, stub.base_url), *QUICK, "--out", place.run) as process:
            await stub.arrived(9)
            process.kill()
        assert place.leaks() == []
        with started(place, "resume", place.run) as process:
            await stub.arrived(len(stub.calls) + 1)
            place.sandplay("status", place.run)
            place.said.append(str(await asyncio.to_thread(ask_status, place)))
            place.sandplay("swap", place.run, place.outside, expect=2)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 20) == 143
        assert place.leaks() == []
        stub.release()
        summary = json.loads(place.sandplay("resume", place.run, "--json").splitlines()[-1])
    assert summary["episodes"]["completed"] == 2
    read_everything(place)


@contextmanager
def started(place: Place, *arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """Run the command beside the block; what it says is searched, and it is gone at the end."""
    process = start(*arguments, env=place.env)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        place.said += process.communicate(timeout=20)


def ask_status(place: Place) -> object:
    return ask(place.run / "control.sock", {"command": "status"}, place.said.append)


def read_everything(place: Place) -> None:
    """Have each command that reads a run read it."""
    place.sandplay("status", place.run, "--json")
    place.sandplay("show", place.run, "--json")
    place.sandplay("report", place.run)
    place.sandplay("export", place.run, "--format", "records", "--to", place.root / "rows")
    place.sandplay("samples", "--from", place.run, "--to", place.root / "samples")
    place.sandplay("quality", place.run, "--json")
    place.sandplay("doctor", "--json", expect=None)


# ---------------------------------------------------------------- who else is given the key

ROUNDS = """
[rounds]
num_rounds = 1
held_out = 0
[samples]
near = 1
[tuning]
poll_s = 0.0
[exam]
num_items = 2
"""


def test_rounds_whose_endpoint_fails_to_train(place: Place) -> None:
    config = place.outside / "rounds.toml"
    with serve_tuning(HostedStub, api_key=KEY) as stub:
        config.write_text(write(place, stub.base_url).read_text() + ROUNDS)
        stub.fail(UPLOAD, TuningFault(500, HEADER), TuningFault(401, HEADER))
        stub.fail(CREATE, TuningFault(raw=f"<p>{HEADER}"), TuningFault(403, HEADER))
        stub.says = f"step {{step}}: loss={{loss}} {KEY}"
        said = place.sandplay("rounds", config, *QUICK, "cases.limit=8", "--out", place.run, expect=1)
        assert "401" in said
        assert "malformed" in place.sandplay("resume", place.run, expect=None)
        stub.error = {"code": "bad", "message": f"no, {KEY}", "param": KEY}
        stub.job_statuses = ("running", "failed")
        said = place.sandplay("resume", place.run, expect=1)
        assert "no, ***" in said and "loss=0.667 ***" in said and stub.count(EVENTS)
    place.sandplay("status", place.run)


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_engines_and_ray_that_serve_and_play_beside_the_key() -> None:
    """Ray's own files, the logs of engines and of a server: the key is in the environment of all of these processes."""
    model = prepare_model("smollm2-135m", 4096)
    # Ray's sockets have no room for the path of a test's own directory.
    with tempfile.TemporaryDirectory(prefix="sp-") as root, serve(api_key=KEY) as stub:
        place = Place(Path(root), KEY)
        cache = place.root / "cache" / "sandplay"
        cache.mkdir()
        (cache / model.name).symlink_to(model)
        place.env |= {"RAY_TMPDIR": str(place.root / "tmp")}
        config = write(place, stub.base_url)
        stub.faults = Always([Fault(500, HEADER)])
        chosen = [*QUICK, *LOCAL, "roles.patient=local", "cases.limit=1", "protocol.max_tokens=16"]
        place.sandplay("generate", config, *chosen, "--out", place.run, timeout_s=400)
        assert "500" in kept_text(place)
        asked = ("serve", config, *LOCAL, "--model", "local", "--port", "0", "--key-env", VARIABLE, "--json")
        with started(place, *asked) as process:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            for key, status in ((KEY, 404), (f"{KEY}x", 401)):
                call = Request(f"{url}/models/none", headers={"Authorization": f"Bearer {key}"})
                with pytest.raises(HTTPError) as refused:
                    urlopen(call, timeout=60)
                with refused.value as answer:
                    place.said.append(answer.read().decode())
                assert answer.code == status
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        assert list((place.root / "tmp").rglob("raylet.out")), "Ray's files are not where they are searched"
        assert place.leaks() == []


# ---------------------------------------------------------------- the search itself


def test_the_search_finds_a_key_wherever_it_is_planted(tmp_path: Path) -> None:
    place = Place(tmp_path, KEY)
    table = pyarrow.table({"text": [f"It is {KEY}."] * 100})
    pyarrow.parquet.write_table(table, place.root / "rows.parquet", compression="zstd")
    with closing(sqlite3.connect(place.root / "rows.db")) as database, database:
        database.execute("CREATE TABLE rows (body BLOB)")
        database.execute("INSERT INTO rows VALUES (?)", [HEADER.encode()])
    for number in range(3):
        encoded = base64.b64encode(b"k" * number + KEY.encode()).decode()
        (place.root / f"{number}.log").write_text(f"Basic {encoded}")
    (place.root / "cut.log").write_text(f"key {KEY[:12]}...")
    (place.root / "percent.log").write_text(quote(KEY, safe=""))
    (place.root / "tail.log").write_text(KEY[12:])
    place.said.append(f"got {KEY!r}")
    names = {"rows.parquet", "rows.db", "0.log", "1.log", "2.log", "cut.log", "percent.log", "tail.log", "output"}
    assert set(place.leaks()) == names
