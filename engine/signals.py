"""What signals do outside of a run; imports next to nothing, so that every command begins with it at once."""

import signal
from types import FrameType


def exit_on_signals() -> None:
    """Outside an `Interrupt`, let both signals unwind the process with their exit codes, 130 and 143."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _unwind)


def _unwind(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
