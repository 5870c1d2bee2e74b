"""Plots: where things stand, what is said to those who do not see them, and no figure that breaks them."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.page.markup import NONE, page
from engine.page.plots import MAX_BARS, MAX_SERIES, Series, bars, histogram, lines
from engine.page.ticks import bins_of
from tests.pages import PAYLOADS, read_page

ODD = st.none() | st.floats() | st.floats(-10, 10)


def test_a_line_stands_where_its_figures_are() -> None:
    drawn = lines("Speed", [Series(points=[(0, 0), (50, 2000), (100, 4000)])], x_label="s", y_label="tokens/s")
    # The axes go from 0 to 100 and from 0 to 4,000, on 50..426 and 178..12 of the picture.
    assert 'points="50,178 238,95 426,12"' in drawn
    assert "<desc>from 0 to 4e+03 tokens/s, highest at 100 s.</desc>" in drawn
    read = read_page(page("x", drawn))
    assert read.texts["text"] == [
        "0",
        "1,000",
        "2,000",
        "3,000",
        "4,000",
        "0",
        "20",
        "40",
        "60",
        "80",
        "100",
        *("s", "↑ tokens/s"),
    ]
    assert read.texts["figcaption"] == ["Speed"]


def test_a_gap_breaks_the_line_and_a_lone_point_is_a_dot() -> None:
    drawn = lines("x", [Series(points=[(0, 1), (1, 2), (2, None), (3, 3), (4, math.nan), (5, 1), (6, 1)])])
    assert drawn.count("<polyline") == 2 and drawn.count("<circle") == 1


def test_several_lines_have_a_legend_and_a_kind_each() -> None:
    one, other = Series(label="in", points=[(0, 1), (1, 2)]), Series(label="out", points=[(0, 3), (1, 4)])
    drawn = lines("Tokens", [one, other, Series(label="unknown", points=[(0, None)])])
    assert read_page(page("x", drawn)).texts["li"] == ["in", "out"]
    assert 'class="line s0"' in drawn and 'class="line s1"' in drawn and "s2" not in drawn
    many = lines("x", [Series(label=str(number), points=[(0, 1), (1, 2)]) for number in range(9)])
    assert many.count("<polyline") == MAX_SERIES


def test_an_axis_holds_zero_unless_it_need_not() -> None:
    points = [Series(points=[(0, 2.0), (1, 2.4)])]
    assert read_page(page("x", lines("x", points))).texts["text"][0] == "0.0"
    assert read_page(page("x", lines("x", points, is_from_zero=False))).texts["text"][:2] == ["2.0", "2.1"]


def test_rules_stand_inside_the_axis_only() -> None:
    drawn = lines("x", [Series(points=[(0, 1), (10, 2)])], rules=[5, 50])
    assert drawn.count('class="rule"') == 1 and 'x1="238"' in drawn


def test_intervals_are_drawn_and_belong_to_the_axis() -> None:
    drawn = lines("x", [Series(points=[(0, 0.3)], intervals=[(0, 0.2, 0.9), (0, math.nan, 1)])], is_dotted=True)
    assert drawn.count('class="interval s0"') == 1 and ">1.0<" in drawn


def test_a_histogram_is_as_high_as_its_bins() -> None:
    drawn = histogram("Turns", bins_of([1, 1, 2]), x_label="turns")
    boxes = [
        tuple(map(float, found))
        for found in re.findall(r'<rect x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)"', drawn)
    ]
    assert boxes == [(50.5, 12, 187, 166), (238.5, 95, 187, 83)]
    assert "<desc>3 episodes from 0.5 to 2.5 turns; most, 2, from 0.5 to 1.5.</desc>" in drawn


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bars("By role", [("therapist", 50, "fifty"), ("patient", 25, "25"), ("judge", -1, "-1")])
    assert [float(width) for width in re.findall(r'width="([\d.]+)"', drawn)] == [212, 106, 0]
    assert "<desc>therapist fifty; patient 25; judge -1.</desc>" in drawn
    assert "6 more are not drawn" in bars("x", [(str(at), 1, "1") for at in range(MAX_BARS + 6)])


@pytest.mark.parametrize(
    "drawn",
    [lines("x", []), lines("x", [Series(points=[])]), histogram("x", []), bars("x", []), bars("x", [("a", 0, "0")])],
)
def test_nothing_to_draw_is_no_plot(drawn: str) -> None:
    assert drawn == NONE


@given(st.lists(st.lists(st.tuples(st.floats(-1e6, 1e6), ODD), max_size=5), max_size=3), st.lists(ODD, max_size=9))
def test_no_figure_breaks_a_plot(figures: list[list[tuple[float, float | None]]], values: list[float | None]) -> None:
    series = [Series(label="l", points=sorted(points, key=lambda one: one[0])) for points in figures]
    drawn = lines("x", series), bars("x", [("n", one, "v") for one in values if one is not None])
    text = page("x", *drawn, histogram("x", bins_of([one for one in values if one is not None])))
    assert not re.search(r'="[^"]*(nan|inf)[^"]*"', text)
    read_page(text)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_labels_stay_labels(payload: str) -> None:
    one = Series(label=payload, points=[(0, 1), (1, 2)])
    drawn = lines(payload, [one, one], x_label=payload, y_label=payload), bars(payload, [(payload, 1, payload)])
    read_page(page("x", *drawn, histogram(payload, bins_of([1, 2]), x_label=payload, y_label=payload)))
