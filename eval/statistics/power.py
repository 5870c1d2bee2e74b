"""Power: how small a fall an exam of so many items can show, and whether it can decide a rule; pure.

An exam shows a fall when its test has p <= 0.05 in the falling direction, and can decide it when it shows a true fall
of that size in 80 of 100 exams. Shares are in 0..1, a fall is positive. A rise from a share of b is a fall from 1 - b.
Knows nothing of tasks.
"""

import math
from collections.abc import Callable
from typing import Final

import msgspec

from engine.errors import InputError
from eval.statistics.intervals import ALPHA

POWER: Final = 0.8
MAX_ITEMS: Final = 10_000_000
"""Where the search for a number of items ends."""

_NEGLIGIBLE: Final = 1e-12
_STEP: Final = 1e-6


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """How an exam is compared: the share right before, and what is known of the pairs.

    Where `base` is not known yet, 0.5 is close to what asks for most items.
    A difference is shown at `alpha`: 0.05, or less where several are tested at once.
    `discordant` is the share of items that are right in one of two exams and wrong in the other, as measured between
    two checkpoints; None takes what two models that answer independently would have, which asks for most items. Items
    that are not paired have none.
    """

    base: float
    is_paired: bool = True
    discordant: float | None = None
    alpha: float = ALPHA

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each."""
        found = []
        if not 0 < self.base <= 1:
            found.append(f"base must be a share above 0 and at most 1, got {self.base}: give the accuracy before")
        if self.discordant is not None and not self.is_paired:
            found.append(f"discordant must be left out where items are not paired, got {self.discordant}: remove it")
        elif self.discordant is not None and not 0 < self.discordant <= 1:
            found.append(f"discordant must be a share above 0 and at most 1, got {self.discordant}: measure it")
        if not 0 < self.alpha < 1:
            found.append(f"alpha must be above 0 and below 1, got {self.alpha}: give a level such as {ALPHA}")
        return found


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an exam of `num_items` can decide the rule "roll back when the share right falls by more than `fall`".

    The rule acts on a fall that is shown, never on the two shares alone; it is decidable when a true fall of this size
    is shown often enough.
    `smallest` is the smallest fall it can show, `num_needed` the items that the rule needs; None where there is none.
    """

    num_items: int
    fall: float
    power: float
    smallest: float | None
    num_needed: int | None

    @property
    def is_decidable(self) -> bool:
        """Whether a true fall of this size would be shown in at least 80 of 100 exams."""
        return self.power >= POWER

    @property
    def sentence(self) -> str:
        """The rule, what the exam can do, and the remedy where it cannot decide."""
        rule = f"a fall of {100 * self.fall:.3g} points"
        if self.is_decidable:
            return f"an exam of {self.num_items} items shows {rule} with a power of {self.power:.0%}"
        # Rounded up, so that a rule set to what is printed can be decided.
        least = None if self.smallest is None else f"{math.ceil(1000 * self.smallest) / 10:.1f} points"
        best = "no fall" if least is None else f"no fall below {least}"
        need = "no number of items can" if self.num_needed is None else f"use {self.num_needed} items or more"
        remedy = need if least is None else f"{need}, or allow a fall of {least}"
        found = f"{self.num_items} items, which show {best} at {POWER:.0%} power"
        return f"an exam that decides {rule} must be able to show it, got {found}: {remedy}"


def power_of(num_items: int, fall: float, design: Design) -> float:
    """Return the share of exams of `num_items` (each time, where unpaired) that would show a true fall.

    Sources: exact unconditional power of McNemar's exact conditional test; unpaired, the normal approximation for
    two proportions. Raises InputError.
    """
    problems = design.problems()
    if num_items < 1:
        problems.append(f"num_items must be >= 1, got {num_items}: give the number of items of the exam")
    if not 0 < fall <= design.base:
        problems.append(f"fall must be above 0 and at most the base of {design.base:.4g}, got {fall}: correct it")
    if problems:
        raise InputError(problems)
    return _paired(num_items, fall, design) if design.is_paired else _unpaired(num_items, fall, design)


def smallest_fall(num_items: int, design: Design) -> float | None:
    """Return the smallest fall that is shown at 80 % power, to a millionth; None where not even a fall to 0 is."""
    if power_of(num_items, design.base, design) < POWER:
        return None
    low, high = 0.0, design.base
    while high - low > _STEP:
        middle = (low + high) / 2
        if power_of(num_items, middle, design) >= POWER:
            high = middle
        else:
            low = middle
    return high


def items_needed(fall: float, design: Design) -> int | None:
    """Return a number of items that shows a fall at 80 % power while one item less does not; None beyond MAX_ITEMS.

    The power of an exact test goes up in teeth, so that a smaller number, too, may just do.
    """

    def is_enough(number: int) -> bool:
        return power_of(number, fall, design) >= POWER

    return _first_enough(is_enough)


def decide(fall: float, num_items: int, design: Design) -> Decision:
    """Return whether an exam can decide a rule on a fall, and what it would need. Raises InputError."""
    power = power_of(num_items, fall, design)
    return Decision(
        num_items=num_items,
        fall=fall,
        power=power,
        smallest=smallest_fall(num_items, design),
        num_needed=num_items if power >= POWER else items_needed(fall, design),
    )


def _first_enough(is_enough: Callable[[int], bool]) -> int | None:
    high = 1
    while not is_enough(high):
        if high >= MAX_ITEMS:
            return None
        high = min(2 * high, MAX_ITEMS)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _paired(num_items: int, fall: float, design: Design) -> float:
    """Sum over the number of discordant pairs: how likely it is, times how likely they are to reject downwards."""
    import numpy as np
    from scipy.stats import binom

    discordant = _discordant(fall, design)
    low, high = binom.interval(1 - _NEGLIGIBLE, num_items, discordant)
    pairs = np.arange(int(low), int(high) + 1)
    # The most improvements among so many pairs at which the two-sided test still rejects; -1 where it never does.
    most = binom.ppf(design.alpha / 2, pairs, 0.5)
    most = np.where(binom.cdf(most, pairs, 0.5) <= design.alpha / 2, most, most - 1)
    share_better = max((discordant - fall) / (2 * discordant), 0.0)
    return float(np.sum(binom.pmf(pairs, num_items, discordant) * binom.cdf(most, pairs, share_better)))


def _discordant(fall: float, design: Design) -> float:
    after = design.base - fall
    if design.discordant is None:
        return design.base * (1 - after) + (1 - design.base) * after
    # A fall makes at least as many pairs differ.
    return max(design.discordant, fall)


def _unpaired(num_items: int, fall: float, design: Design) -> float:
    from statsmodels.stats.proportion import power_proportions_2indep

    if math.isclose(design.base, 1) and math.isclose(fall, 1):
        # All right, then all wrong: there is no variance to approximate, and Fisher's p is that of this one table.
        return float(2 / math.comb(2 * num_items, num_items) <= design.alpha)
    found = power_proportions_2indep(-fall, design.base, num_items, alpha=design.alpha, return_results=False)
    return float(found)
