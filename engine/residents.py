"""Which episodes live on which replica of a pool, and under which weight version: known from requests and ends alone.

An episode lives where its latest request went, until it ends. Invariant: every episode has one home. Knows nothing of
what is asked.
"""

import asyncio
from collections import Counter
from collections.abc import Callable


class Residents:
    """The homes of one pool's episodes. Call it from one loop."""

    def __init__(self) -> None:
        self._homes: dict[str, tuple[str, str]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._changed = asyncio.Event()
        self._num_waiting = 0

    def settle(self, episode: str, replica: str, version: str) -> None:
        """A request of the episode goes to a replica, to be sampled under a version."""
        home = (replica, version)
        known = self._homes.get(episode)
        if known == home:
            return
        if known is not None:
            self._leave(known)
        self._homes[episode] = home
        self._counts[home] += 1

    def forget(self, episode: str) -> None:
        """An episode has ended; unknown ones are ignored."""
        home = self._homes.pop(episode, None)
        if home is not None:
            self._leave(home)

    def num_on(self, replica: str, version: str | None = None) -> int:
        """Return how many episodes live on a replica, of one version or of any."""
        if version is not None:
            return self._counts[replica, version]
        return sum(number for (name, _), number in self._counts.items() if name == replica)

    def poke(self) -> None:
        """Something that `until` waits for may have changed."""
        if self._num_waiting:
            self._changed.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once `is_so`; asked again after each change of homes and each `poke`."""
        self._num_waiting += 1
        try:
            while not is_so():
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._num_waiting -= 1

    def _leave(self, home: tuple[str, str]) -> None:
        self._counts[home] -= 1
        if not self._counts[home]:
            del self._counts[home]
            self.poke()
