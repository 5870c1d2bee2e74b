"""Retried episodes against the others: the test is scipy's; degenerate groups have no p."""

import pytest
from scipy.stats import mannwhitneyu

from eval.quality.retried import Groups, difference, mann_whitney


def test_p_is_that_of_the_mann_whitney_test_by_hand() -> None:
    # All of one side lie above the other: U = 0, exact two-sided p = 2 / C(6, 3).
    assert mann_whitney([4.0, 5.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(2 / 20)


def test_p_with_ties() -> None:
    one, other = [1.0, 1.0, 2.0, 5.0] * 5, [1.0, 2.0, 2.0, 3.0] * 5
    assert mann_whitney(one, other) == pytest.approx(mannwhitneyu(one, other).pvalue)


def test_too_few_and_all_equal() -> None:
    assert mann_whitney([1.0], [2.0, 3.0]) is None
    assert mann_whitney([1.0, 1.0], [1.0, 1.0]) == 1.0


def test_differences() -> None:
    groups = Groups(seed=0)
    for value in (1.0, 3.0):
        groups.add({"turns": value, "leaks": 0.0}, is_retried=True)
        groups.add({"turns": value + 4}, is_retried=False)
    (found,) = groups.differences()
    assert groups.num_retried == 2
    assert found == difference("turns", [1.0, 3.0], [5.0, 7.0])
    assert (found.retried, found.others, found.difference) == (2.0, 6.0, -4.0)


def test_without_others_there_is_nothing_to_tell() -> None:
    groups = Groups(seed=0)
    groups.add({"turns": 1.0}, is_retried=True)
    assert groups.differences() == ()
