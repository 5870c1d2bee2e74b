"""Axes: marks are round, enclose what is drawn, and read apart; bins hold every value once."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.page.ticks import MAX_DRAWN, Bin, bins_of, is_drawable, labels, ticks, time_unit

VALUES = st.floats(-1e12, 1e12) | st.integers(-1000, 1000).map(float)


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 34, [0, 10, 20, 30, 40]),
        (0.13, 0.97, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3, 4, [-4, -2, 0, 2, 4]),
        (5, 5, [4.4, 4.6, 4.8, 5, 5.2, 5.4, 5.6]),
        (0, 0, [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6]),
    ],
)
def test_marks_are_round(low: float, high: float, marks: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(marks)


def test_whole_marks_have_no_fractions_between() -> None:
    assert ticks(0, 2, is_whole=True) == [0, 1, 2]
    assert ticks(0, 0, is_whole=True) == [-1, 0, 1]


@given(VALUES, VALUES, st.booleans())
def test_marks_enclose_both_ends_and_are_equally_far_apart(one: float, other: float, is_whole: bool) -> None:
    low, high = sorted((one, other))
    assume(high - low > 1e-9 * max(abs(low), abs(high), 1e-6))
    marks = ticks(low, high, is_whole=is_whole)
    slack = 1e-6 * (marks[1] - marks[0])
    assert 2 <= len(marks) <= 9
    assert marks[0] <= low + slack and high - slack <= marks[-1]
    assert all(b - a == pytest.approx(marks[1] - marks[0], rel=1e-3) for a, b in zip(marks, marks[1:], strict=False))
    assert not is_whole or all(mark == int(mark) for mark in marks)


@given(st.floats(-MAX_DRAWN, MAX_DRAWN), st.floats(-MAX_DRAWN, MAX_DRAWN))
def test_no_range_is_refused(one: float, other: float) -> None:
    marks = ticks(min(one, other), max(one, other))
    assert len(labels(marks)) == len(marks) <= 30


@pytest.mark.parametrize(
    ("marks", "read"),
    [
        ([0, 0.2, 0.4], ["0.0", "0.2", "0.4"]),
        ([0, 2000, 4000], ["0", "2,000", "4,000"]),
        ([0, 50_000, 100_000], ["0", "50k", "100k"]),
        ([0, 500_000, 1_000_000], ["0.0", "0.5M", "1.0M"]),
        ([-2e9, 0, 2e9], ["-2G", "0", "2G"]),
        ([0, 5e-5], ["0.00000", "0.00005"]),
    ],
)
def test_labels_have_one_form(marks: list[float], read: list[str]) -> None:
    assert labels(marks) == read


@pytest.mark.parametrize(("span", "unit"), [(5, "s"), (119, "s"), (600, "min"), (7200, "h"), (400_000, "days")])
def test_a_span_has_the_unit_that_suits_it(span: float, unit: str) -> None:
    assert time_unit(span)[1] == unit


def test_whole_numbers_have_a_bin_each() -> None:
    assert bins_of([1, 3, 3]) == [Bin(0.5, 1.5, 1), Bin(1.5, 2.5, 0), Bin(2.5, 3.5, 2)]


def test_fractions_have_round_bins_and_the_last_one_holds_its_end() -> None:
    assert bins_of([0.0, 0.05, 1.0]) == [
        Bin(low=pytest.approx(0.1 * at), high=pytest.approx(0.1 * (at + 1)), num={0: 2, 9: 1}.get(at, 0))
        for at in range(10)
    ]


@given(st.lists(VALUES, max_size=50))
def test_bins_hold_every_value_once(values: list[float]) -> None:
    bins = bins_of([*values, math.nan, math.inf])
    assert sum(one.num for one in bins) == len(values)
    assert all(a.high == b.low for a, b in zip(bins, bins[1:], strict=False))
    assert len(bins) <= 40


def test_what_has_no_place_is_said_so() -> None:
    assert [is_drawable(value) for value in (None, math.nan, -math.inf, 1e16, 0.0, -1e15)] == [
        *(False, False, False, False, True, True)
    ]


@pytest.mark.parametrize("least", [5e-324, 1e-310, 1e-300, 1e-13])
def test_what_hardly_differs_is_drawn_as_one_value(least: float) -> None:
    for low, high in ((0.0, least), (-least, least), (least, least)):
        marks = ticks(low, high)
        assert marks[0] <= low and high <= marks[-1] and len(labels(marks)) == len(marks)
