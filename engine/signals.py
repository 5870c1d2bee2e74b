"""What signals do outside of a run; imports next to nothing, so that every command begins with it at once."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Final

STORE_THREAD: Final = "store-"
"""How the names of threads begin that call stores: the end of a process would wait for their answers."""


def exit_on_signals() -> None:
    """Outside an `Interrupt`, let both signals unwind the process with their exit codes, 130 and 143."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _unwind)


def leave_stores(code: object) -> None:
    """End the process at once with that exit code if a call to a store is under way; else return."""
    if any(thread.name.startswith(STORE_THREAD) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _unwind(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
