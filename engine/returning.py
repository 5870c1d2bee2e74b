"""Episodes that a journal holds live, taken up again in order of admission; their stored steps are read some at a time.

Invariant: each comes once, and its steps are read at most once. Knows no protocol.
"""

import itertools
from collections import deque
from typing import Final

from engine.journal import Journal, LiveEpisode, StoredStep
from engine.journal_off import JournalOff

READ_AHEAD: Final = 64
"""Episodes whose steps are read at once: those that were live together have their rows on the same pages."""


class Returning:
    """What is left to take up again of one journal."""

    def __init__(self, journal: Journal | JournalOff) -> None:
        self._journal = journal
        self._left = deque(journal.live())
        self._steps: dict[str, dict[str, StoredStep]] = {}

    def take(self) -> LiveEpisode | None:
        """Return the next episode, None when there is none left."""
        return self._left.popleft() if self._left else None

    def steps(self, row: LiveEpisode) -> dict[str, StoredStep]:
        """Return the stored steps of an episode that was taken, by path. Raises JournalError."""
        name = str(row.key)
        if name not in self._steps:
            coming = itertools.islice(self._left, READ_AHEAD - 1)
            self._steps = self._journal.stored_of([name, *(str(other.key) for other in coming)])
        return self._steps.pop(name)
