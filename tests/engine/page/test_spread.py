"""Spreads: sums of all values, a sample that is bounded and fair."""

import math
from collections import Counter

import pytest

from engine.page.spread import MAX_VALUES, Spread
from engine.sampling import Reservoir


def test_a_spread_is_exact_while_it_is_small() -> None:
    found = Spread([4, 1, 3, 2, math.nan, math.inf])
    assert (found.num, found.mean, found.low, found.high, found.num_odd) == (4, 2.5, 1, 4, 2)
    assert [found.quantile(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1, 2, 3, 4, 4]


def test_an_empty_spread_has_no_figures() -> None:
    found = Spread()
    assert (found.num, found.mean, found.low, found.high, found.quantile(0.5)) == (0, None, None, None, None)


def test_memory_is_bounded_and_sums_are_not_sampled() -> None:
    num = 3 * MAX_VALUES
    found = Spread(range(num))
    assert (found.num, len(found.values)) == (num, MAX_VALUES)
    assert found.mean == (num - 1) / 2
    assert found.quantile(0.5) == pytest.approx(num / 2, rel=0.05)


def test_every_item_is_as_likely_and_a_seed_repeats_itself() -> None:
    drawn: Counter[int] = Counter()
    for seed in range(2000):
        sample: Reservoir[int] = Reservoir(2, seed)
        for item in range(8):
            sample.add(item)
        drawn.update(sample.items)
    # 4,000 draws of 8 items: 500 each, with a standard deviation of about 19.
    assert all(abs(number - 500) < 100 for number in drawn.values()) and len(drawn) == 8
    one, other = Reservoir[int](3, 1), Reservoir[int](3, 1)
    for item in range(100):
        one.add(item)
        other.add(item)
    assert one.items == other.items and one.num_seen == 100
