"""The order in which workers read a sample log: shuffled by seed in blocks, shared out by rank, the same when resumed.

Ordinals are taken in blocks; each block is shuffled by (seed, epoch, block). So an epoch may begin while the log still
grows: a block is read once it is whole, or the log is closed. Invariants: every sample comes exactly once per epoch
over all ranks; all ranks get the same number of batches; what a rank reads depends on seed, epoch, position and
ordinals alone, never on when it looked.
"""

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from training.formats import Row
from training.sample_log import SampleReader

BLOCK: Final = 1024
"""Samples shuffled among each other; a streamed epoch starts once so many are there."""


class Position(msgspec.Struct, frozen=True, order=True):
    """Where reading is: the epoch, and the batches of all ranks already read in it."""

    epoch: int = 0
    batch: int = 0


class Batch(msgspec.Struct, frozen=True):
    """One rank's rows, at least one, and where reading goes on behind them.

    With `is_padding` the last batch of an epoch had nothing left for this rank: the row is another's, and must not
    count, but its rank must take part in the step.
    """

    rows: list[Row]
    after: Position
    is_padding: bool = False


class Stream:
    """One rank's batches. `batch_size` is of one rank; `world` ranks together read `batch_size * world` at a time."""

    def __init__(
        self, reader: SampleReader, *, batch_size: int, rank: int = 0, world: int = 1, seed: int = 0, block: int = BLOCK
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0..{world - 1}, got {rank}")
        self._reader = reader
        self._rank, self._world, self._seed = rank, world, seed
        self._whole = batch_size * world
        # Whole batches of all ranks, so that no batch waits for two blocks.
        self._block = max(block // self._whole, 1) * self._whole
        self._shuffled: tuple[tuple[int, int, int], list[int]] = ((-1, -1, -1), [])

    def batches(self, start: Position, num_epochs: int) -> Iterator[Batch]:
        """Yield the rank's batches from a position to the end of the last epoch; waits while the log grows."""
        here = start
        while here.epoch < num_epochs:
            together = self._together(here)
            if not together:
                here = Position(here.epoch + 1, 0)
                continue
            here = Position(here.epoch, here.batch + 1)
            yield self._share(together, here)

    def _share(self, together: list[int], after: Position) -> Batch:
        size = -(-len(together) // self._world)
        mine = together[self._rank * size : (self._rank + 1) * size]
        return Batch([self._reader.row(one) for one in mine or together[:1]], after, is_padding=not mine)

    def _together(self, here: Position) -> list[int]:
        """Return the ordinals that all ranks read next, fewer in the last batch of an epoch, none at its end."""
        number, at = divmod(here.batch * self._whole, self._block)
        first = number * self._block
        mark = self._reader.wait(first + self._block)
        size = min(self._block, mark.num_samples - first)
        return self._order(here.epoch, number, size)[at : at + self._whole] if size > at else []

    def _order(self, epoch: int, number: int, size: int) -> list[int]:
        """Return the ordinals of a block in the order in which they are read."""
        key = (epoch, number, size)
        if self._shuffled[0] != key:
            order = list(range(number * self._block, number * self._block + size))
            random.Random(f"{self._seed} {epoch} {number}").shuffle(order)
            self._shuffled = (key, order)
        return self._shuffled[1]
