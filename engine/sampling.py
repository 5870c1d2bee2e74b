"""A sample of a stream whose length is not known: bounded memory, seeded, every item as likely as any other."""

import random
from typing import Generic, TypeVar

T = TypeVar("T")


class Reservoir(Generic[T]):
    """At most `size` of the items added. Source: reservoir sampling, algorithm R."""

    def __init__(self, size: int, seed: int = 0) -> None:
        if size < 1:
            raise ValueError(f"size must be >= 1, got {size}")
        self.size = size
        self.items: list[T] = []
        self.num_seen = 0
        self._draw = random.Random(seed)

    def add(self, item: T) -> None:
        """Offer one item."""
        self.num_seen += 1
        if len(self.items) < self.size:
            self.items.append(item)
        elif (place := self._draw.randrange(self.num_seen)) < self.size:
            self.items[place] = item


def drawn(items: list[T], size: int, seed: int) -> list[T]:
    """Return at most `size` of the items: all in order when there are no more, else a seeded sample."""
    return list(items) if len(items) <= size else random.Random(seed).sample(items, size)
