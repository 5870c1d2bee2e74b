"""Differences: worked examples, libraries, exact small cases, and which test is used when."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from engine.errors import InputError
from eval.statistics.differences import holm, mcnemar, paired_difference, unpaired_difference
from eval.statistics.intervals import paired_share_interval, unpaired_share_interval

BITS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def test_mcnemar_on_the_worked_example_of_fagerland() -> None:
    assert mcnemar(6, 16) == pytest.approx(0.052479, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_is_the_sign_test_of_the_pairs_that_differ(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected, abs=1e-6)
    assert mcnemar(better, worse) == mcnemar(worse, better)


@given(BITS)
@settings(max_examples=40, deadline=None)
def test_right_or_wrong_is_compared_in_pairs(answers: list[tuple[bool, bool]]) -> None:
    first, second = [float(a) for a, _ in answers], [float(b) for _, b in answers]
    found = paired_difference(first, second, resamples=50)
    better, worse = answers.count((False, True)), answers.count((True, False))
    assert (found.test, found.is_paired, found.num_better, found.num_worse) == ("McNemar, exact", True, better, worse)
    assert found.value == pytest.approx(sum(second) / len(second) - sum(first) / len(first))
    assert found.interval == paired_share_interval(better, worse, len(answers))
    assert found.interval.contains(found.value)
    assert found.bootstrap.contains(found.value)
    assert found.discordant == (better + worse) / len(answers)
    table = [[0, better], [worse, 0]]
    assert found.p == pytest.approx(float(statsmodels_mcnemar(table).pvalue) if better + worse else 1.0, abs=1e-6)


def test_pairs_show_what_groups_do_not() -> None:
    first = [1.0] * 50 + [0.0] * 50
    second = [1.0] * 50 + [1.0] * 8 + [0.0] * 42
    assert paired_difference(first, second).p < 0.01
    assert unpaired_difference(first, second).p > 0.2


def test_scores_are_tested_by_flipping_every_sign() -> None:
    gains = [0.3, 0.1, -0.2, 0.4, 0.25, 0.5]
    first = [0.2] * 6
    found = paired_difference(first, [0.2 + gain for gain in gains])
    flips = [
        abs(sum(s * g for s, g in zip(signs, gains, strict=True))) for signs in itertools.product((-1, 1), repeat=6)
    ]
    assert found.p == pytest.approx(sum(total >= sum(gains) - 1e-9 for total in flips) / 64, abs=1e-6)
    assert found.test == "permutation of signs"
    assert found.interval == found.bootstrap
    assert (found.num_better, found.num_worse) == (5, 1)


def test_groups_are_tested_by_every_split() -> None:
    first, second = [1.0, 2.0, 4.0], [3.0, 5.0, 6.5]
    values = first + second
    observed = abs(np.mean(second) - np.mean(first))
    splits = [
        abs(2 * sum(values[n] for n in chosen) - sum(values)) / 3 for chosen in itertools.combinations(range(6), 3)
    ]
    found = unpaired_difference(first, second)
    assert found.p == pytest.approx(np.mean([split >= observed - 1e-9 for split in splits]), abs=1e-6)
    assert (found.test, found.is_paired, found.discordant) == ("permutation of groups, unpaired", False, None)


def test_different_items_are_compared_by_fisher_and_newcombe() -> None:
    first, second = [1.0] * 48 + [0.0] * 32, [1.0] * 56 + [0.0] * 14
    found = unpaired_difference(first, second)
    assert found.test == "Fisher, exact, unpaired"
    assert found.p == pytest.approx(0.00866, abs=5e-3)
    assert found.value == pytest.approx(0.2)
    assert found.interval == unpaired_share_interval((48, 80), (56, 70))
    assert found.bootstrap.low == pytest.approx(found.interval.low, abs=0.03)
    assert (found.num_first, found.num_second) == (80, 70)


def test_groups_are_not_drawn_in_step() -> None:
    scores = list(np.random.default_rng(1).random(100))
    found = unpaired_difference(scores, scores, resamples=2000).bootstrap
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(scores) * (2 / 100) ** 0.5, rel=0.1)


def test_large_samples_are_drawn_with_the_seed() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.random(60), draw.random(60)
    found = paired_difference(list(first), list(second), seed=3)
    assert found == paired_difference(list(first), list(second), seed=3)
    assert found.bootstrap != paired_difference(list(first), list(second), seed=4).bootstrap


def test_equal_scores_do_not_differ() -> None:
    found = paired_difference([0.5, 0.7, 0.2], [0.5, 0.7, 0.2])
    assert (found.value, found.p) == (0, 1)
    assert (found.interval.low, found.interval.high) == (0, 0)


@pytest.mark.parametrize("size", [1, 2])
def test_the_smallest_exams_are_compared(size: int) -> None:
    assert paired_difference([0.0] * size, [1.0] * size).p == 2 ** (1 - size)
    assert unpaired_difference([0.0] * size, [1.0] * size).p > 0.3
    assert unpaired_difference([0.1] * size, [0.3] * size).p > 0.3


def test_holm_by_hand_and_against_a_stricter_family() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06), abs=1e-9)
    assert holm([]) == ()
    assert holm([0.2]) == (0.2,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=10, deadline=None)
def test_holm_raises_every_p_at_least_to_the_false_discovery_rate(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= raised <= min(1, p * len(p_values)) + 1e-9 for p, raised in zip(p_values, corrected, strict=True))
    assert all(a >= b - 1e-9 for a, b in zip(corrected, false_discovery_control(p_values), strict=True))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="got 2 and 1: pair them by id"):
        paired_difference([1, 0], [1])
    with pytest.raises(InputError) as refused:
        unpaired_difference([], [float("nan")])
    assert len(refused.value.problems) == 2
