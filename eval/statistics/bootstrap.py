"""The bootstrap: how far a figure moves when the items are drawn anew from themselves; pure, seeded.

Percentile intervals. A resample in which a statistic is undefined (all ratings equal, say) is left out and counted,
never a silent NaN. Where every resample lies on one side of the estimate, the interval is widened to hold it. Knows
nothing of what is drawn.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from eval.statistics.intervals import ALPHA, Interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Seed: TypeAlias = int | tuple[int, ...]
"""What draws are made with: equal seeds draw alike, and `(seed, 1)` differently from `(seed, 2)`."""

RESAMPLES: Final = 1000
MIN_DEFINED: Final = 0.5
"""Least share of resamples in which a statistic must be defined for its interval to mean anything."""
MAX_CELLS: Final = 1 << 22
"""Drawn positions held at once, 8 bytes each."""


class Resampled(msgspec.Struct, frozen=True):
    """A bootstrap interval, None where `reason` says why, and how many resamples had no value."""

    interval: Interval | None
    num_degenerate: int = 0
    reason: str = ""


def resample(
    statistic: "Callable[[npt.NDArray[np.intp]], float | None]",
    number: int,
    estimate: float,
    *,
    seed: Seed,
    resamples: int = RESAMPLES,
) -> Resampled:
    """Return the interval of a statistic over `number` subjects.

    `statistic` takes the positions drawn, shape [number], and returns its value or None where it is undefined.
    """
    if number < 2:
        return Resampled(None, 0, f"an interval needs 2 subjects or more, got {number}")
    drawn = (statistic(positions) for chunk in _draws(number, seed, resamples) for positions in chunk)
    found = [value for value in drawn if value is not None]
    num_degenerate = resamples - len(found)
    if len(found) < MIN_DEFINED * resamples:
        return Resampled(None, num_degenerate, f"undefined in {num_degenerate} of {resamples} resamples")
    return Resampled(percentiles(found, estimate), num_degenerate)


def mean_draws(values: "npt.ArrayLike", *, seed: Seed, resamples: int = RESAMPLES) -> "npt.NDArray[np.float64]":
    """Return the means of resamples of values, shape [resamples]; there is at least one value."""
    import numpy as np

    items = np.asarray(values, dtype=np.float64)
    return np.concatenate([items[chunk].mean(axis=1) for chunk in _draws(len(items), seed, resamples)])


def percentiles(draws: "npt.ArrayLike", estimate: float) -> Interval:
    """Return the middle 95 % of the draws, widened to hold the estimate."""
    import numpy as np

    low, high = np.quantile(np.asarray(draws, dtype=np.float64), [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(min(float(low), estimate), max(float(high), estimate))


def _draws(number: int, seed: Seed, resamples: int) -> "Iterator[npt.NDArray[np.intp]]":
    """Yield positions drawn with replacement, shape [some resamples, number]."""
    import numpy as np

    draw = np.random.default_rng(seed)
    at_once = max(MAX_CELLS // number, 1)
    for begin in range(0, resamples, at_once):
        yield draw.integers(number, size=(min(at_once, resamples - begin), number), dtype=np.intp)
