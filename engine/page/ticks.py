"""Axes: where labelled marks stand, how they read, and the bins of a histogram; pure."""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

STEPS: Final = (1, 2, 5, 10)
MAX_DRAWN: Final = 1e15
"""Beyond this a figure is a fault of its source, and would leave no room for any other."""
MIN_SPAN: Final = 1e-12
"""What differs by less is drawn as one value: no label has room for it, and round steps cannot be that small."""
PREFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
MIN_PREFIXED: Final = 10_000
NUM_TICKS: Final = 5
NUM_BINS: Final = 16
MAX_WHOLE_BINS: Final = 24
SPANS: Final = ((172_800.0, 86_400.0, "days"), (7200.0, 3600.0, "h"), (120.0, 60.0, "min"))


class Bin(msgspec.Struct, frozen=True, gc=False):
    """How many values lie from `low` up to `high`, which belongs to the next bin (the last one holds its own)."""

    low: float
    high: float
    num: int


def is_drawable(value: float | None) -> bool:
    """Whether a figure has a place on an axis."""
    return value is not None and math.isfinite(value) and abs(value) <= MAX_DRAWN


def ticks(low: float, high: float, num: int = NUM_TICKS, *, is_whole: bool = False) -> list[float]:
    """Return about `num` round numbers that enclose both ends, equally far apart; `is_whole` allows no fractions.

    Both ends must be drawable.
    """
    largest = max(abs(low), abs(high))
    if high - low <= max(largest * 1e-9, MIN_SPAN):
        margin = largest / 10 if largest / 10 > MIN_SPAN else 0.5
        low, high = low - margin, high + margin
    step = _step((high - low) / num)
    step = max(step, 1.0) if is_whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(-math.floor(math.log10(step)), 0)
    return [round(place * step, digits) for place in range(first, max(last, first + 1) + 1)]


def _step(least: float) -> float:
    """Return the least round step: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next((step * power for step in STEPS if step * power >= least * (1 - 1e-9)), 10 * power)


def labels(marks: Sequence[float]) -> list[str]:
    """Return how equally spaced marks read, all with the same decimals and the same prefix."""
    largest = max(map(abs, marks))
    unit, prefix = next((found for found in PREFIXES if largest >= max(found[0], MIN_PREFIXED)), (1.0, ""))
    step = (marks[1] - marks[0]) / unit if len(marks) > 1 else 1.0
    digits = min(max(-math.floor(math.log10(step) + 1e-9), 0), 12)
    return [f"{mark / unit:,.{digits}f}{prefix if mark else ''}" for mark in marks]


def time_unit(seconds: float) -> tuple[float, str]:
    """Return (seconds in a unit, its name) that suits a span of time."""
    return next(((length, name) for least, length, name in SPANS if seconds >= least), (1.0, "s"))


def bins_of(values: Sequence[float]) -> list[Bin]:
    """Return adjoining bins that hold all values that can be drawn; a bin for each number where few whole ones are."""
    drawn = [value for value in values if is_drawable(value)]
    if not drawn:
        return []
    low, high = min(drawn), max(drawn)
    if high - low < MAX_WHOLE_BINS and all(value == int(value) for value in drawn):
        edges = [low - 0.5 + place for place in range(int(high - low) + 2)]
    else:
        edges = ticks(low, high, NUM_BINS)
    counts = [0] * (len(edges) - 1)
    width = edges[1] - edges[0]
    for value in drawn:
        counts[min(max(int((value - edges[0]) / width), 0), len(counts) - 1)] += 1
    return [Bin(edges[place], edges[place + 1], num) for place, num in enumerate(counts)]
