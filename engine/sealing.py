"""Sealing in a process of its own: building a part's columns holds the interpreter's lock, which the loop needs.

Invariant: the process is a pure function of what is sent to it. It opens no file and knows no run, so that its death at
any moment, or its parent's, leaves nothing behind; it ends when its standard input does. Knows nothing of SQLite.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread, Timer
from typing import IO, Final

import msgspec

from engine.corpus_parts import Extent, Part, form_part, keep_part
from engine.journal_store import decode
from engine.record import EpisodeRecord
from engine.rundir import RunDirectory

MIN_BYTES: Final = 1 << 20
"""What a part must hold for a process to be started: half a second of start-up is not worth less."""
MAX_DEATHS: Final = 3
"""Deaths after which no further process is started."""
MAX_ANSWER_S: Final = 60.0
"""How long a part may take; a process that is stopped would otherwise hold up the journal."""
NICENESS: Final = 10
"""The scheduler's loop goes first where processors are scarce."""
_HEADER: Final = 8
_ENCODER: Final = msgspec.msgpack.Encoder()
_ROOT: Final = str(Path(__file__).parents[1])


class Job:
    """One part being sealed on a thread of its own; there `before` may refuse it, and `done` is called when it ends."""

    def __init__(
        self,
        sealer: "Sealer",
        rundir: RunDirectory,
        extent: Extent,
        bodies: list[bytes],
        done: Callable[[], None],
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_done = False
        self._part: Part | None = None
        self._error: Exception | None = None
        self._arguments = (sealer, rundir, extent, bodies)
        self._done, self._before = done, before
        self._thread = Thread(target=self._run, name=f"seal-{extent.journal}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sealer, rundir, extent, bodies = self._arguments
        try:
            self._part = keep_part(rundir, *sealer.form(extent.next_file, bodies), self._before)
        except Exception as error:  # noqa: BLE001  raised where the part is asked for
            self._error = error
        self.is_done = True
        self._done()

    def wait(self) -> None:
        """Return once the job is done, however it ended."""
        self._thread.join()

    def part(self) -> Part:
        """Wait for the part and return it, durable and not named yet. Raises what sealing raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        assert self._part is not None, "a job must have a part or an error"
        return self._part


class Sealer:
    """Forms parts in a process that is started at the first large one; without one, in the caller's thread.

    Call `form` from one thread at a time. A process that dies is replaced at the next part, a few times.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._num_deaths = 0

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return None if self._process is None else self._process.pid

    def is_worth(self, num_bytes: int) -> bool:
        """Return whether a part of that many encoded bytes should go to the process, which may have to be started."""
        return self._num_deaths < MAX_DEATHS and (self._process is not None or num_bytes >= MIN_BYTES)

    def form(self, file: str, bodies: Sequence[bytes]) -> tuple[Part, bytes]:
        """Return the part of these encoded records and its bytes. Raises what `form_part` raises."""
        if self._num_deaths < MAX_DEATHS:
            try:
                return self._ask(file, bodies)
            except (OSError, EOFError, msgspec.DecodeError):
                self._num_deaths += 1
                self.close()
        return form_encoded(file, bodies)

    def _ask(self, file: str, bodies: Sequence[bytes]) -> tuple[Part, bytes]:
        process = self._process = self._process or _start()
        assert process.stdin is not None and process.stdout is not None
        watchdog = Timer(MAX_ANSWER_S, process.kill)
        watchdog.start()
        try:
            _send(process.stdin, (file, bodies))
            answer = _receive(process.stdout)
        finally:
            watchdog.cancel()
        if answer is None:
            raise EOFError("the sealing process ended")
        return msgspec.msgpack.decode(answer, type=tuple[Part, bytes])

    def close(self) -> None:
        """End the process; safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it has nothing of its own to put away
            with process:
                pass


def form_encoded(file: str, bodies: Sequence[bytes]) -> tuple[Part, bytes]:
    """Return the part of encoded records. Raises what `form_part` raises, or `msgspec.DecodeError`."""
    return form_part(file, [decode(body, EpisodeRecord) for body in bodies])


def _start() -> "subprocess.Popen[bytes]":
    # A group of its own: an interrupt from the terminal is for the driver alone. -P: whatever folder the driver stands
    # in, its modules are not ours.
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.sealing"],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path},
        process_group=0,
    )


def _send(sink: IO[bytes], value: object) -> None:
    """Write a message in as few calls as can be: each gives up the interpreter's lock and waits for it again."""
    data = bytearray(_HEADER)
    _ENCODER.encode_into(value, data, _HEADER)
    data[:_HEADER] = (len(data) - _HEADER).to_bytes(_HEADER, "little")
    rest = memoryview(data)
    while rest:
        rest = rest[sink.write(rest) :]


def _receive(source: IO[bytes]) -> bytearray | None:
    """Return the next message, None at the end."""
    header = _read(source, _HEADER)
    return None if header is None else _read(source, int.from_bytes(header, "little"))


def _read(source: IO[bytes], size: int) -> bytearray | None:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        num_read: int = source.readinto(rest)  # type: ignore[attr-defined]  # it is raw
        if not num_read:
            return None
        rest = rest[num_read:]
    return data


def main() -> None:
    """Answer parts until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    source, sink = os.fdopen(0, "rb", buffering=0), os.fdopen(1, "wb", buffering=0)
    # Whoever started it may have gone: then there is nobody to answer, and nothing to say about it.
    with suppress(BrokenPipeError):
        while (job := _receive(source)) is not None:
            file, bodies = msgspec.msgpack.decode(job, type=tuple[str, list[bytes]])
            _send(sink, form_encoded(file, bodies))
    os._exit(0)  # nothing is held that must be put down, and the interpreter takes its time


if __name__ == "__main__":
    main()
