"""The sample log: samples in the order in which they came to be, one file that grows, read by any number of workers.

Lines of JSON. A sample's place among the samples of the file, from 0, is its ordinal; order and shares of workers are
functions of ordinals alone. After each batch stands a mark: how far the corpus was read, and what was dropped.
Invariants: what stands before a mark never changes; what stands behind the last one is cut off when a writer opens the
file; the last mark of a finished log is closed. Nothing is lost with the file: it can be made again from the corpus.
"""

import os
import time
from collections.abc import Iterable, Iterator
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from engine.errors import JournalError
from engine.staging import encoded
from training.formats import Row

POLL_S: Final = 0.01
"""How often a reader that waits looks whether the file has grown."""

_MARK: Final = b'{"mark":'
_CHUNK: Final = 1 << 20


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far a log is: `seqs` is the last seq read of each journal, `num_samples` all samples before the mark."""

    num_samples: int = 0
    seqs: dict[str, int] = {}
    kept: dict[str, int] = {}
    dropped: dict[str, int] = {}
    is_closed: bool = False


class _Line(msgspec.Struct):
    mark: Mark


class SampleWriter:
    """Appends to a log; one at a time. `open` is the way to get one."""

    def __init__(self, path: Path, file: RawIOBase, mark: Mark) -> None:
        self.path = path
        self.mark = mark
        self._file = file

    @classmethod
    def open(cls, path: Path) -> "SampleWriter":
        """Begin a log, or go on with one behind its last mark. Raises JournalError for a file that is no log."""
        if not path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        mark, end = _last_mark(path)
        file = path.open("r+b", buffering=0)
        file.truncate(end)
        file.seek(end)
        return cls(path, file, mark)

    def append(self, rows: Iterable[Row], mark: Mark) -> None:
        """Add a batch and its mark in one write; readers see both or neither. `num_samples` is set here."""
        lines = [encoded(row) for row in rows]
        self.mark = msgspec.structs.replace(mark, num_samples=self.mark.num_samples + len(lines))
        lines.append(_MARK + msgspec.json.encode(self.mark) + b"}\n")
        data = memoryview(b"".join(lines))
        while data:
            data = data[self._file.write(data) or 0 :]

    def close(self, *, is_finished: bool) -> None:
        """Make the log durable; with `is_finished` say that nothing comes any more. Safe to call twice."""
        if self._file.closed:
            return
        if is_finished and not self.mark.is_closed:
            self.append((), msgspec.structs.replace(self.mark, is_closed=True))
        os.fsync(self._file.fileno())
        self._file.close()


class SampleReader:
    """Reads a log that may still grow. Memory: eight bytes a sample."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = Mark()
        self._file: BinaryIO | None = None
        self._offsets: list[int] = []
        self._pending: list[int] = []
        self._at = 0
        self._rest = b""

    def __len__(self) -> int:
        return self.mark.num_samples

    def refresh(self) -> Mark:
        """Look how far the log is."""
        while (data := self._read_on()) and self._take(data):
            pass
        return self.mark

    def wait(self, number: int, timeout_s: float | None = None) -> Mark:
        """Return once there are so many samples, or the log is closed; sleeps in between.

        Raises TimeoutError when neither happens in time.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while self.refresh().num_samples < number and not self.mark.is_closed:
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{self.path} must reach {number} samples, got {len(self)} in {timeout_s:g} s")
            time.sleep(POLL_S)
        return self.mark

    def row(self, ordinal: int) -> Row:
        """Return a sample by its ordinal. Raises IndexError when there is none yet."""
        if not 0 <= ordinal < len(self):
            raise IndexError(ordinal)
        assert self._file is not None
        self._file.seek(self._offsets[ordinal])
        found: Row = msgspec.json.decode(self._file.readline())
        return found

    def rows(self) -> Iterator[Row]:
        """Yield all samples there are now."""
        for ordinal in range(len(self)):
            yield self.row(ordinal)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_on(self) -> bytes:
        if self._file is None:
            if not self.path.exists():
                return b""
            self._file = self.path.open("rb")
        self._file.seek(self._at)
        return self._file.read(_CHUNK)

    def _take(self, data: bytes) -> bool:
        """Take in what was read on; lines count once their mark is there."""
        start = self._at - len(self._rest)
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(_MARK):
                self._offsets += self._pending
                self._pending = []
                self.mark = _decoded(line, self.path).mark
            else:
                self._pending.append(start)
            start += len(line) + 1
        return True


def _last_mark(path: Path) -> tuple[Mark, int]:
    """Return the last mark and where the file goes on behind it."""
    mark, end, at = Mark(), 0, 0
    with path.open("rb") as file:
        for line in file:
            at += len(line)
            if line.startswith(_MARK) and line.endswith(b"\n"):
                mark, end = _decoded(line, path).mark, at
    return mark, end


def _decoded(line: bytes, path: Path) -> _Line:
    try:
        return msgspec.json.decode(line, type=_Line)
    except msgspec.MsgspecError as error:
        raise JournalError(f"{path} must be a sample log, got a mark that is none ({error}): remove the file") from None
