"""Plots as inline SVG: lines over time, bars, histograms. The same figures give the same bytes; pure.

Colors, sizes of type and dashes are the page's style; every label is text that is cleaned and escaped. A plot without
anything to draw is `NONE`.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from engine.page.markup import NONE, Html, element, joined, text
from engine.page.ticks import Bin, is_drawable, labels, ticks
from engine.transcript import one_line

WIDTH: Final = 440
HEIGHT: Final = 220
LEFT: Final = 50
RIGHT: Final = 14
TOP: Final = 12
BOTTOM: Final = 42
MAX_SERIES: Final = 6
MAX_BARS: Final = 24
BAR_HEIGHT: Final = 20
NAME_CHARS: Final = 24
NAME_WIDTH: Final = 150
VALUE_WIDTH: Final = 78
NUM_X_TICKS: Final = 6


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One line: (x, y) in order of x, None where there is no figure (the line breaks); (x, low, high) of intervals."""

    label: str = ""
    points: Sequence[tuple[float, float | None]]
    intervals: Sequence[tuple[float, float, float]] = ()


class _Axis(msgspec.Struct, frozen=True):
    """Round marks, and where on the picture they stand: from `start` to `end`, in its units."""

    marks: list[float]
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return where a value stands, to a tenth of a unit."""
        share = (value - self.marks[0]) / (self.marks[-1] - self.marks[0])
        return round(self.start + share * (self.end - self.start), 1)


def lines(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "",
    y_label: str = "",
    rules: Sequence[float] = (),
    is_dotted: bool = False,
    is_whole: bool = False,
    is_from_zero: bool = True,
) -> Html:
    """Return lines, the first `MAX_SERIES` of them, with a legend where there are several.

    `rules` are places on the x axis where a vertical line stands; `is_dotted` marks every point, `is_whole` says that
    nothing lies between whole numbers on the x axis, `is_from_zero` that the y axis holds zero.
    """
    drawn = [one for one in series if any(is_drawable(y) for _, y in one.points)][:MAX_SERIES]
    if not drawn:
        return NONE
    xs = [x for one in drawn for x, y in one.points if is_drawable(y)]
    ys = [y for one in drawn for _, y in one.points if y is not None and is_drawable(y)]
    ys += [end for one in drawn for _, *ends in one.intervals for end in ends if is_drawable(end)]
    across = _Axis(ticks(min(xs), max(xs), NUM_X_TICKS, is_whole=is_whole), LEFT, WIDTH - RIGHT)
    ys += [0.0] if is_from_zero else []
    up = _Axis(ticks(min(ys), max(ys)), HEIGHT - BOTTOM, TOP)
    parts = [_frame(across, up, x_label, y_label)]
    parts += [_rule(across.at(x)) for x in rules if across.marks[0] <= x <= across.marks[-1]]
    for place, one in enumerate(drawn):
        parts += _line(one, across, up, f"s{place}", is_dotted)
    names = [one.label for one in drawn] if len(drawn) > 1 else []
    return _figure(title, _told(drawn, x_label, y_label), HEIGHT, joined(parts), names)


def _line(one: Series, across: _Axis, up: _Axis, kind: str, is_dotted: bool) -> list[Html]:
    """Return a path for each stretch without a gap; stretches of one point are dots."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for x, y in one.points:
        if y is not None and is_drawable(y):
            stretches[-1].append((across.at(x), up.at(y)))
        elif stretches[-1]:
            stretches.append([])
    parts = [
        element("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in stretch), class_=f"line {kind}")
        for stretch in stretches
        if len(stretch) > 1
    ]
    for x, low, high in one.intervals:
        if is_drawable(low) and is_drawable(high):
            parts.append(_segment(across.at(x), up.at(low), across.at(x), up.at(high), f"interval {kind}"))
    dots = [point for stretch in stretches for point in stretch if is_dotted or len(stretch) == 1]
    return parts + [element("circle", cx=f"{x:g}", cy=f"{y:g}", r="3", class_=f"mark {kind}") for x, y in dots]


def histogram(title: str, bins: Sequence[Bin], *, x_label: str = "", y_label: str = "episodes") -> Html:
    """Return adjoining bars, as high as there are values in each bin."""
    if not bins:
        return NONE
    low, high = bins[0].low, bins[-1].high
    marks = ticks(low, high, NUM_X_TICKS)
    # Marks enclose the bins; the axis ends where the bins do, or whole numbers would stand between empty halves.
    across = _Axis([low, high], LEFT, WIDTH - RIGHT)
    up = _Axis(ticks(0.0, max(one.num for one in bins), is_whole=True), HEIGHT - BOTTOM, TOP)
    parts = [_frame(across, up, x_label, y_label, [mark for mark in marks if low <= mark <= high])]
    for one in bins:
        if one.num:
            left, right, top = across.at(one.low), across.at(one.high), up.at(one.num)
            tip = element("title", text(f"{one.low:g} to {one.high:g}: {one.num:,}"))
            parts.append(_box(left + 0.5, top, max(right - left - 1, 1), HEIGHT - BOTTOM - top, tip))
    most = max(bins, key=lambda one: one.num)
    told = f"{sum(one.num for one in bins):,} {y_label} from {low:g} to {high:g} {x_label}".rstrip()
    return _figure(title, f"{told}; most, {most.num:,}, from {most.low:g} to {most.high:g}.", HEIGHT, joined(parts))


def bars(title: str, items: Sequence[tuple[str, float, str]]) -> Html:
    """Return a bar across for each (name, value, how the value reads), the first `MAX_BARS` of them.

    Values below zero have no bar.
    """
    drawn = [item for item in items if is_drawable(item[1])][:MAX_BARS]
    longest = max((value for _, value, _ in drawn), default=0.0)
    if longest <= 0:
        return NONE
    room = WIDTH - NAME_WIDTH - VALUE_WIDTH
    parts = []
    for place, (name, value, reading) in enumerate(drawn):
        top = place * BAR_HEIGHT
        width = round(max(room * value / longest, 0.0), 1)
        parts += [
            _words(NAME_WIDTH - 8, top + 14, one_line(name, NAME_CHARS), "end value"),
            _box(NAME_WIDTH, top + 3, width, BAR_HEIGHT - 6),
            _words(NAME_WIDTH + width + 6, top + 14, reading, "value"),
        ]
    told = "; ".join(f"{one_line(name)} {reading}" for name, _, reading in drawn)
    left_out = f"; {len(items) - len(drawn)} more are not drawn" if len(items) > len(drawn) else ""
    return _figure(title, f"{told}{left_out}.", len(drawn) * BAR_HEIGHT + 4, joined(parts))


def _figure(title: str, told: str, height: int, drawing: Html, names: Sequence[str] = ()) -> Html:
    picture = element(
        "svg",
        element("title", text(title)),
        element("desc", text(told)),
        drawing,
        role="img",
        viewBox=f"0 0 {WIDTH} {height}",
        xmlns="http://www.w3.org/2000/svg",
    )
    legend = [element("li", text(one_line(name)), class_=f"s{place}") for place, name in enumerate(names)]
    below = element("ul", *legend, class_="legend") if legend else NONE
    return element("figure", element("figcaption", text(title)), below, picture)


def _frame(across: _Axis, up: _Axis, x_label: str, y_label: str, x_marks: Sequence[float] | None = None) -> Html:
    """Return grid lines with their labels, and what the axes show."""
    parts = []
    for mark, label in zip(up.marks, labels(up.marks), strict=True):
        y = up.at(mark)
        parts += [_segment(LEFT, y, WIDTH - RIGHT, y, "grid"), _words(LEFT - 6, y + 4, label, "end")]
    shown = across.marks if x_marks is None else x_marks
    for mark, label in zip(shown, labels(shown) if shown else [], strict=True):
        parts.append(_words(across.at(mark), HEIGHT - BOTTOM + 15, label, "middle"))
    parts.append(_words(WIDTH - RIGHT, HEIGHT - 6, x_label, "end"))
    parts.append(_words(4, HEIGHT - 6, f"↑ {y_label}" if y_label else "", "start"))
    return joined(parts)


def _rule(x: float) -> Html:
    return _segment(x, TOP, x, HEIGHT - BOTTOM, "rule")


def _segment(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return element("line", x1=f"{x1:g}", y1=f"{y1:g}", x2=f"{x2:g}", y2=f"{y2:g}", class_=kind)


def _box(x: float, y: float, width: float, height: float, *parts: Html) -> Html:
    sizes = {"x": x, "y": y, "width": width, "height": height}
    return element("rect", *parts, **{name: f"{value:g}" for name, value in sizes.items()}, class_="bar")


def _words(x: float, y: float, words: str, kind: str) -> Html:
    return element("text", text(words), x=f"{x:g}", y=f"{y:g}", class_=kind) if words else NONE


def _told(drawn: Sequence[Series], x_label: str, y_label: str) -> str:
    """Return the plot in words, for those who do not see it."""
    sentences = []
    for one in drawn:
        known = [(x, y) for x, y in one.points if y is not None and is_drawable(y)]
        low, high = (pick(y for _, y in known) for pick in (min, max))
        at = next(x for x, y in known if y == high)
        name = f"{one_line(one.label)}: " if one.label else ""
        sentences.append(f"{name}from {low:,.3g} to {high:,.3g} {y_label}, highest at {at:,.3g} {x_label}, ")
    return " ".join(f"{sentence.rstrip(', ')}." for sentence in sentences)
