"""How long to go on with an API that is busy, slow or out of reach: pauses between tries, within one budget of time.

Knows nothing of the API: what went wrong comes as a `Trouble`, which says whether trying again can help.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from engine.clock import Clock
from engine.errors import RunError

MAX_BACKOFF_S: Final = 60.0


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why one call came to nothing.

    `max_tries` is how often trouble of this kind may come to one call, None for as long as there is time. `is_missing`:
    what was asked for does not exist. `retry_after_s` is what the API asked for.
    """

    message: str
    max_tries: int | None = None
    retry_after_s: float | None = None
    is_missing: bool = False

    @property
    def is_refusal(self) -> bool:
        """Whether the API understood the call and said no: nothing was made."""
        return self.max_tries == 1


def backoff_s(tries: int, retry_after_s: float | None, draw: float) -> float:
    """Return how long to wait after so many failed tries (from 1); `draw`, 0 to 1, spreads callers apart.

    Never less than what the API asks for, else 1, 2, 4 ... seconds, a minute at most.
    """
    wait_s = retry_after_s or min(2.0 ** min(tries - 1, 10), MAX_BACKOFF_S)
    return wait_s * (1 + draw / 4)


class Patience:
    """One budget of time for everything that is waited for; it runs from the beginning on."""

    def __init__(
        self,
        max_wait_s: float,
        clock: Clock,
        say: Callable[[str], None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._say = say
        self._draw = draw
        self._until = clock.now() + max_wait_s

    async def pause(self, seconds: float, waiting_for: str) -> None:
        """Wait. Raises RunError at once when that would be longer than there is time."""
        left = self._until - self._clock.now()
        if seconds > left:
            raise RunError(
                f"fine-tuning must end within tuning.max_wait_s = {self._max_wait_s:g} s, got no end in time"
                f" ({waiting_for}): run again to go on where it is, or raise max_wait_s"
            )
        await self._clock.sleep(seconds)

    async def after(self, troubles: Sequence[Trouble]) -> None:
        """Wait until it is time to try again, all tries so far having failed. Raises RunError when that cannot help."""
        trouble = troubles[-1]
        if trouble.max_tries is not None:
            if sum(one.max_tries is not None for one in troubles) >= trouble.max_tries:
                raise RunError(trouble.message)
        wait_s = backoff_s(len(troubles), trouble.retry_after_s, self._draw())
        self._say(f"{trouble.message}; trying again in {wait_s:.0f} s")
        await self.pause(wait_s, trouble.message)
