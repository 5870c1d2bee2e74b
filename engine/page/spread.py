"""Values of a stream whose length is not known, in bounded memory: exact sums, and a seeded sample of the values."""

from collections.abc import Iterable
from typing import Final

from engine.page.ticks import is_drawable
from engine.sampling import Reservoir

MAX_VALUES: Final = 10_000


class Spread:
    """How values are spread: number, mean, least and greatest of all, the rest by a sample of `MAX_VALUES`.

    What is not finite, or beyond `ticks.MAX_DRAWN`, is left out and counted in `num_odd`.
    """

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.total = 0.0
        self.num_odd = 0
        self.low: float | None = None
        self.high: float | None = None
        self._sample: Reservoir[float] = Reservoir(MAX_VALUES)
        self.update(values)

    def add(self, value: float) -> None:
        """Count one value."""
        if not is_drawable(value):
            self.num_odd += 1
            return
        self.total += value
        self.low = value if self.low is None else min(self.low, value)
        self.high = value if self.high is None else max(self.high, value)
        self._sample.add(value)

    def update(self, values: Iterable[float]) -> None:
        """Count values."""
        for value in values:
            self.add(value)

    @property
    def num(self) -> int:
        """Values counted."""
        return self._sample.num_seen

    @property
    def values(self) -> list[float]:
        """The sample: all values while there are no more than `MAX_VALUES`."""
        return self._sample.items

    @property
    def mean(self) -> float | None:
        """Mean of all values, None without any."""
        return self.total / self.num if self.num else None

    def quantile(self, share: float) -> float | None:
        """Return the value below which that share of the sample lies, by nearest rank; None without any."""
        ordered = sorted(self.values)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
