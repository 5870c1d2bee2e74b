"""The page of a run: what it says of which runs, how much it reads, and that no text of anybody is more than text."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w

from engine.cli import status
from engine.corpus import Corpus
from engine.corpus_parts import Extent, name_part
from engine.egress import Outlet
from engine.egress_log import note_egress
from engine.protocol import ProtocolSpec, Section, Sight
from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, ErrorRecord, NodeRecord, StepRecord
from engine.report.failures import read_failures
from engine.report.writing import write_report
from engine.rundir import RunDirectory
from engine.show import show_command
from engine.steps import Protocol as Play
from engine.steps import Reply, Usage
from engine.transcript import clean
from eval.quality.command import quality
from eval.quality.command import report as report_quality
from eval.quality.figures import CorpusFigures
from tests.engine.kept import put_part
from tests.pages import PAYLOADS, PageReader, read_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def session() -> Play[None]:
    yield from ()


def make_spec(**more: Any) -> ProtocolSpec:
    return ProtocolSpec(name="talk", session=session, roles=("patient", "therapist"), **more)


def make_step(role: str, words: str, **more: Any) -> StepRecord:
    reply = Reply(words, usage=Usage(100, 10, 40), latency_s=0.5, replica="base/0", weights="w1")
    return StepRecord(
        path=f"1/{role}", kind="generate", hash="0", role=role, purpose="talk", view=0, reply=reply, **more
    )


def make_record(number: int, *steps: StepRecord, **more: Any) -> EpisodeRecord:
    outcome = '{"n": 1, "turns": 1, "ended_by": "therapist"}'
    given = {"status": "completed", "models": {"patient": "small"}, "weights": ("w1",), "outcome": outcome}
    return EpisodeRecord(
        key=EpisodeKey(f"case{number}"),
        seed=0,
        protocol="talk",
        nodes=(NodeRecord(-1, "system", "You are a patient."),),
        steps=steps or (make_step("patient", f"words of {number}"), make_step("therapist", "And then?")),
        started_at=1e9 + number,
        ended_at=1e9 + number + 2,
        **{**given, **more},
    )


def make_run(
    path: Path, *records: EpisodeRecord, num_cases: int | None = None, per_part: int = 50, **table: Any
) -> RunDirectory:
    """A run directory with sealed episodes and ten lines of metrics."""
    named = {"name": "demo", "protocol": {"name": "counseling", "max_tokens": 64}, "cases": {"repeats": 1}, **table}
    lines = b"{}\n" * (len(records) if num_cases is None else num_cases)
    run = RunDirectory.create(path / "run", {"config.toml": tomli_w.dumps(named).encode(), "inputs/cases.jsonl": lines})
    extent = Extent()
    for start in range(0, len(records), per_part):
        chunk = records[start : start + per_part]
        placed = [msgspec.structs.replace(one, seq=start + at) for at, one in enumerate(chunk)]
        extent = name_part(run, extent, put_part(run, extent, placed))
    gauges = [
        {
            **{"time": 1e9 + 5 * at, "run/elapsed_s": 5.0 * at, "tokens/completion_per_s": 100.0 * at},
            **{"episodes/live": 4, "phases/live/session": 4, "episodes/ended/completed": at},
        }
        for at in range(1, 11)
    ]
    run.metrics.write_text("".join(json.dumps(one) + "\n" for one in gauges))
    return run


def written(run: RunDirectory, spec: ProtocolSpec | None = None, **more: Any) -> PageReader:
    return read_page(write_report(run, spec, **more).read_text("utf-8"))


def pairs(read: PageReader) -> dict[str, str]:
    """Names and values of the two tables at the top: what heads a row, and the cell behind it."""
    return dict(zip(read.texts["th"][:15], read.texts["td"], strict=False))


def test_the_page_says_what_the_run_was(tmp_path: Path) -> None:
    run = make_run(
        *(tmp_path, make_record(0), make_record(1)),
        *(make_record(2, status="failed", error=ErrorRecord("timeout", "too slow", "1/patient")),),
        models={"base": {"model": "small"}, "other": {"model": "large"}},
        roles={"patient": "base", "therapist": "other"},
    )
    read = written(run, make_spec(facts=lambda outcome: {"n": outcome["n"]}))
    assert read.texts["h1"] == ["Run demo"]
    found = pairs(read)
    assert found["state"] == "finished"
    assert found["played"] == "2001-09-09 01:46 to 2001-09-09 01:47 UTC, 50 s of playing"
    assert (found["protocol"], found["rules"]) == ("counseling", "max_tokens 64")
    assert (found["models"], found["weights"]) == ("patient: small, therapist: large", "w1")
    assert found["episodes"] == "3 of 3 ended: 2 completed, 1 failed"
    assert found["tokens"] == "600 in, 40 % of them from prefix caches; 60 out"
    assert found["speed"] == "0.06 episodes/s, 0.12 calls/s, 1.2 tokens/s out, over all time of playing"
    assert (found["turns per episode"], found["seconds per episode"]) == ("2 (2 to 2)", "2 (2 to 2)")
    assert "All 3 episodes that ended were read." in " ".join(read.texts["p"])
    assert ["timeout", "1", "too slow"] == read.texts["td"][read.texts["td"].index("timeout") :][:3]
    titles = read.texts["figcaption"]
    assert {"Tokens out per second", "Live dialogues", "Time of dialogues by phase", "Tokens out by role"} <= set(
        titles
    )
    assert read.texts["summary"].count("case2.0 (failed), 2 turns") == 1
    assert "words of 0" in read.texts["p"] and "words of 2" in read.texts["p"]


def test_the_page_is_private_and_whole(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = write_report(make_run(tmp_path, make_record(0)))
    finally:
        os.umask(before)
    assert path.name == "report.html" and path.stat().st_mode & 0o777 == 0o600


def test_the_same_run_has_the_same_page_but_for_the_time_of_writing(tmp_path: Path) -> None:
    run = make_run(tmp_path, *(make_record(at) for at in range(30)))
    one, other = (re.sub(r"written by.*?</tr>", "", write_report(run).read_text()) for _ in range(2))
    assert one == other


def test_a_run_that_goes_on_or_is_held_says_so_and_is_only_read(tmp_path: Path) -> None:
    run = make_run(tmp_path, make_record(0), num_cases=5)
    before = {path.name: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    found = pairs(written(run))
    assert found["state"] == f"not finished; go on with: sandplay resume {run.path}"
    assert found["episodes"] == "1 of 5 ended: 1 completed"
    after = {path.name: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert {name: data for name, data in after.items() if name in before} == before
    assert after.keys() - before.keys() <= {"report.html", "gate.lock", "driver.lock"}
    with run.lock():
        assert pairs(written(run))["state"].startswith(f"held by process {os.getpid()} on ")


def test_a_run_without_episodes_or_metrics_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_cases=4)
    run.metrics.unlink()
    found = written(run)
    assert pairs(found)["episodes"] == "0 of 4 ended: none"
    assert "Nothing is drawn over time: metrics.jsonl has 0 lines, which takes 3." in found.texts["p"]
    assert "summary" not in found.texts


def test_a_large_run_is_read_in_part_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [make_record(at, **({"status": "failed"} if at % 100 == 7 else {})) for at in range(600)]
    run = make_run(tmp_path, *records, per_part=60)
    read = written(run, size=100)
    said = " ".join(read.texts["p"])
    assert "distributions come from 100 of 600 episodes, drawn at random" in said
    assert pairs(read)["episodes"] == "600 of 600 ended: 594 completed, 6 failed"
    # Failures are counted, not drawn: all six, and two to be read.
    assert read.texts["td"][read.texts["td"].index("unknown") + 1] == "6"
    assert sum("(failed)" in one for one in read.texts["summary"]) == 2
    assert sum("(completed)" in one for one in read.texts["summary"]) == 5
    assert "All 600 episodes" in " ".join(written(run, size=0).texts["p"])
    monkeypatch.setattr("engine.report.failures.MAX_READ", 4)
    assert "The first 4 of 6 failed episodes." in written(run, size=100).texts["p"]


def test_failed_episodes_are_read_whole_whatever_their_journal(tmp_path: Path) -> None:
    failed = [make_record(at, status="failed", error=ErrorRecord("timeout", f"no {at}")) for at in range(3)]
    found = read_failures(Corpus.open(make_run(tmp_path, make_record(9), *failed)))
    assert (found.num, found.kinds, found.examples) == (3, {"timeout": 3}, {"timeout": "no 0"})
    assert len(found.records) == 2 and all(record.steps and record.status == "failed" for record in found.records)


def test_the_protocols_own_report_and_histograms_are_shown(tmp_path: Path) -> None:
    spec = make_spec(
        histograms=lambda outcome: {"loud": [outcome["n"], 3.5], "same": [1]},
        sections=lambda record: [Section(title="Of one", columns=("a",), rows=(("b", "more"),), note="a note")],
    )
    result = Section(title="Score", columns=("task", "right"), rows=(("MedQA", "30 %"),))
    read = written(make_run(tmp_path, make_record(0)), spec, sections=[result])
    assert "Result" in read.texts["h2"] and {"Score", "Of one"} <= set(read.texts["h3"])
    assert {"MedQA", "30 %", "b", "more"} <= set(read.texts["td"]) and "a note" in read.texts["p"]
    assert "loud" in read.texts["figcaption"] and "same" not in read.texts["figcaption"]


def hostile_run(path: Path) -> tuple[RunDirectory, ProtocolSpec]:
    """A run in which everything that is text is a payload, a different one for each."""
    records = []
    for at, payload in enumerate(PAYLOADS):
        attempts = (AttemptRecord(0, payload, payload),)
        steps = (make_step("patient", payload, attempts=attempts), make_step(payload, f"{payload} again"))
        models = {"patient": payload, payload: payload}
        record = make_record(at, *steps, models=models, weights=(payload,), outcome=json.dumps({"n": at, "t": payload}))
        error = {"status": "failed", "error": ErrorRecord(payload, payload, payload)} if at % 2 else {}
        records.append(msgspec.structs.replace(record, key=EpisodeKey(payload), protocol=payload, **error))
    hooks = make_spec(
        facts=lambda outcome: {outcome["t"]: outcome["n"], "n": outcome["n"]},
        missing=lambda outcome: {outcome["t"]: 1},
        histograms=lambda outcome: {outcome["t"]: [1, 2]},
        sections=lambda record: [
            Section(
                title=str(record.key), columns=(str(record.key),), rows=((str(record.key), "x"),), note=str(record.key)
            )
        ],
    )
    names = [payload.encode("utf-8", "replace").decode().replace("\x00", "") for payload in PAYLOADS]
    pool = {name: {"model": name} for name in names}
    run = make_run(
        *(path, *records),
        name="".join(names),
        protocol={name: name for name in ("name", *names)},
        models=pool,
        roles={name: name for name in names},
    )
    gauges = {f"phases/live/{name}": 3 for name in names} | {"tokens/completion_per_s": 1}
    run.metrics.write_text(
        "".join(json.dumps({"time": at, "run/elapsed_s": at, **gauges}) + "\n" for at in range(1, 9)), "utf-8"
    )
    return run, hooks


def test_no_text_of_a_run_is_more_than_text(tmp_path: Path) -> None:
    run, spec = hostile_run(tmp_path)
    section = Section(title=PAYLOADS[0], columns=PAYLOADS, rows=(PAYLOADS,), note=PAYLOADS[1])
    page = write_report(run, spec, sections=[section], state=PAYLOADS[2]).read_text("utf-8")
    read = read_page(page)
    assert not any(
        ord(character) < 32 and character != "\n" or character in "\x7f\x9b\u202e\u2028" for character in page
    )
    assert read.texts["h1"] and len(read.texts["h1"]) == 1
    # Every payload stands in the protocol's table as it was cleaned.
    assert {clean(payload) for payload in PAYLOADS} <= set(read.texts["td"])
    shown = {record.key.case for record in Corpus.open(run) if clean(record.episode) in " ".join(read.texts["summary"])}
    assert len(shown) >= 7
    for payload in shown:
        spoken = {clean(payload).strip(), clean(f"{payload} again").strip()}
        assert spoken <= set(read.texts["p"])


@pytest.mark.parametrize("at", range(len(PAYLOADS)))
def test_no_text_of_a_run_reaches_a_terminal_as_more_than_text(
    at: int, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path_factory.getbasetemp() / "hostile"
    run = RunDirectory.open(place / "run") if (place / "run").exists() else hostile_run(place)[0]
    record = next(one for one in Corpus.open(run) if one.seq == at)
    show_command(run.path, record.episode)
    show_command(run.path, record.episode, excerpt_turns=2)
    if not at:
        show_command(run.path, None)
        status(run.path)
        report_quality(measured(run), as_json=True)
        report_quality(measured(run))
    said = capsys.readouterr().out
    assert said and not any(ord(one) < 32 and one != "\n" or one in "\x7f\x9b\u202e\u2028\x85" for one in said)


def measured(run: RunDirectory) -> list[CorpusFigures]:
    return asyncio.run(quality([run.path]))


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium to look with")
def test_a_browser_runs_nothing_and_draws_the_page(tmp_path: Path) -> None:
    run, spec = hostile_run(tmp_path)
    path = write_report(run, spec)
    browser = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    dumped = subprocess.run([*browser, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=100)
    assert "<title>Run " in dumped.stdout and "<title>hacked" not in dumped.stdout
    picture = tmp_path / "page.png"
    subprocess.run([*browser, f"--screenshot={picture}", path.as_uri()], capture_output=True, timeout=100, check=True)
    assert picture.read_bytes()[:4] == b"\x89PNG" and picture.stat().st_size > 10_000


def test_the_page_says_where_texts_went(tmp_path: Path) -> None:
    sight = Sight(hidden=False)
    one = Outlet(who="role patient", model="<b>", host="models.example", is_inside=False, sees=sight)
    run = make_run(tmp_path, make_record(0))
    assert "Where texts went" not in write_report(run, make_spec()).read_text("utf-8")
    note_egress(run.path, "allow", [one], 1e9)
    found = read_page(write_report(run, make_spec()).read_text("utf-8")).texts
    assert any("may have gone to models.example" in said for said in found["p"])
    row = found["td"].index("role patient")
    assert found["td"][row : row + 5] == ["role patient", "<b>", "models.example", "OUTSIDE", "transcript"]
