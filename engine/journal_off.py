"""No journal: what the scheduler needs of one, kept nowhere. For simulation and measurement, never for a run.

Invariant: each episode ends at most once; nothing survives the process.
"""

import asyncio
from collections.abc import Callable, Sequence

from engine.journal_store import LiveEpisode, StoredStep
from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, Status
from engine.steps import Reply


class JournalOff:
    """Takes everything and remembers how each episode ended.

    With `is_kept` false it is given no hashes and only stubs of records; a subclass that reads records sets it.
    """

    is_kept = False

    def __init__(self) -> None:
        self._ended: dict[EpisodeKey, Status] = {}

    def live(self) -> list[LiveEpisode]:
        """Return nothing: no episode outlives its process."""
        return []

    def ended(self) -> dict[EpisodeKey, Status]:
        """Return how each terminal episode ended."""
        return dict(self._ended)

    def stored_of(self, episodes: Sequence[str]) -> dict[str, dict[str, StoredStep]]:
        """Return nothing of each."""
        return {episode: {} for episode in episodes}

    def admit(self, key: EpisodeKey, seed: int, started_at: float) -> None:
        """Take note of nothing."""

    def reply(self, episode: str, path: str, hash: bytes, answer: Reply | tuple[float, ...]) -> None:
        """Take note of nothing."""

    def attempt(self, episode: str, path: str, attempt: AttemptRecord) -> None:
        """Take note of nothing."""

    def end(self, record: EpisodeRecord, done: Callable[[], None] | None = None) -> None:
        """Count the episode and call `done` from the running loop."""
        assert record.key not in self._ended, f"{record.episode} ended twice"
        self._ended[record.key] = record.status
        if done is not None:
            asyncio.get_running_loop().call_soon(done)

    async def room(self) -> None:
        """Return: there is always room."""

    async def flush(self) -> None:
        """Return: there is nothing to write."""

    async def watch(self) -> None:
        """Wait until cancelled: nothing can fail."""
        await asyncio.get_running_loop().create_future()
