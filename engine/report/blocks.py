"""The parts of the page between its heading and its transcripts: tables and plots of what was counted. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from engine.metrics import STATUSES
from engine.page.markup import NONE, Html, element, heading, joined, paragraph, table
from engine.page.plots import Series, bars, histogram, lines
from engine.page.spread import Spread
from engine.page.ticks import bins_of, time_unit
from engine.panel import duration
from engine.report.tally import CallTally, Tally
from engine.report.timeline import PHASE, Timeline
from engine.tables import MISSING, percent
from engine.transcript import one_line

MAX_ROWS: Final = 40
MAX_PLOTS: Final = 24
MIN_POINTS: Final = 3
"""Fewer lines of metrics than this are no line."""
_RATES: Final = (
    ("Tokens out per second", "tokens/s", (("tokens/completion_per_s", ""),)),
    ("Tokens in per second", "tokens/s", (("tokens/prompt_per_s", "all"), ("tokens/cached_per_s", "from caches"))),
    ("Episodes that ended", "episodes", tuple((f"episodes/ended/{status}", status) for status in STATUSES)),
    ("Live dialogues", "dialogues", (("episodes/live", "live"), ("episodes/shed", "held back"))),
    ("Seconds to an answer", "s", (("calls/latency_s/p50", "median"), ("calls/latency_s/p99", "99 %"))),
)


def plots(found: Iterable[Html]) -> Html:
    """Return plots side by side, as many as there is room for."""
    drawn = [one for one in found if one]
    return element("div", *drawn, class_="plots") if drawn else NONE


def over_time(timeline: Timeline) -> Html:
    """Return what `metrics.jsonl` says: rates and counts over the time played, and how long phases took."""
    phases = [(phase, seconds) for phase, seconds in timeline.phase_seconds().items() if seconds > 0]
    spent = bars("Time of dialogues by phase", [(phase, seconds, duration(seconds)) for phase, seconds in phases])
    if timeline.num_lines < MIN_POINTS:
        drawn = [spent]
        note = f"Nothing is drawn over time: metrics.jsonl has {timeline.num_lines} lines, which takes {MIN_POINTS}."
    else:
        staying = [(f"{PHASE}{phase}", phase) for phase, _ in sorted(phases, key=lambda one: -one[1])]
        wanted = (*_RATES, ("Live dialogues by phase", "dialogues", tuple(staying)))
        drawn = [*(_timed(timeline, title, unit, gauges) for title, unit, gauges in wanted), spent]
        paused = "; dotted lines: resumed after a pause" if timeline.resumed_s else ""
        note = f"Time is that of being played{paused}. Rates are means of the last 30 s."
    return joined([heading(2, "Over time"), paragraph(note, "dim"), plots(drawn)])


def _timed(timeline: Timeline, title: str, y_label: str, gauges: Sequence[tuple[str, str]]) -> Html:
    unit, name = time_unit(timeline.played_s)
    found = [_scaled(timeline.series(gauge, label), unit) for gauge, label in gauges]
    # What never happened is no line, but the first one is what the plot is of.
    shown = [one for place, one in enumerate(found) if not place or any(y for _, y in one.points)]
    rules = [seconds / unit for seconds in timeline.resumed_s]
    return lines(title, shown, x_label=f"played ({name})", y_label=y_label, rules=rules)


def _scaled(series: Series, unit: float) -> Series:
    return msgspec.structs.replace(series, points=[(x / unit, y) for x, y in series.points])


def by_role(tally: Tally, models: Mapping[str, str]) -> Html:
    """Return calls, tokens and words of each role. `models` maps roles to what plays them."""
    if not tally.roles:
        return NONE
    heads = ("role", "model", "calls", "tokens in", "cached", "tokens out", "cut off", "words per turn", "s per call")
    rows = [
        (role, models.get(role, MISSING), *_costs(found), spread(tally.words.get(role)), spread(found.latency_s))
        for role, found in _largest(tally.roles)
    ]
    tokens = [(role, found.completion_tokens, f"{found.completion_tokens:,}") for role, found in _largest(tally.roles)]
    words = [_histogram(f"Words per turn, {role}", found, "words", "turns") for role, found in tally.words.items()]
    drawn = plots([bars("Tokens out by role", tokens), *words[:MAX_PLOTS]])
    return joined([heading(2, "By role"), table(heads, rows, numbers=heads[2:]), drawn])


def by_purpose(tally: Tally) -> Html:
    """Return what calls were for."""
    if not tally.purposes:
        return NONE
    heads = ("purpose", "calls", "tokens in", "cached", "tokens out", "cut off", "s per call")
    rows = [(purpose, *_costs(found), spread(found.latency_s)) for purpose, found in _largest(tally.purposes)]
    return joined([heading(2, "By purpose"), table(heads, rows, numbers=heads[1:])])


def _largest(found: Mapping[str, CallTally]) -> list[tuple[str, CallTally]]:
    return sorted(found.items(), key=lambda one: -one[1].completion_tokens)[:MAX_ROWS]


def _costs(found: CallTally) -> tuple[str, ...]:
    cached = percent(found.cached_tokens, found.prompt_tokens)
    cut_off = percent(found.num_cut_off, found.num)
    return (f"{found.num:,}", f"{found.prompt_tokens:,}", cached, f"{found.completion_tokens:,}", cut_off)


def of_episodes(tally: Tally) -> Html:
    """Return how long episodes are, and the protocol's own figures of them."""
    drawn = [
        _histogram("Turns per episode", tally.num_turns, "turns"),
        _histogram("Seconds per episode", tally.duration_s, "s"),
        *(_histogram(one_line(name), found, "") for name, found in tally.facts.items()),
        *(_histogram(one_line(name), found, "", "values") for name, found in tally.histograms.items()),
    ]
    heads = ("figure", "values", "mean", "least", "10 %", "median", "90 %", "most")
    rows = [(name, *_cells(found)) for name, found in [*tally.facts.items(), *tally.histograms.items()][:MAX_ROWS]]
    figures = table(heads, rows, numbers=heads[1:]) if rows else NONE
    missing = ", ".join(f"{number:,} {name}" for name, number in tally.missing.most_common() if number)
    lacking = paragraph(f"Missing values: {missing or 'none'}.")
    shown = [one for one in drawn if one][:MAX_PLOTS]
    return joined([heading(2, "Completed episodes"), lacking, figures, plots(shown)]) if shown else NONE


def _histogram(title: str, found: Spread, x_label: str, y_label: str = "episodes") -> Html:
    """Return a histogram of values that differ; those that are all one are a row of the table."""
    if found.num < 2 or found.low == found.high:
        return NONE
    sampled = f", {len(found.values):,} of {found.num:,}" if found.num > len(found.values) else ""
    return histogram(title + sampled, bins_of(found.values), x_label=x_label, y_label=y_label)


def _cells(found: Spread) -> tuple[str, ...]:
    ends = (found.mean, found.low, found.quantile(0.1), found.quantile(0.5), found.quantile(0.9), found.high)
    return (f"{found.num:,}", *map(figure, ends))


def spread(found: Spread | None) -> str:
    """Return the median with the range that holds four fifths of the values."""
    if found is None or not found.num:
        return MISSING
    low, median, high = (figure(found.quantile(share)) for share in (0.1, 0.5, 0.9))
    return f"{median} ({low} to {high})"


def figure(value: float | None) -> str:
    """Return a figure for people."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
