"""Run directories: creation leaves all or nothing, modes, one driver at a time, readers in between."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.errors import InputError, RunHeld
from engine.rundir import RunDirectory

HOLD = """
import sys
from engine.rundir import RunDirectory
with RunDirectory.open(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_create_then_open(tmp_path: Path) -> None:
    made = RunDirectory.create(tmp_path / "a" / "run", {"config.toml": b"x = 1", "inputs/case.json": b"{}"})
    found = RunDirectory.open(made.path)
    assert found.config.read_bytes() == b"x = 1"
    assert (found.inputs / "case.json").read_bytes() == b"{}"
    assert sorted(os.listdir(made.path)) == ["config.toml", "episodes", "inputs", "journals"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_everything_is_private(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        run = RunDirectory.create(tmp_path / "run", {"config.toml": b""})
        with run.lock():
            pass
    finally:
        os.umask(before)
    for path in (run.path, run.journals, run.episodes, run.inputs):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (run.config, run.driver_lock):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_used_directory_is_refused_with_two_ways_out(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {"config.toml": b""})
    with pytest.raises(InputError, match=r"sandplay resume .*run.* or choose another --out"):
        RunDirectory.create(run.path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="got the file"):
        RunDirectory.create(tmp_path / "file")


def test_an_empty_directory_and_what_a_killed_create_left_are_taken(tmp_path: Path) -> None:
    (tmp_path / "run" / "journals").mkdir(parents=True)
    assert RunDirectory.create(tmp_path / "run").episodes.is_dir()


def test_a_failed_create_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be writable"):
        RunDirectory.create(tmp_path / "a" / "run", {"config.toml": b"", "nowhere/x": b""})
    assert os.listdir(tmp_path) == []


def test_open_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks journals and episodes"):
        RunDirectory.open(tmp_path)
    with pytest.raises(InputError, match="is no directory"):
        RunDirectory.open(tmp_path / "none")


def test_a_second_driver_is_told_who_holds_it_and_a_killed_one_is_no_obstacle(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"held\n"
        with pytest.raises(RunHeld, match=rf"pid {driver.pid} on \S+ since \d{{4}}"), run.lock():
            pass
        with run.read_lock() as is_free:
            assert not is_free
        driver.send_signal(signal.SIGKILL)
    stale = run.holder()
    assert stale is not None
    assert stale.pid == driver.pid
    with run.lock():
        holder = run.holder()
        assert holder is not None
        assert holder.pid == os.getpid()
    assert run.holder() is None


def test_a_driver_whose_lock_was_lost_leaves_the_name_of_the_other(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    first = run.lock()
    with run.lock():
        run.driver_lock.rename(tmp_path / "lost")
        first.__enter__()
        name = run.name_in_lock()
    assert name and run.name_in_lock() == name
    first.__exit__(None, None, None)
    assert run.name_in_lock() == b""


def test_a_driver_waits_for_a_reader_instead_of_being_refused(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    events: list[str] = []

    def drive() -> None:
        with run.lock():
            events.append("driver")

    with run.read_lock() as is_free:
        assert is_free
        thread = threading.Thread(target=drive)
        thread.start()
        events.append("reader")
    thread.join()
    assert events == ["reader", "driver"]


def test_an_error_while_reading_passes_through(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(InputError, match="mine"), run.read_lock():
        raise InputError("mine")
