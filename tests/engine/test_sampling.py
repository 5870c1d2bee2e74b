"""Reservoirs: bounded, seeded, fair."""

from collections import Counter

import pytest

from engine.sampling import Reservoir, drawn


def fill(size: int, seed: int, number: int) -> list[int]:
    made: Reservoir[int] = Reservoir(size, seed)
    for item in range(number):
        made.add(item)
    assert made.num_seen == number
    return made.items


def test_few_items_are_all_kept_in_order() -> None:
    assert fill(5, 0, 3) == [0, 1, 2]


def test_many_items_are_sampled_alike_for_one_seed() -> None:
    assert len(set(fill(5, 1, 100))) == 5
    assert fill(5, 1, 100) == fill(5, 1, 100) != fill(5, 2, 100)


def test_every_item_is_as_likely() -> None:
    counts = Counter(item for seed in range(2000) for item in fill(4, seed, 16))
    # 500 expected of each of 16, with a standard deviation of about 19.
    assert all(400 < counts[item] < 600 for item in range(16))


def test_a_reservoir_must_hold_something() -> None:
    with pytest.raises(ValueError, match="size must be >= 1, got 0"):
        Reservoir(0, 1)


def test_drawn() -> None:
    assert drawn([3, 1], 2, 0) == [3, 1]
    assert len(set(drawn(list(range(50)), 10, 0))) == 10
