"""SIGINT and SIGTERM: the first asks the run to stop, the second ends the process at once; both are safe.

Nothing acknowledged is lost either way: the journal is a prefix of what happened, and `sandplay resume` continues.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Final

from engine.signals import exit_on_signals

GRACE_S: Final = 4.5
"""Seconds after the first signal at which the process ends, done or not."""
COPY_GRACE_S: Final = 25.0
"""The same where a journal must be brought from this node's disk: batch systems kill 30 s after they have told."""


class Interrupt:
    """Context manager that owns both signals on the running loop.

    `on_first` is called once; `before_exit` is called right before a forced exit (it must be quick), which comes
    `grace_s` seconds after the first signal or with the second.
    """

    def __init__(self, on_first: Callable[[], None], before_exit: Callable[[], None], grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._on_first = on_first
        self._before_exit = before_exit
        self._deadline: asyncio.TimerHandle | None = None
        self.code: int | None = None

    def __enter__(self) -> "Interrupt":
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._handle, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        exit_on_signals()

    def _handle(self, number: int) -> None:
        if self.code is not None:
            self._exit()
        self.code = 128 + number
        self._deadline = asyncio.get_running_loop().call_later(self._grace_s, self._exit)
        self._on_first()

    def _exit(self) -> None:
        assert self.code is not None
        self._before_exit()
        os._exit(self.code)
