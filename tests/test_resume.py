"""Kill it at any moment: every case exactly once, journalled replies never asked for again."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from engine.corpus import Corpus
from engine.journal import Journal
from engine.rundir import RunDirectory
from tests.running import StubProcess, header, run, run_json, start, stub_process, write_config

NUM_CASES = 60
KILLS = 10


def journalled(directory: Path) -> set[tuple[str, str]]:
    """Return (episode, path) of every answer the journal and the sealed parts hold; the driver is dead."""
    found: set[tuple[str, str]] = set()
    for record in Corpus.open(RunDirectory.open(directory)):
        found |= {(record.episode, step.path) for step in record.steps if step.reply is not None}
    rundir = RunDirectory.open(directory)
    with rundir.lock():
        journal = Journal.open(rundir)
        for live in journal.live():
            stored = journal.stored_of([str(live.key)])[str(live.key)]
            found |= {(str(live.key), path) for path, step in stored.items() if step.reply is not None}
        asyncio.run(journal.close())
    return found


def wait_for_calls(stub: StubProcess, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while stub.num_lines < number and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def step_of(call: dict[str, object]) -> tuple[str, str]:
    return header(call, "episode"), header(call, "step")


def test_ten_kills_lose_nothing_and_repeat_only_what_was_in_flight(tmp_path: Path) -> None:
    rng = random.Random(11)
    run_dir = tmp_path / "run"
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        overrides = [
            'cases.source="sampled"',
            f"cases.limit={NUM_CASES}",
            "scheduler.max_live=20",
            "scheduler.seal_every=7",
        ]
        num_kills = num_repeated = 0
        for _ in range(KILLS):
            seen = len(stub.calls())
            arguments = ["resume", run_dir] if run_dir.exists() else ["generate", config, *overrides, "--out", run_dir]
            process = start(*arguments)
            wait_for_calls(stub, stub.num_lines + rng.randrange(1, 140), process)
            process.kill()
            process.communicate()
            num_kills += 1
            before, calls = journalled(run_dir), stub.calls()
            del calls[:seen]
            lost = Counter(step_of(call) for call in calls)
            num_repeated += sum(step not in before for step in lost)
            asked_again = {step_of(call) for call in stub.calls()[:seen]} & set(lost)
            assert not asked_again & answered_before(stub, seen, run_dir, before)
        summary = run_json("resume", run_dir)
        per_step = Counter(step_of(call) for call in stub.calls())
    assert num_kills == KILLS
    assert summary["episodes"] == {"completed": NUM_CASES, "failed": 0, "cancelled": 0}
    records = list(Corpus.open(RunDirectory.open(run_dir)))
    assert sorted(record.key.case for record in records) == sorted({record.key.case for record in records})
    assert len(records) == NUM_CASES
    assert sum(per_step.values()) - len(per_step) <= num_repeated


def answered_before(stub: StubProcess, seen: int, run_dir: Path, before: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the steps whose answers were journalled already when this life of the driver began."""
    path = run_dir.parent / "journalled.json"
    past = {tuple(step) for step in json.loads(path.read_text())} if path.exists() else set()
    path.write_text(json.dumps(sorted(before)))
    return past


def kill_midway(stub: StubProcess, config: Path, run_dir: Path) -> None:
    arguments = ['cases.source="sampled"', "cases.limit=20", "scheduler.max_live=8"]
    process = start("generate", config, *arguments, "--out", run_dir)
    wait_for_calls(stub, 150, process)
    process.kill()
    process.communicate()


def test_a_torn_journal_loses_only_its_tail(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with stub_process(tmp_path) as stub:
        kill_midway(stub, write_config(tmp_path, stub.url), run_dir)
        wal = run_dir / "journals" / "000.db-wal"
        size = wal.stat().st_size
        assert size > 5000
        os.truncate(wal, size - 3000)
        summary = run_json("resume", run_dir)
    assert summary["episodes"] == {"completed": 20, "failed": 0, "cancelled": 0}
    records = list(Corpus.open(RunDirectory.open(run_dir)))
    assert len({record.key for record in records}) == len(records) == 20


def test_a_locked_journal_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with stub_process(tmp_path) as stub:
        kill_midway(stub, write_config(tmp_path, stub.url), run_dir)
        before, asked = journalled(run_dir), len(stub.calls())
        with closing(sqlite3.connect(run_dir / "journals" / "000.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            said = run("resume", run_dir, expect=1)
        assert "000.db" in said and "lock" in said
        assert run_json("resume", run_dir)["episodes"]["completed"] == 20
        again = {step_of(call) for call in stub.calls()[asked:]}
    assert not again & before


def test_resuming_a_finished_run_asks_nothing(tmp_path: Path) -> None:
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        first = run_json("generate", config, "cases.limit=3", "--out", tmp_path / "run")
        asked = len(stub.calls())
        again = run_json("resume", tmp_path / "run")
        assert len(stub.calls()) == asked
    assert again["episodes"] == first["episodes"]
    run("resume", tmp_path / "run")


def test_an_interrupt_exits_quickly_with_the_resume_command(tmp_path: Path) -> None:
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        overrides = ['cases.source="sampled"', "cases.limit=400", "scheduler.max_live=20"]
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            run_dir = tmp_path / f"run{code}"
            process = start("generate", config, *overrides, "--out", run_dir)
            wait_for_calls(stub, stub.num_lines + 100, process)
            begun = time.monotonic()
            process.send_signal(number)
            _, err = process.communicate(timeout=20)
            assert process.returncode == code, err
            assert time.monotonic() - begun < 5
            assert f"sandplay resume {run_dir}" in err and "Unclosed" not in err
            status = json.loads(run("status", run_dir, "--json"))
            assert sum(status["episodes"].values()) < 400


def test_a_second_signal_exits_at_once_and_resume_goes_on(tmp_path: Path) -> None:
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        process = start("generate", config, 'cases.source="sampled"', "cases.limit=60", "--out", tmp_path / "run")
        wait_for_calls(stub, 100, process)
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 130
        assert run_json("resume", tmp_path / "run")["episodes"]["completed"] == 60


def test_failed_episodes_are_played_again_only_when_asked(tmp_path: Path) -> None:
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        bad = 'models.base.base_url="' + stub.url + '/nowhere"'
        first = run_json("generate", config, bad, "cases.limit=2", "--out", tmp_path / "run")
        assert first["episodes"] == {"completed": 0, "failed": 2, "cancelled": 0}
        good = f'models.base.base_url="{stub.url}"'
        assert run_json("resume", tmp_path / "run", good)["episodes"]["failed"] == 2
        again = run_json("resume", tmp_path / "run", good, "--retry-failed")
    assert again["episodes"] == {"completed": 2, "failed": 0, "cancelled": 0}
