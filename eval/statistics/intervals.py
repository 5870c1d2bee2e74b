"""Intervals that hold a share, or a difference of two shares, in 95 of 100 exams; pure.

All of them are score intervals: they stay within -1..1 and are not empty where every answer is right, where the
textbook interval (estimate plus or minus two standard errors) is. Knows nothing of tasks.
"""

import math
from typing import Final

import msgspec

from engine.errors import InputError
from engine.protocols.exam import wilson

LEVEL: Final = 0.95
ALPHA: Final = 0.05
Z_95: Final = 1.959963984540054
"""Standard deviations on either side that hold 95 % of a normal distribution."""

_TINY: Final = 1e-15


class Interval(msgspec.Struct, frozen=True):
    """Where a figure lies with 95 % confidence, ends included."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether a value lies in the interval."""
        return self.low <= value <= self.high


def share_interval(num_right: int, number: int) -> Interval:
    """Return the interval of `num_right` of `number`. Source: Wilson's score interval. Raises InputError."""
    _check(num_right, number)
    low, high = wilson(num_right, number)
    # Rounding may put an end a hair on the wrong side of 0 or 1.
    return Interval(min(low, num_right / number), max(high, num_right / number))


def paired_share_interval(num_better: int, num_worse: int, number: int) -> Interval:
    """Return the interval of the difference of two shares over the same items, (better - worse) / number.

    `num_better` items are right only the second time, `num_worse` only the first time. Source: Tango 1998, score
    interval for paired proportions; it excludes 0 where McNemar's uncorrected statistic exceeds its limit. Raises
    InputError.
    """
    from scipy.optimize import brentq

    _check(num_better + num_worse, number)
    estimate = (num_better - num_worse) / number

    def beyond(difference: float, limit: float) -> float:
        return _tango(num_better, num_worse, number, difference) - limit

    low = -1.0 if num_worse == number else brentq(beyond, -1.0, estimate, args=(Z_95,))
    high = 1.0 if num_better == number else brentq(beyond, estimate, 1.0, args=(-Z_95,))
    return Interval(float(low), float(high))


def unpaired_share_interval(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """Return the interval of the difference second - first of two shares over different items.

    Each is (right, number). Source: Newcombe 1998, method 10. Raises InputError.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep

    _check(*first)
    _check(*second)
    low, high = confint_proportions_2indep(*second, *first, method="newcomb", compare="diff", alpha=ALPHA)
    return Interval(float(low), float(high))


def _tango(num_better: int, num_worse: int, number: int, difference: float) -> float:
    """Return the score statistic of a supposed difference: the excess over it in standard errors under it."""
    a = 2 * number
    b = (2 * number - num_better + num_worse) * difference - num_better - num_worse
    c = -num_worse * difference * (1 - difference)
    share_worse = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = number * (2 * share_worse + difference * (1 - difference))
    # Towards -1 and 1 the variance is 0: the statistic grows without limit, which rounding must not turn round.
    return (num_better - num_worse - number * difference) / math.sqrt(max(variance, _TINY))


def _check(part: int, number: int) -> None:
    if number < 1 or not 0 <= part <= number:
        raise InputError(f"a share must be part of 1 item or more, got {part} of {number}: correct the counts")
