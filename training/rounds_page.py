"""What changed from round to round: a table for the terminal, and `rounds.html` with plots; pure.

Knows the log of rounds, nothing of how rounds are made.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.bill import money, total_cost
from engine.page.markup import NONE, Html, element, joined, paragraph, table
from engine.page.markup import page as whole_page
from engine.page.plots import MAX_SERIES, Series, lines
from engine.tables import MISSING
from engine.transcript import one_line
from training.monitors import RoundFigures
from training.round_log import BEFORE, Decided, ExamChange, Examined, Played, RoundLog, Sampled, Swapped, Trained
from training.rounds import failures_of

HEADS: Final = (
    *("round", "played on", "episodes", "rows", "labels", "top label", "duplicates", "loss", "held-out loss", "exam"),
    *("changed", "cost", "decision"),
)
LABEL_CHARS: Final = 32
CURVES: Final = (
    ("held-out loss", "held_out_loss"),
    ("label entropy (bits)", "label_entropy"),
    ("share of the top label", "top_share"),
    ("share of duplicates", "duplicate_share"),
    ("mean length taught (tokens)", "mean_length"),
    ("diversity gain", "diversity_gain"),
    ("perplexity of held-out rows", "perplexity"),
    ("exam accuracy (95 %)", "exam"),
    ("change of the exam against the round last kept (95 %)", "exam_change"),
)


def rows_of(log: RoundLog) -> list[tuple[str, ...]]:
    """Return one row of cells for each round that has begun, under `HEADS`."""
    return [_row(log, number) for number in numbers_of(log)]


def numbers_of(log: RoundLog) -> list[int]:
    """Return the rounds that have begun."""
    return sorted({step.round for step in log.steps if step.round != BEFORE})


def figures_of(log: RoundLog, number: int) -> RoundFigures | None:
    """Return what is known of a round: the figures of its decision, else of its samples."""
    decided, sampled = log.find(Decided, number), log.find(Sampled, number)
    if decided is not None and decided.figures is not None:
        return decided.figures
    return sampled.figures if sampled is not None else None


def _row(log: RoundLog, number: int) -> tuple[str, ...]:
    played, trained = log.find(Played, number), log.find(Trained, number)
    figures = figures_of(log, number) or RoundFigures(num_rows=0)
    top = "" if figures.top_share is None else f"{one_line(figures.top_label, LABEL_CHARS)} ({figures.top_share:.0%})"
    return (
        str(number),
        (played.version or "base") if played is not None else MISSING,
        str(sum(played.episodes.values())) if played is not None else MISSING,
        str(figures.num_rows),
        _figure(figures.num_labels),
        top or MISSING,
        MISSING if figures.duplicate_share is None else f"{figures.duplicate_share:.0%}",
        _figure(trained.loss if trained is not None else None),
        _losses(trained),
        _exam(log, number),
        _changed(log, number),
        money(total_cost(_costs(log, [number]))),
        _decision(log, number),
    )


def _figure(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"


def _losses(trained: Trained | None) -> str:
    if trained is None or trained.held_out_before is None or trained.held_out_after is None:
        return MISSING
    return f"{trained.held_out_before:.3f} to {trained.held_out_after:.3f}"


def _exam(log: RoundLog, number: int) -> str:
    examined = log.find(Examined, number)
    if examined is None:
        return MISSING
    found, change = examined.score, examined.change
    level = f"{found.accuracy:.0%} ({found.low:.0%} to {found.high:.0%})"
    return level if change is None else f"{level}; {_points(change)} on {_round(change.against)}"


def _points(change: ExamChange) -> str:
    return f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def _round(number: int) -> str:
    return "base" if number == BEFORE else f"round {number}"


def _changed(log: RoundLog, number: int) -> str:
    trained = log.find(Trained, number)
    swaps = [one for one in log.all(Swapped) if trained is not None and one.version == trained.version]
    return f"{swaps[0].num_changed} of {swaps[0].num_probes}" if swaps and swaps[0].num_probes else MISSING


def _costs(log: RoundLog, numbers: Sequence[int]) -> list[float | None]:
    """Return what dialogues and exams of rounds cost; what an endpoint takes for training is not known."""
    return [step.cost for step in log.steps if isinstance(step, Played | Examined) and step.round in numbers]


def _paid(log: RoundLog, numbers: Sequence[int]) -> list[str]:
    """Return the sentence on what was paid, none without prices."""
    whole, before = total_cost(_costs(log, [BEFORE, *numbers])), total_cost(_costs(log, [BEFORE]))
    if whole is None:
        return []
    first = f", {money(before)} of it before the first round" if before is not None else ""
    return [f"Dialogues and exams cost {money(whole)} in the unit of the prices{first}; training is not in it"]


def _decision(log: RoundLog, number: int) -> str:
    decided = log.find(Decided, number)
    if decided is None:
        return MISSING
    reasons = "; ".join([*(breach.sentence for breach in decided.breaches), *failures_of(log, number)])
    return f"{decided.action}: {reasons}" if reasons else decided.action


def page(log: RoundLog, name: str, notes: Sequence[str] = ()) -> str:
    """Return the whole page; `notes` are sentences on the exam."""
    numbers, rows = numbers_of(log), rows_of(log)
    flagged = [place for place, row in enumerate(rows) if row[-1] not in ("keep", MISSING)]
    pictures = [picture for picture in (*_curves(log, numbers), _training(log, numbers)) if picture]
    return whole_page(
        f"Rounds of {name}",
        table(HEADS, rows, flagged=flagged),
        _before(log),
        _paragraphs([*notes, *_measured(log), *_paid(log, numbers)]),
        element("div", *pictures, class_="plots"),
    )


def _before(log: RoundLog) -> Html:
    examined = log.find(Examined, BEFORE)
    if examined is None:
        return NONE
    found = examined.score
    text = f"Exam of the base model: {found.num_right} of {found.num_items} right ({found.low:.0%} to {found.high:.0%})"
    return _paragraphs([f"{text}; the most frequent answer, given always, gets {found.always_one:.0%}"])


def _measured(log: RoundLog) -> list[str]:
    """Return what the last comparison in which items differ says of the exam itself."""
    found = [(one, one.change) for one in log.all(Examined) if one.change is not None and one.change.num_discordant]
    if not found:
        return []
    examined, change = found[-1]
    number = examined.score.num_items
    differ = f"{change.num_discordant / number:.0%} of {number:,} items differ"
    least = change.smallest
    shown = "no fall" if least is None else f"falls of {math.ceil(1000 * least) / 10:.1f} points or more"
    where = f"between {_round(change.against)} and {_round(examined.round)}"
    return [f"As measured {where}, {differ}, at which the exam shows {shown} at 80% power"]


def _paragraphs(sentences: Sequence[str]) -> Html:
    return joined(paragraph(f"{sentence[:1].upper() + sentence[1:]}.") for sentence in sentences)


def _curves(log: RoundLog, numbers: Sequence[int]) -> list[Html]:
    """Return a plot for each figure that any round has."""
    known = {number: msgspec.to_builtins(found) for number in numbers if (found := figures_of(log, number)) is not None}
    plots = []
    for title, name in CURVES:
        points = [(float(number), found[name]) for number, found in known.items()]
        drawn = Series(points=points, intervals=_bars(known, name))
        plots.append(lines(title, [drawn], x_label="round", is_dotted=True, is_whole=True, is_from_zero=False))
    return plots


def _bars(known: Mapping[int, Mapping[str, Any]], name: str) -> list[tuple[int, float, float]]:
    """Return (round, low, high) of a figure that has an interval."""
    ends = {number: (found.get(f"{name}_low"), found.get(f"{name}_high")) for number, found in known.items()}
    return [(number, low, high) for number, (low, high) in ends.items() if low is not None and high is not None]


def _training(log: RoundLog, numbers: Sequence[int]) -> Html:
    """Return the training loss, a line for each of the latest rounds."""
    found = [(number, trained.losses) for number in numbers if (trained := log.find(Trained, number)) is not None]
    drawn = [
        Series(label=f"round {number}", points=[(float(step), loss) for step, loss in enumerate(losses, start=1)])
        for number, losses in found[-MAX_SERIES:]
    ]
    return lines("training loss", drawn, x_label="logged steps", is_whole=True, is_from_zero=False)
