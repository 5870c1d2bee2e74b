"""The cyclic collector while dialogues are live: its whole passes when there is something to find, not by allocation.

What the engine makes is freed by reference counts, but a protocol of somebody's own may leave cycles behind. By default
the collector walks through all that lives each time a quarter as much was added: at 10,000 live dialogues 20 ms in one
go, at 100,000 ten times that, and nearly always for nothing. Young objects are looked at as ever; a whole pass comes
once as many dialogues have ended as live, and then free memory is given back to the system. Invariant: after the last
`calm` is left, the settings are as they were.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from engine.memory import give_back

YOUNG: Final = 1000
NUM_LOOKS: Final = 5
"""Objects allocated and not freed between two looks at the youngest; so many looks make one at what survived them,
which takes 3 ms."""

NEVER: Final = 1_000_000_000

MIN_ENDED: Final = 2048
"""Dialogues that end between two whole passes, at least."""

# Thresholds that whoever came first found, once for each that is within.
_found: list[tuple[int, int, int]] = []


@contextmanager
def calm() -> Iterator[None]:
    """Within, whole passes are made by `Collector` alone; may be entered several times at once, left in any order."""
    if not _found:
        # What was there before the dialogues, modules above all, outlives them.
        gc.freeze()
    _found.append(_found[0] if _found else gc.get_threshold())
    gc.set_threshold(YOUNG, NUM_LOOKS, NEVER)
    try:
        yield
    finally:
        found = _found.pop()
        if not _found:
            gc.set_threshold(*found)
            gc.unfreeze()


class Collector:
    """Counts dialogues that ended, and makes whole passes."""

    def __init__(self) -> None:
        self._num_ended = 0
        self._most_live = 0

    def ended(self, num_live: int) -> None:
        """Note that a dialogue has ended and `num_live` go on; make a whole pass when it is time."""
        self._num_ended += 1
        self._most_live = max(self._most_live, num_live)
        if self._num_ended >= max(MIN_ENDED, self._most_live):
            self._num_ended, self._most_live = 0, num_live
            gc.collect()
            give_back()
