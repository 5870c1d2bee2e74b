"""A comparison of dialogues as tables and a plot. Names of runs are shown as they are: whoever prints cleans them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from engine.pictures import canvas_of, plain_label, svg_of
from engine.protocol import Report, Section
from engine.tables import MISSING
from eval.dialogues.comparison import (
    COSINES,
    FIGURES,
    DialogueComparison,
    Estimate,
    FigureComparison,
    RunComparison,
    RunFigures,
    cell,
)
from eval.statistics.intervals import Interval

HEADS: Final = ("figure", "cases", "first", "second", "difference", "p", "Holm p", "test", "verdict")
MAX_TURNS: Final = 12
"""Turns in the table of disclosure; a longer curve is shown in steps."""
NOTE: Final = (
    "Means over cases with their 95 % interval (bootstrap). Disclosure: the share in percent of the words of content "
    "of the case's own story that the patient has said; it counts words, not meaning. Decoded similarity: cosine of "
    "the last decode with its gold. Label: the diagnosis names the case's condition, in percent; none named is wrong. "
    "The interval of a difference is drawn from the cases, too, or Tango's where the test is McNemar's."
)


def report_of(found: DialogueComparison, notes: Sequence[str] = ()) -> Report:
    """Return the tables: the runs, the disclosure by turn, and each run against the first. `notes` are shown on top."""
    sections = [_runs(found, notes), _curves(found.runs), *(_comparison(one, found.turn) for one in found.comparisons)]
    figures = {**msgspec.to_builtins(found), "notes": [*notes, *found.notes]}
    return Report(figures={"dialogues": figures}, sections=sections)


def curve_picture(runs: Sequence[RunFigures]) -> str:
    """Return the disclosure by patient turn as an SVG element. Raises InputError without matplotlib."""
    canvas, axes = canvas_of(4.0, 6.4)
    for run in runs:
        turns = range(1, len(run.curve) + 1)
        axes.plot(turns, [100 * share for share in run.curve], marker="o", markersize=3, label=plain_label(run.name))
    axes.set_xlabel("patient turn")
    axes.set_ylabel("words of the story said (%)")
    axes.set_ylim(bottom=0)
    axes.legend()
    return svg_of(canvas)


def _runs(found: DialogueComparison, notes: Sequence[str]) -> Section:
    runs = found.runs
    rows = [
        _row("protocol", runs, lambda run: run.protocol),
        _row("cases", runs, lambda run: f"{run.num_cases:,}"),
        _row("dialogues", runs, lambda run: f"{run.num_episodes:,}"),
        _row("failed", runs, lambda run: f"{run.num_failed:,}"),
        *(row for name in FIGURES for row in _figure_rows(name, found.turn, runs)),
        _row("no label", runs, lambda run: f"{run.num_unlabelled:,}" if "label_accuracy" in run.figures else MISSING),
        _row("exchanges", runs, lambda run: f"{run.exchanges:.1f}"),
        _row("guided exchanges", runs, lambda run: MISSING if run.guided is None else f"{run.guided:.1f}"),
        _row("missing values", runs, lambda run: f"{sum(run.missing.values()):,}"),
    ]
    note = "\n".join([*notes, *found.notes, NOTE])
    columns = ("", *(run.name for run in runs))
    return Section(title="Dialogues side by side", columns=columns, rows=tuple(rows), note=note)


def _figure_rows(figure: str, turn: int, runs: Sequence[RunFigures]) -> Iterator[tuple[str, ...]]:
    """Yield the row of a figure, and below decoded similarity those of its fields."""
    yield _row(heading(figure, turn), runs, lambda run: _estimate(figure, run.figures.get(figure)))
    for field in _fields(runs) if figure in COSINES else ():
        yield _row(f"- {field.replace('_', ' ')}", runs, _field_cell(field))


def heading(figure: str, turn: int) -> str:
    """Return what a figure is called in tables."""
    places = {"disclosure_first": "disclosure, first turn", "disclosure": f"disclosure, turn {turn}"}
    return places.get(figure, figure.replace("_", " "))


def _fields(runs: Sequence[RunFigures]) -> list[str]:
    return list(dict.fromkeys(field for run in runs for field in run.fields))


def _row(head: str, runs: Sequence[RunFigures], text: Callable[[RunFigures], str]) -> tuple[str, ...]:
    return (head, *map(text, runs))


def _field_cell(field: str) -> Callable[[RunFigures], str]:
    return lambda run: _estimate(field, run.fields.get(field))


def _estimate(figure: str, found: Estimate | None) -> str:
    if found is None:
        return MISSING
    return cell(figure, found.value) + (f" {_range(figure, found.interval)}" if found.interval is not None else "")


def _range(figure: str, interval: Interval, sign: str = "") -> str:
    return f"({cell(figure, interval.low, sign)} to {cell(figure, interval.high, sign)})"


def _curves(runs: Sequence[RunFigures]) -> Section:
    most = max(len(run.curve) for run in runs)
    shown = range(1, most + 1, -(-most // MAX_TURNS) or 1)
    rows = tuple(
        (str(turn), *(f"{100 * run.curve[turn - 1]:.1f}" if turn <= len(run.curve) else MISSING for run in runs))
        for turn in shown
    )
    columns = ("patient turn", *(run.name for run in runs))
    note = "A dialogue that has ended stays where it was."
    return Section(title="Disclosure by turn, in percent", columns=columns, rows=rows, note=note)


def _comparison(one: RunComparison, turn: int) -> Section:
    known = {figure.figure: figure for figure in one.figures}
    rows = tuple(_cells(name, known.get(name), turn) for name in FIGURES)
    notes = []
    if one.fields:
        notes.append(f"Decoded similarity is over what both decoded: {', '.join(one.fields)}.".replace("_", " "))
    if one.num_left_out:
        notes.append(f"{one.num_left_out} cases that only one of them has are left out.")
    return Section(title=f"{one.first} against {one.second}", columns=HEADS, rows=rows, note=" ".join(notes))


def _cells(figure: str, found: FigureComparison | None, turn: int) -> tuple[str, ...]:
    head = heading(figure, turn)
    if found is None:
        return (head, *[MISSING] * (len(HEADS) - 1))
    one: Any = found.difference
    return (
        head,
        str(one.num_first),
        cell(figure, one.first),
        cell(figure, one.second),
        f"{cell(figure, one.value, '+')} {_range(figure, one.interval, '+')}",
        f"{one.p:.3g}",
        f"{found.holm_p:.3g}",
        one.test,
        found.verdict,
    )
