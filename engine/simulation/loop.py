"""Virtual time: an asyncio event loop that jumps to its next timer instead of waiting for it.

Invariant: there is one clock. Time passes only when no callback is ready, and then exactly to the earliest timer; with
neither a callback nor a timer the loop is deadlocked and says so. Threads and sockets have real time and are refused.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

RESOLUTION_S = 1e-7
"""Timers this close together fire together. Floats keep this resolution for about 30 years of virtual time."""


class Deadlock(RuntimeError):
    """Nothing is ready and nothing is scheduled: no event can ever come."""

    def __init__(self, now: float, waiting: list[str]) -> None:
        tasks = ", ".join(sorted(waiting)[:8]) or "none"
        super().__init__(
            f"virtual time must have a next event, got none at {now:.6f} s: these tasks wait for each other or for "
            f"something outside the simulation: {tasks}"
        )


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual seconds that start at 0."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self
        self._clock_resolution = RESOLUTION_S

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now

    def select(self, timeout: float | None) -> tuple[()]:
        """Stand in for the selector: jump to the earliest timer. Raises Deadlock when there is none."""
        if timeout is None:
            raise Deadlock(self._now, [task.get_name() for task in asyncio.all_tasks(self)])
        if timeout > 0:
            self._now = self._scheduled[0].when()  # type: ignore[attr-defined]  # of BaseEventLoop
        return ()

    def run_in_executor(self, *_: object) -> NoReturn:
        """Refuse: a thread takes real time. Raises RuntimeError."""
        raise RuntimeError("a simulation must not use threads: they take real time, which virtual time cannot see")

    def _process_events(self, _: object) -> None:
        """Do nothing: there are no file descriptors."""

    def _write_to_self(self) -> None:
        """Do nothing: the loop never blocks, so it need not be woken."""


class VirtualClock:
    """A `Clock` on the running virtual loop. `epoch` is the Unix time at virtual second 0."""

    def __init__(self, epoch: float = 1_700_000_000.0) -> None:
        self._epoch = epoch
        self._loop = asyncio.get_running_loop()
        if not isinstance(self._loop, VirtualLoop):
            raise RuntimeError(f"a VirtualClock must be made on a VirtualLoop, got {type(self._loop).__name__}")

    def now(self) -> float:
        """Return virtual seconds."""
        return self._loop.time()

    def time(self) -> float:
        """Return Unix seconds of virtual time."""
        return self._epoch + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(max(seconds, 0.0))


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time. Raises Deadlock, and whatever the coroutine raises."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
