"""Preempted jobs: a driver is told to end, or killed, or lost with its node; another node goes on with the run."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.corpus import Corpus
from engine.journal_local import read_life
from engine.journal_store import Store, StoredStep
from engine.rundir import RunDirectory
from tests.running import ROOT, SANDPLAY, StubProcess, run, run_json, start, stub_process, write_config
from tests.test_resume import journalled, step_of, wait_for_calls

pytestmark = pytest.mark.timeout(180)

NUM_CASES = 80
MAX_LIVE = 20
MAX_IN_FLIGHT = 2 * MAX_LIVE
"""A dialogue has at most two steps under way: treatment and medicine are planned side by side."""
MAX_UNCOMMITTED = 200
"""Answers that may be there and not durable yet when a process is killed, on a busy disk."""
SETTINGS = ['cases.source="sampled"', f"cases.limit={NUM_CASES}", f"scheduler.max_live={MAX_LIVE}"]
RENAMED = "import os, socket, sys; socket.sethostname(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"


def on_host(name: str, *arguments: str | Path) -> dict[str, Any]:
    """Run a command with --json under another host's name, where the kernel lets us."""
    command = [*SANDPLAY, *map(str, arguments), "--json"]
    renamed = ["unshare", "--uts", sys.executable, "-c", RENAMED, name]
    if subprocess.run([*renamed, shutil.which("true") or "true"], capture_output=True, check=False).returncode == 0:
        command = [*renamed, *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return found | {"said": done.stderr}


def end(process: "subprocess.Popen[str]", signals: Sequence[int], grace_s: float = 0.0) -> str:
    """Send signals as a batch system does, with a grace between them; return what the process said."""
    for place, number in enumerate(signals):
        if place:
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
        process.send_signal(number)
    return process.communicate(timeout=30)[1]


def check_whole(run_dir: Path, summary: dict[str, Any]) -> None:
    """Every case has one record, and every step of it one answer."""
    assert summary["episodes"] == {"completed": NUM_CASES, "failed": 0, "cancelled": 0}
    records = list(Corpus.open(RunDirectory.open(run_dir)))
    assert len({record.key for record in records}) == len(records) == NUM_CASES
    assert all(len({step.path for step in record.steps}) == len(record.steps) for record in records)


def asked_twice(stub: StubProcess) -> int:
    asked = Counter(step_of(call) for call in stub.calls())
    assert len(asked) == NUM_CASES * 26
    return sum(asked.values()) - len(asked)


def test_a_journal_in_place_is_one_processes_alone_and_goes_on_elsewhere(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        place = 'journal.locking="exclusive"'
        process = start("generate", config, *SETTINGS, place, "scheduler.seal_every=8", "--out", run_dir)
        wait_for_calls(stub, 500, process)
        wait_for_parts(run_dir, process)
        process.send_signal(signal.SIGSTOP)  # it holds what it holds, and is not done before we have looked
        assert not list((run_dir / "journals").glob("*-shm"))
        with closing(sqlite3.connect(run_dir / "journals" / "000.db", timeout=0.1)) as other:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("SELECT count(*) FROM live").fetchall()
        read_while_it_is_played(run_dir, process.pid)
        assert f"pid {process.pid} on" in run("resume", run_dir, expect=2)
        process.send_signal(signal.SIGCONT)
        wait_for_calls(stub, stub.num_lines + 100, process)
        assert process.poll() is None
        end(process, [signal.SIGKILL])
        before, num_asked = journalled(run_dir), len(stub.calls())
        summary = on_host("elsewhere", "resume", run_dir)
        again = {step_of(call) for call in stub.calls()[num_asked:]}
        num_twice = asked_twice(stub)
    assert "its journal is open to this process alone" in summary["said"]
    assert not again & before and num_twice == num_asked - len(before)
    check_whole(run_dir, summary)


def wait_for_parts(run_dir: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not RunDirectory(run_dir).manifest(0).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def read_while_it_is_played(run_dir: Path, pid: int) -> None:
    """What is sealed is shown; nobody but its driver opens the journal."""
    figures = msgspec.json.decode(run("status", run_dir, "--json"))
    assert (figures["driver_pid"], figures["driver_host"]) == (pid, os.uname().nodename)
    assert figures["episodes"]["completed"] > 0
    (episode, *_) = [record.episode for record in Corpus.open(RunDirectory.open(run_dir))]
    assert episode in run("show", run_dir, episode)
    assert "report.html" in run("report", run_dir)


def test_a_job_that_is_told_to_end_loses_nothing_with_its_node(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (tmp_path / "node-a").mkdir()
    (tmp_path / "node-b").mkdir()
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        local = [f"journal.local_dir={tmp_path}/node-a", "journal.copy_every_s=600"]
        process = start("generate", config, *SETTINGS, *local, "--out", run_dir)
        wait_for_calls(stub, 600, process)
        said = end(process, [signal.SIGTERM])
        assert process.returncode == 143, said
        assert f"journal in {tmp_path}/node-a, copied to the run directory every 600 s" in said
        assert list((tmp_path / "node-a").iterdir()) == []
        (tmp_path / "node-a").rmdir()
        before, num_asked = journalled(run_dir), len(stub.calls())
        assert len(before) >= num_asked - MAX_IN_FLIGHT
        summary = on_host("elsewhere", "resume", run_dir, f"journal.local_dir={tmp_path}/node-b")
        again = {step_of(call) for call in stub.calls()[num_asked:]}
        num_twice = asked_twice(stub)
    assert "is not to be had" not in summary["said"]
    assert not again & before and num_twice <= MAX_IN_FLIGHT
    check_whole(run_dir, summary)
    (tmp_path / "node-b").rmdir()
    # A finished run is looked at on any node, whatever its local directory.
    check_whole(run_dir, run_json("resume", run_dir))


@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGTERM, signal.SIGKILL]])
def test_a_node_that_is_lost_costs_no_more_than_was_said(tmp_path: Path, signals: list[int]) -> None:
    run_dir, node = tmp_path / "run", tmp_path / "node-a"
    node.mkdir()
    (tmp_path / "node-b").mkdir()
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        local = [f"journal.local_dir={node}", "journal.copy_every_s=0.2", "scheduler.seal_every=16"]
        process = start("generate", config, *SETTINGS, *local, "--out", run_dir)
        num_asked_by = calls_at_copies(stub, run_dir, process)
        said = end(process, signals, grace_s=0.02)
        shutil.rmtree(node)
        copied, num_asked = journalled(run_dir), len(stub.calls())
        summary = on_host("elsewhere", "resume", run_dir, f"journal.local_dir={tmp_path}/node-b")
        again = {step_of(call) for call in stub.calls()[num_asked:]}
        num_twice = asked_twice(stub)
    assert "copied to the run directory every 0.2 s" in said
    assert "is not to be had here: going on with the copy from" in summary["said"] or len(signals) == 2
    # The last copy began after the one before it was there: what had been answered by then is in it.
    assert len(copied) >= num_asked_by[-2] - MAX_UNCOMMITTED
    assert not again & copied and num_twice == num_asked - len(copied)
    assert num_asked_by[-2] > 100
    check_whole(run_dir, summary)
    assert list((tmp_path / "node-b").iterdir()) == []


def calls_at_copies(stub: StubProcess, run_dir: Path, process: "subprocess.Popen[str]") -> list[int]:
    """Wait until a third has been asked for; return how many calls there were when each copy was seen first."""
    home, last, seen = run_dir / "journals" / "000.db", 0, [0]
    deadline = time.monotonic() + 60
    while stub.num_lines < NUM_CASES * 26 // 3 or len(seen) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        number = stub.num_lines  # before the look: what was asked by then was not asked later
        inode = home.stat().st_ino if home.exists() else 0
        if inode != last:
            last = inode
            seen.append(number)
        time.sleep(0.002)
    return seen


def test_a_kill_on_a_node_that_lives_repeats_only_what_was_in_flight(tmp_path: Path) -> None:
    run_dir, node = tmp_path / "run", tmp_path / "node"
    node.mkdir()
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        local = [f"journal.local_dir={node}", "journal.copy_every_s=600"]
        process = start("generate", config, *SETTINGS, *local, "--out", run_dir)
        wait_for_calls(stub, 600, process)
        end(process, [signal.SIGKILL])
        life = read_life(RunDirectory.open(run_dir), 0)
        assert life is not None and Path(life.directory).parent == node
        figures = msgspec.json.decode(run("status", run_dir, "--json"))
        assert figures["journals"] == [
            {"index": 0, "host": os.uname().nodename, "directory": life.directory, "copy_every_s": 600.0}
        ]
        assert figures["driver_pid"] is None
        assert f"go on with: sandplay resume {run_dir}" in run("status", run_dir)
        before, num_asked = kept_on_node(Path(life.directory), tmp_path / "seen"), len(stub.calls())
        summary = run_json("resume", run_dir)
        again = {step_of(call) for call in stub.calls()[num_asked:]}
        num_twice = asked_twice(stub)
    assert not again & before
    assert num_twice == num_asked - len(before) > 0
    check_whole(run_dir, summary)
    assert list(node.iterdir()) == []


def kept_on_node(directory: Path, seen: Path) -> set[tuple[str, str]]:
    """Return (episode, path) of every answer that a local journal holds, read from a copy of it."""
    shutil.copytree(directory, seen, ignore=shutil.ignore_patterns("*-shm"))
    store = Store(seen / "000.db", exclusive=True)
    try:
        names = {id_: str(live.key) for id_, live in store.live()}
        found = {(names[id_], path) for id_, steps in store.steps_of(list(names)).items() for path in answered(steps)}
        for _, record in store.ended():
            found |= {(record.episode, step.path) for step in record.steps if step.reply is not None}
        return found
    finally:
        store.close()


def answered(steps: Mapping[str, StoredStep]) -> list[str]:
    return [path for path, step in steps.items() if step.reply is not None]


def test_a_local_directory_that_will_not_do_leaves_no_run_behind(tmp_path: Path) -> None:
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        said = run("generate", config, "journal.local_dir=/nowhere/at/all", "--out", tmp_path / "run", expect=2)
    assert "journal.local_dir must be a directory that can be written, got /nowhere/at/all: make it first" in said
    assert not (tmp_path / "run").exists()
