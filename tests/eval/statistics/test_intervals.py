"""Intervals: published worked examples, agreement with libraries, and what holds for every count."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from statsmodels.stats.contingency_tables import mcnemar

from engine.errors import InputError
from eval.statistics.intervals import (
    Z_95,
    Interval,
    paired_share_interval,
    share_interval,
    unpaired_share_interval,
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, int, int]:
    number = draw(st.integers(1, 400))
    better = draw(st.integers(0, number))
    return better, draw(st.integers(0, number - better)), number


def test_wilson_as_newcombe_printed_it() -> None:
    found = share_interval(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500), st.data())
def test_wilson_agrees_with_scipy(number: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, number))
    found, expected = share_interval(right, number), binomtest(right, number).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert found.contains(right / number)


@pytest.mark.parametrize(
    ("better", "worse", "number", "low", "high"),
    [(1, 7, 21, -0.517, -0.026), (6, 16, 161, -0.1240, -0.0054)],
    ids=["Bentur 2009", "Cavo 2012"],
)
def test_tango_on_the_worked_examples_of_fagerland(
    better: int, worse: int, number: int, low: float, high: float
) -> None:
    digits = 3 if number == 21 else 4
    found = paired_share_interval(better, worse, number)
    assert (round(found.low, digits), round(found.high, digits)) == (low, high)


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_tango_holds_the_estimate_and_turns_with_the_order(counts: tuple[int, int, int]) -> None:
    better, worse, number = counts
    found, turned = paired_share_interval(better, worse, number), paired_share_interval(worse, better, number)
    assert -1 <= found.low <= (better - worse) / number <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low), abs=1e-6)
    assert found.low < found.high


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_tango_excludes_zero_where_mcnemar_rejects(counts: tuple[int, int, int]) -> None:
    better, worse, number = counts
    if better + worse:
        statistic = float(mcnemar([[0, better], [worse, 0]], exact=False, correction=False).statistic)
        if abs(math.sqrt(statistic) - Z_95) > 1e-6:
            assert paired_share_interval(better, worse, number).contains(0) == (math.sqrt(statistic) < Z_95)


def test_where_no_pair_differs_the_interval_is_not_empty() -> None:
    found, wider = paired_share_interval(0, 0, 100), paired_share_interval(0, 0, 20)
    assert -0.05 < found.low < 0 < found.high < 0.05
    assert wider.low < found.low


def test_newcombe_on_his_own_worked_example() -> None:
    found = unpaired_share_interval((48, 80), (56, 70))
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_the_limit_is_that_of_the_normal_distribution() -> None:
    assert pytest.approx(norm.ppf(0.975), abs=1e-12) == Z_95
    assert Interval(0.1, 0.2).contains(0.2)
    assert not Interval(0.1, 0.2).contains(0.21)


@pytest.mark.parametrize(("part", "number"), [(0, 0), (3, 2), (-1, 5)])
def test_counts_that_are_no_share_are_refused(part: int, number: int) -> None:
    with pytest.raises(InputError, match=f"got {part} of {number}"):
        share_interval(part, number)
    with pytest.raises(InputError, match="part of 1 item or more"):
        unpaired_share_interval((1, 2), (part, number))
