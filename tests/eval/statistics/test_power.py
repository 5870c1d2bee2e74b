"""Power: against enumeration, a textbook's sample size and simulation; rules that an exam can and cannot decide."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from eval.statistics.differences import mcnemar
from eval.statistics.power import Design, decide, items_needed, power_of, smallest_fall

HALF = Design(base=0.5, discordant=0.3)


def enumerated(number: int, fall: float, discordant: float) -> float:
    """Sum the probability of every table in which McNemar's exact test shows a fall."""
    worse, better = (discordant + fall) / 2, (discordant - fall) / 2
    total = 0.0
    for b in range(number + 1):
        for c in range(b + 1, number + 1 - b):
            if mcnemar(b, c) <= 0.05:
                ways = math.comb(number, b) * math.comb(number - b, c)
                total += ways * better**b * worse**c * (1 - discordant) ** (number - b - c)
    return total


@pytest.mark.parametrize(("number", "fall", "discordant"), [(12, 0.3, 0.5), (25, 0.2, 0.3), (30, 0.25, 0.25)])
def test_paired_power_is_that_of_every_table(number: int, fall: float, discordant: float) -> None:
    found = power_of(number, fall, Design(base=0.6, discordant=discordant))
    assert found == pytest.approx(enumerated(number, fall, discordant), abs=1e-6)


def test_independent_models_differ_in_the_pairs_that_chance_gives() -> None:
    base, fall = 0.6, 0.2
    discordant = base * (1 - 0.4) + (1 - base) * 0.4
    assert power_of(40, fall, Design(base=base)) == power_of(40, fall, Design(base=base, discordant=discordant))


def test_a_fall_makes_at_least_as_many_pairs_differ() -> None:
    few, many = (Design(base=0.6, discordant=share) for share in (0.1, 0.4))
    assert power_of(20, 0.4, few) == power_of(20, 0.4, many)


def test_paired_power_agrees_with_simulation() -> None:
    draw = np.random.default_rng(1)
    tables = draw.multinomial(200, [0.1, 0.2, 0.7], size=1000)
    shown = np.mean([worse > better and mcnemar(better, worse) <= 0.05 for better, worse, _ in tables])
    assert power_of(200, 0.1, HALF) == pytest.approx(shown, abs=0.04)


def test_unpaired_items_needed_as_in_textbooks() -> None:
    assert items_needed(0.1, Design(base=0.6, is_paired=False)) == 388


@given(st.integers(5, 3000), st.floats(0.05, 1), st.floats(0.02, 1))
@settings(max_examples=15, deadline=None)
def test_the_smallest_fall_is_where_the_power_reaches_the_goal(number: int, base: float, discordant: float) -> None:
    design = Design(base=base, discordant=discordant)
    found = smallest_fall(number, design)
    if found is None:
        assert power_of(number, base, design) < 0.8
    else:
        assert power_of(number, found, design) >= 0.8
        assert found < 3e-6 or power_of(number, found - 2e-6, design) < 0.8


@given(st.floats(0.05, 0.5), st.floats(0.05, 0.9))
@settings(max_examples=12, deadline=None)
def test_the_items_needed_are_enough_and_one_less_is_not(fall: float, discordant: float) -> None:
    design = Design(base=0.7, discordant=discordant)
    needed = items_needed(fall, design)
    assert needed is not None
    assert power_of(needed, fall, design) >= 0.8
    assert power_of(needed - 1, fall, design) < 0.8


def test_few_items_show_no_fall_at_all() -> None:
    # Five pairs that all turn wrong have p = 0.0625.
    assert smallest_fall(5, Design(base=1.0)) is None
    assert smallest_fall(6, Design(base=1.0)) is not None


def test_more_items_and_fewer_pairs_that_differ_show_less() -> None:
    falls = [smallest_fall(number, HALF) for number in (50, 200, 800, 3200)]
    assert falls == sorted(falls, reverse=True)
    assert (smallest_fall(300, Design(base=0.5, discordant=0.1)) or 1) < (smallest_fall(300, HALF) or 0)


def test_a_stricter_level_shows_less() -> None:
    for is_paired in (True, False):
        falls = [
            smallest_fall(200, Design(base=0.5, is_paired=is_paired, alpha=alpha)) for alpha in (0.05, 0.01, 0.001)
        ]
        assert falls == sorted(falls) and len(set(falls)) == 3  # type: ignore[type-var]
    # Five pairs that all fall have p = 2 / 2 ** 5.
    assert power_of(5, 1.0, Design(base=1.0, discordant=1.0, alpha=0.0626)) == pytest.approx(1)
    assert power_of(5, 1.0, Design(base=1.0, discordant=1.0, alpha=0.0624)) == 0
    with pytest.raises(InputError, match="alpha must be above 0 and below 1, got 1"):
        smallest_fall(10, Design(base=0.5, alpha=1))


def test_pairs_show_less_than_groups() -> None:
    paired, unpaired = (
        smallest_fall(300, Design(base=0.6, discordant=0.2)),
        smallest_fall(300, Design(base=0.6, is_paired=False)),
    )
    assert paired is not None
    assert unpaired is not None
    assert paired < unpaired


def test_a_rule_that_the_exam_cannot_decide_says_what_it_needs() -> None:
    found = decide(0.02, 100, HALF)
    assert not found.is_decidable
    assert found.num_needed is not None
    assert decide(0.02, found.num_needed, HALF).is_decidable
    assert found.sentence == (
        "an exam that decides a fall of 2 points must be able to show it, got 100 items, which show no fall below "
        f"15.9 points at 80% power: use {found.num_needed} items or more, or allow a fall of 15.9 points"
    )
    # What is printed is rounded up, so that it can be decided; a tenth of a point less cannot.
    assert decide(0.159, 100, HALF).is_decidable
    assert not decide(0.158, 100, HALF).is_decidable


def test_a_rule_that_the_exam_can_decide_needs_no_more() -> None:
    found = decide(0.3, 100, HALF)
    assert found.is_decidable
    assert found.num_needed == 100
    assert found.sentence.startswith("an exam of 100 items shows a fall of 30 points with a power of ")


def test_an_exam_that_shows_nothing_names_only_the_items() -> None:
    found = decide(0.5, 3, Design(base=0.5))
    assert found.smallest is None
    assert found.sentence.endswith(f"3 items, which show no fall at 80% power: use {found.num_needed} items or more")


def test_a_rule_beyond_any_exam_has_no_number() -> None:
    assert items_needed(1e-5, Design(base=0.5, is_paired=False)) is None


def test_everything_right_then_everything_wrong() -> None:
    design = Design(base=1.0, is_paired=False)
    assert [power_of(number, 1.0, design) for number in (3, 4)] == [0.0, 1.0]


def test_what_is_out_of_range_is_refused_together() -> None:
    with pytest.raises(InputError) as refused:
        decide(0.9, 0, Design(base=0.5, discordant=1.5))
    assert len(refused.value.problems) == 3
    with pytest.raises(InputError, match="discordant must be left out where items are not paired, got 0.2"):
        smallest_fall(10, Design(base=0.5, is_paired=False, discordant=0.2))
    with pytest.raises(InputError, match="base must be a share above 0"):
        smallest_fall(10, Design(base=0.0))
