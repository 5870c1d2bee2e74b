"""Which processes a run has started, kept in its directory so that none outlives it.

A process is named by pid, start time and executable: a pid alone may belong to somebody else by now. Ending one ends
its descendants too, with SIGKILL, which also works on a stopped process, and removes the shared memory they held.
Records of other hosts are kept but never acted upon here. The table knows nothing of Ray or vLLM.
"""

import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import psutil

_SAME_START_S = 0.05  # psutil reads start times from clock ticks: equal ones may differ in the last digits
_GONE_WITHIN_S = 10.0
_SEGMENT = re.compile(r"(/dev/shm/(?:psm_|sem\.loky-)[\w-]+)$", re.MULTILINE)


class ProcessRecord(msgspec.Struct, frozen=True):
    """One process: `start_time` is Unix time, `name` its executable, `replica` what it belongs to."""

    pid: int
    start_time: float
    name: str
    replica: str
    host: str = ""


class ProcessTable:
    """The records of one run, in memory and in `path` (JSON, replaced atomically). Safe to use from several threads.

    Raises `msgspec.DecodeError` when the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()  # a signal handler may end processes at any point
        self._records: dict[str, tuple[ProcessRecord, ...]] = {}
        if path.is_file():
            for record in msgspec.json.decode(path.read_bytes(), type=list[ProcessRecord]):
                self._records[record.replica] = (*self._records.get(record.replica, ()), record)

    @property
    def records(self) -> tuple[ProcessRecord, ...]:
        """All records, in the order their replicas were first put."""
        with self._lock:
            return tuple(record for group in self._records.values() for record in group)

    def of(self, replica: str) -> tuple[ProcessRecord, ...]:
        """Return the records of one replica."""
        with self._lock:
            return self._records.get(replica, ())

    def put(self, replica: str, records: Sequence[ProcessRecord]) -> None:
        """Replace what is known of one replica; no records forgets it."""
        with self._lock:
            if self._records.get(replica, ()) == tuple(records):
                return
            if records:
                self._records[replica] = tuple(records)
            else:
                self._records.pop(replica, None)
            self._write()

    def end(self, replica: str) -> int:
        """End the processes of one replica and forget it; return how many were still alive."""
        with self._lock:
            records = self._records.get(replica, ())
        num_ended = end_processes(records)
        self.put(replica, [record for record in records if not _is_here(record)])
        return num_ended

    def end_left_overs(self) -> int:
        """End what a former driver of this run left alive; return how many there were."""
        return sum(self.end(replica) for replica in list(self._records))

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        records = [record for group in self._records.values() for record in group]
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".processes-")  # mode 0600
        with os.fdopen(handle, "wb") as stream:
            stream.write(msgspec.json.encode(records))
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(self.path)


def describe_tree(replica: str, pid: int | None = None) -> list[ProcessRecord]:
    """Return records of a process (this one by default) and all its descendants, parents first."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    return [record for process in family if (record := _describe(process, replica)) is not None]


def end_processes(records: Iterable[ProcessRecord]) -> int:
    """SIGKILL the recorded processes that still run on this host, and their descendants; return their number.

    Returns once they are gone, or after some seconds when the system keeps one. A record of the calling process is
    passed over, a descendant's is not.
    """
    doomed: dict[int, psutil.Process] = {}
    for record in records:
        process = find_process(record)
        if process is not None and process.pid != os.getpid():
            doomed |= {member.pid: member for member in _family(process)}
    doomed.pop(os.getpid(), None)
    segments = {segment for pid in doomed for segment in _shared_segments(pid)}
    for process in doomed.values():
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(list(doomed.values()), timeout=_GONE_WITHIN_S)
    for segment in segments:
        segment.unlink(missing_ok=True)
    return len(doomed)


def _shared_segments(pid: int) -> set[Path]:
    # Python's shared memory is unlinked by its owner, which a killed one cannot: hundreds of megabytes each.
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return {Path(name) for name in _SEGMENT.findall(maps)}


def find_process(record: ProcessRecord) -> psutil.Process | None:
    """Return the running process that a record names, None when it is gone or on another host."""
    if not _is_here(record):
        return None
    try:
        process = psutil.Process(record.pid)
        is_same = abs(process.create_time() - record.start_time) < _SAME_START_S
        if is_same and _executable(process) == record.name and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except psutil.Error:
        return None
    return None


def _is_here(record: ProcessRecord) -> bool:
    return record.host in ("", socket.gethostname())


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _describe(process: psutil.Process, replica: str) -> ProcessRecord | None:
    try:
        name = _executable(process)
        return ProcessRecord(process.pid, process.create_time(), name, replica, socket.gethostname())
    except psutil.Error:
        return None


def _executable(process: psutil.Process) -> str:
    # Titles change while a process runs (vLLM and Ray set them), executables do not.
    return Path(process.exe()).name
