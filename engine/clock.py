"""Time as the scheduler sees it: one seam, so that the same scheduler runs in real and in virtual time."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds. `now` is monotonic, `time` is Unix time."""

    def now(self) -> float:
        """Return monotonic seconds."""

    def time(self) -> float:
        """Return Unix seconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def time(self) -> float:
        """Return Unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running loop."""
        await asyncio.sleep(max(seconds, 0.0))
