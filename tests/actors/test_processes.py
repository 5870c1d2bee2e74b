import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from actors.processes import ProcessRecord, ProcessTable, describe_tree, end_processes, find_process
from tests.running import runs

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


class Family:
    """A real parent process with a real child."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
        assert self.parent.stdout is not None
        self.child_pid = int(self.parent.stdout.readline())

    @property
    def is_gone(self) -> bool:
        return self.parent.poll() is not None and not runs(self.child_pid)

    def close(self) -> None:
        self.parent.kill()
        self.parent.wait()
        assert self.parent.stdout is not None
        self.parent.stdout.close()
        if runs(self.child_pid):
            os.kill(self.child_pid, signal.SIGKILL)


@pytest.fixture
def family() -> Iterator[Family]:
    made = Family()
    yield made
    made.close()


def test_a_tree_is_described_with_its_children(family: Family) -> None:
    records = describe_tree("base/0", family.parent.pid)
    assert [record.pid for record in records] == [family.parent.pid, family.child_pid]
    assert all(record.replica == "base/0" and "python" in record.name for record in records)


def test_ending_one_ends_its_children(family: Family) -> None:
    assert end_processes(describe_tree("r", family.parent.pid)[:1]) == 2
    assert family.is_gone


def test_a_stopped_tree_is_ended_too(family: Family) -> None:
    records = describe_tree("r", family.parent.pid)
    family.parent.send_signal(signal.SIGSTOP)
    os.kill(family.child_pid, signal.SIGSTOP)
    end_processes(records)
    assert family.is_gone


def test_shared_memory_of_a_killed_process_is_removed() -> None:
    code = (
        "from multiprocessing.shared_memory import SharedMemory\n"
        "import time\nheld = SharedMemory(create=True, size=4096)\nprint(held.name, flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        segment = Path("/dev/shm") / holder.stdout.readline().strip().lstrip("/")
        assert segment.exists()
        end_processes(describe_tree("r", holder.pid))
    assert not segment.exists()


def test_an_orphan_is_ended_by_its_own_record(family: Family, tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "processes.json")
    table.put("base/0", describe_tree("base/0", family.parent.pid))
    family.parent.kill()
    family.parent.wait()
    assert runs(family.child_pid)
    assert table.end("base/0") == 1
    assert not runs(family.child_pid)


@pytest.mark.parametrize("change", [{"start_time": 1.0}, {"name": "other"}, {"host": "elsewhere"}])
def test_a_process_that_only_shares_the_pid_is_left_alone(family: Family, change: dict[str, object]) -> None:
    record = msgspec.structs.replace(describe_tree("r", family.parent.pid)[0], **change)
    assert find_process(record) is None
    assert end_processes([record]) == 0
    assert family.parent.poll() is None


def test_the_caller_never_ends_itself() -> None:
    assert end_processes(describe_tree("r", os.getpid())[:1]) == 0


def test_a_new_table_ends_what_the_old_one_recorded(family: Family, tmp_path: Path) -> None:
    path = tmp_path / "processes.json"
    ProcessTable(path).put("base/0", describe_tree("base/0", family.parent.pid))
    table = ProcessTable(path)
    assert [record.pid for record in table.records] == [family.parent.pid, family.child_pid]
    assert table.end_left_overs() == 2
    assert family.is_gone
    assert table.records == () and ProcessTable(path).records == ()


def test_records_of_another_host_are_kept(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "processes.json")
    far = ProcessRecord(os.getpid(), 1.0, "python", "base/1", "another-host")
    table.put("base/1", [far])
    assert table.end("base/1") == 0
    assert table.of("base/1") == (far,)


def test_the_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "run" / "processes.json"
    table = ProcessTable(path)
    table.put("a", [ProcessRecord(1, 1.0, "x", "a")])
    table.put("b", [ProcessRecord(2, 1.0, "x", "b")])
    table.put("a", [])
    assert path.stat().st_mode & 0o777 == 0o600
    assert [child.name for child in path.parent.iterdir()] == ["processes.json"]
    assert ProcessTable(path).records == (ProcessRecord(2, 1.0, "x", "b"),)


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "processes.json"
    path.write_text("[{")
    with pytest.raises(msgspec.DecodeError):
        ProcessTable(path)
