"""Bad input: each kind with its own message (what, where, the value, the remedy), exit code 2, nothing half-written."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import StubProcess, free_port, run, run_json, stub_process, write_config
from tests.stub import Fault, serve

CASE = {
    "id": "a",
    "name": "Ada",
    "type": ["plain"],
    "history": "Ada has felt low for a year.",
    "intermediate_belief": "If I rest, I am lazy.",
    "intermediate_belief_depression": "Nothing will ever change.",
    "coping_strategies": "She avoids her friends.",
    "situation": "A friend called.",
    "auto_thought": "They only pity me.",
    "emotion": ["sad"],
    "behavior": "She did not answer.",
}


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[StubProcess]:
    with stub_process(tmp_path) as running:
        yield running


def refuse(tmp_path: Path, url: str, *overrides: str, extra: str = "", code: int = 2) -> str:
    """Run generate, expecting a refusal that leaves no run directory; return what it says."""
    said = run("generate", write_config(tmp_path, url, extra), *overrides, "--out", tmp_path / "run", expect=code)
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in said
    return said


def write_cases(tmp_path: Path, *cases: Any) -> str:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(cases), "utf-8")
    return f'cases.source="{path}"'


def test_a_missing_case_file(tmp_path: Path, stub: StubProcess) -> None:
    assert "nowhere.json" in refuse(tmp_path, stub.url, 'cases.source="nowhere.json"')


def test_a_malformed_case_file_names_line_and_column(tmp_path: Path, stub: StubProcess) -> None:
    path = tmp_path / "cases.json"
    path.write_text('[\n  {"id": "a",,}\n]', "utf-8")
    said = refuse(tmp_path, stub.url, f'cases.source="{path}"')
    assert "line 2" in said and "column" in said


def test_missing_and_mistyped_fields_name_the_record_and_come_together(tmp_path: Path, stub: StubProcess) -> None:
    without = {key: value for key, value in CASE.items() if key != "situation"}
    mistyped = CASE | {"id": "b", "emotion": 3}
    said = refuse(tmp_path, stub.url, write_cases(tmp_path, without, mistyped))
    assert "situation" in said and "emotion" in said


def test_duplicate_ids(tmp_path: Path, stub: StubProcess) -> None:
    assert "'a'" in refuse(tmp_path, stub.url, write_cases(tmp_path, CASE, CASE | {"name": "Bea"}))


def test_an_unknown_key_names_the_nearest(tmp_path: Path, stub: StubProcess) -> None:
    said = refuse(tmp_path, stub.url, "scheduler.max_lives=3", "protocol.exchange=3")
    assert "did you mean scheduler.max_live?" in said
    assert "did you mean protocol.exchanges?" in said


def test_a_role_without_a_model(tmp_path: Path, stub: StubProcess) -> None:
    path = write_config(tmp_path, stub.url)
    path.write_text(path.read_text().replace('judge = "base"\n', ""))
    said = run("generate", path, "--out", tmp_path / "run", expect=2)
    assert "'judge'" in said and "[roles]" in said


def test_a_model_without_chat_template_names_the_instruct_one(tmp_path: Path, stub: StubProcess) -> None:
    model = tmp_path / "Meta-Llama-3-8B"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"max_position_embeddings": 8192}))
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "tokenizer.json").write_text("{}")
    table = f'models.base={{kind="vllm", model="{model}"}}'
    assert "use Meta-Llama-3-8B-Instruct" in refuse(tmp_path, stub.url, table)
    assert stub.num_lines == 0


def test_an_unreachable_endpoint(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    assert url in refuse(tmp_path, url, code=1)


def test_a_refused_key_names_the_variable_and_never_the_key(tmp_path: Path) -> None:
    with serve(api_key="right-key") as stub:
        path = write_config(tmp_path, stub.base_url)
        path.write_text(path.read_text().replace("[models.base]", '[models.base]\napi_key_env = "MY_KEY"'))
        said = run("generate", path, "--out", tmp_path / "run", expect=1, env={"MY_KEY": "wrong-key-123"})
        assert "MY_KEY" in said and "wrong-key-123" not in said
        said = run("generate", path, "--out", tmp_path / "run", expect=2, env={"MY_KEY": ""})
        assert "MY_KEY" in said
    assert not (tmp_path / "run").exists()


def test_429_is_waited_for_and_5xx_is_tried_again(tmp_path: Path) -> None:
    with serve() as stub:
        stub.faults.extend([Fault(status=429, headers={"Retry-After": "1"}), Fault(status=503), Fault(status=500)])
        config = write_config(tmp_path, stub.base_url)
        overrides = ["cases.limit=1", "protocol.behaviour=false"]  # so that the first call is a chat
        summary = run_json("generate", config, *overrides, "--out", tmp_path / "run")
    assert summary["episodes"]["completed"] == 1
    assert summary["calls"] == 24 + 3


def test_5xx_beyond_the_budget_fails_the_episode_as_data(tmp_path: Path) -> None:
    with serve() as stub:
        stub.faults.extend([Fault(status=500)] * 2)
        config = write_config(tmp_path, stub.base_url)
        overrides = ["cases.limit=1", "scheduler.max_attempts=2", "protocol.behaviour=false"]
        summary = run_json("generate", config, *overrides, "--out", tmp_path / "run")
        shown = json.loads(run("show", tmp_path / "run", "--json"))
    assert summary["episodes"] == {"completed": 0, "failed": 1, "cancelled": 0}
    assert "server_error" in json.dumps(shown)


@pytest.mark.parametrize("num_empty", [2, 3])
def test_empty_replies_are_asked_again_at_most_twice(tmp_path: Path, num_empty: int) -> None:
    with serve() as stub:
        good = stub.answer
        seen: list[str] = []

        def answer(call: Any) -> str:
            if call.sandplay("step").startswith("interview") and call.purpose == "opening" and len(seen) < num_empty:
                seen.append(call.sandplay("step"))
                return ""
            return good(call)

        stub.answer = answer
        config = write_config(tmp_path, stub.base_url)
        summary = run_json("generate", config, "cases.limit=1", "--out", tmp_path / "run")
    completed = int(num_empty < 3)
    assert summary["episodes"] == {"completed": completed, "failed": 1 - completed, "cancelled": 0}


def test_values_that_cannot_be_read_are_missing_never_made_up(tmp_path: Path) -> None:
    with serve() as stub:
        good = stub.answer
        stub.answer = lambda call: "I could not say." if call.purpose in ("score", "verdict") else good(call)
        config = write_config(tmp_path, stub.base_url)
        overrides = ["cases.limit=1", "protocol.max_tries=1"]
        summary = run_json("generate", config, *overrides, "--out", tmp_path / "run")
    assert summary["episodes"]["completed"] == 1
    assert summary["missing"]["illness"] == 1
    assert any("score" in name for name in summary["missing"])


def test_a_context_overflow_fails_the_episode_with_its_kind(tmp_path: Path) -> None:
    with serve() as stub:
        stub.faults.append(Fault(status=400, code="context_length_exceeded", message="maximum context length is 10"))
        config = write_config(tmp_path, stub.base_url)
        overrides = ["cases.limit=1", "models.base.structured=false", "protocol.behaviour=false"]
        summary = run_json("generate", config, *overrides, "--out", tmp_path / "run")
        shown = run("show", tmp_path / "run", "--json")
    assert summary["episodes"]["failed"] == 1
    assert "context_overflow" in shown


def test_a_window_too_small_is_refused_before_work_starts(tmp_path: Path, stub: StubProcess) -> None:
    said = refuse(tmp_path, stub.url, "models.base.max_model_len=2048")
    assert "max_model_len" in said and "2048" in said


def test_an_existing_directory_is_refused(tmp_path: Path, stub: StubProcess) -> None:
    config = write_config(tmp_path, stub.url)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    said = run("generate", config, "--out", tmp_path / "run", expect=2)
    assert "resume" in said or "--out" in said
    assert "Unclosed" not in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_second_driver_is_refused_and_told_who_holds_it(tmp_path: Path, stub: StubProcess) -> None:
    from engine.rundir import RunDirectory

    run_json("generate", write_config(tmp_path, stub.url), "cases.limit=1", "--out", tmp_path / "run")
    with RunDirectory.open(tmp_path / "run").lock():
        import os

        assert str(os.getpid()) in run("resume", tmp_path / "run", expect=2)


def test_a_full_disk_stops_the_run_and_resume_goes_on(tmp_path: Path, stub: StubProcess) -> None:
    config = write_config(tmp_path, stub.url)
    arguments = ["generate", str(config), 'cases.source="sampled"', "cases.limit=60", "--out", str(tmp_path / "run")]
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"sys.argv = ['sandplay', *{arguments!r}]; from engine.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "sandplay resume" in done.stderr and "Traceback" not in done.stderr
    assert run_json("resume", tmp_path / "run")["episodes"]["completed"] == 60


def test_changed_identity_is_refused_with_the_difference(tmp_path: Path, stub: StubProcess) -> None:
    run_json("generate", write_config(tmp_path, stub.url), "cases.limit=1", "--out", tmp_path / "run")
    said = run("resume", tmp_path / "run", "protocol.exchanges=7", expect=2)
    assert "protocol.exchanges" in said and "4" in said and "7" in said
