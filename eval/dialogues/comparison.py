"""Runs of the same cases compared: what each came to, and each against the first, paired by case; pure, seeded.

Cases that only one of two runs has are counted and left out. A difference counts as shown only when its p, corrected
for the number of differences tested (Holm), is at most 0.05; otherwise the verdict says what so many cases could have
shown. Differences are second - first, and none of them is called better: whether more disclosure is, depends.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Final

import msgspec

from engine.errors import InputError
from eval.dialogues.disclosure import at_turn
from eval.dialogues.runs import CaseFigures, DialogueRun, by_case, mean_of
from eval.statistics.bootstrap import RESAMPLES, mean_draws, percentiles
from eval.statistics.differences import Difference, holm, paired_difference
from eval.statistics.intervals import ALPHA, Interval
from eval.statistics.power import POWER, Design, smallest_fall

FIGURES: Final = ("disclosure_first", "disclosure", "decoded_similarity", "label_accuracy")
"""What is tested, in the order of the tables."""
COSINES: Final = ("decoded_similarity",)
"""Figures that are no shares."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over cases with its bootstrap interval, None for a single case."""

    value: float
    interval: Interval | None
    num_cases: int


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `curve` is the mean disclosure by patient turn; `figures` and `fields` lack what the run does not have.

    `turns` are the fewest and the most turns of a patient, `exchanges` and `guided` means, `missing` counts values.
    """

    name: str
    protocol: str
    num_cases: int
    num_episodes: int
    num_failed: int
    turns: tuple[int, int]
    curve: tuple[float, ...]
    figures: Mapping[str, Estimate]
    fields: Mapping[str, Estimate]
    num_unlabelled: int
    exchanges: float
    guided: float | None
    missing: Mapping[str, int]


class FigureComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of two runs over the cases that have it in both.

    `spread` is the standard deviation of the cases' differences. `smallest` is the difference that so many cases would
    show at 80 % power, with so many tests made at once; None where none would.
    """

    figure: str
    difference: Difference
    spread: float
    smallest: float | None = None
    holm_p: float = 1.0
    verdict: str = ""


class RunComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs. Decoded similarity is compared over `fields`; `num_left_out` cases are in one of the runs alone."""

    first: str
    second: str
    num_cases: int
    num_left_out: int
    fields: tuple[str, ...]
    figures: tuple[FigureComparison, ...]


class DialogueComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Runs side by side. `turn` is the last patient turn that every dialogue has, at which disclosure is compared."""

    turn: int
    runs: tuple[RunFigures, ...]
    comparisons: tuple[RunComparison, ...]
    notes: tuple[str, ...]


def compare_runs(runs: Sequence[DialogueRun], *, seed: int = 0, resamples: int = RESAMPLES) -> DialogueComparison:
    """Return each run, and each later one against the first.

    Raises InputError for fewer than two runs, runs without a case in common, or an id that is two cases.
    """
    _refuse(runs)
    turn = max(1, min(run.turns[0] for run in runs))
    cases = [by_case(run) for run in runs]
    comparisons = [
        _compare((runs[0].name, other.name), (cases[0], later), turn, (seed, number), resamples)
        for number, (other, later) in enumerate(zip(runs[1:], cases[1:], strict=True), 1)
    ]
    return DialogueComparison(
        turn=turn,
        runs=tuple(_figures(run, own, turn, seed, resamples) for run, own in zip(runs, cases, strict=True)),
        comparisons=_corrected(comparisons),
        notes=tuple(_notes(runs, turn)),
    )


def _refuse(runs: Sequence[DialogueRun]) -> None:
    if len(runs) < 2:
        raise InputError(f"runs to compare must be two or more, got {len(runs)}: name another one")
    problems = []
    first = runs[0].digests
    for other in runs[1:]:
        common = first.keys() & other.digests.keys()
        if not common:
            problems.append(f"{runs[0].name} and {other.name} must have cases in common, got none: play the same cases")
        problems += [
            f"case {case} must be the same in {runs[0].name} and {other.name}, got two: play both from one file"
            for case in sorted(common)
            if first[case] != other.digests[case]
        ]
    if problems:
        raise InputError(problems)


def _figures(run: DialogueRun, cases: Mapping[str, CaseFigures], turn: int, seed: int, resamples: int) -> RunFigures:
    rows = list(cases.values())
    fields = list(dict.fromkeys(field for row in rows for field in row.similarities))
    figures = {name: [_value(row, name, turn, fields) for row in rows] for name in FIGURES}
    return RunFigures(
        name=run.name,
        protocol=run.protocol,
        num_cases=len(rows),
        num_episodes=len(run.episodes),
        num_failed=run.num_failed,
        turns=run.turns,
        curve=tuple(statistics.fmean(shares) for shares in zip(*(row.curve for row in rows), strict=True)),
        figures=_estimates(figures, seed, resamples),
        fields=_estimates({name: [row.similarities.get(name) for row in rows] for name in fields}, seed, resamples),
        num_unlabelled=sum(one.is_unlabelled for one in run.episodes),
        exchanges=statistics.fmean(row.exchanges for row in rows),
        guided=mean_of(row.guided for row in rows),
        missing=dict(sum((Counter(one.missing) for one in run.episodes), Counter[str]()).most_common()),
    )


def _value(row: CaseFigures, figure: str, turn: int, fields: Sequence[str]) -> float | None:
    """Return one figure of a case, None where it does not have it; decoded similarity is over `fields`."""
    if figure == "label_accuracy":
        return row.label
    if figure == "decoded_similarity":
        return mean_of(row.similarities.get(field) for field in fields)
    return at_turn(row.curve, 1 if figure == "disclosure_first" else turn)


def _estimates(values: Mapping[str, Sequence[float | None]], seed: int, resamples: int) -> dict[str, Estimate]:
    """Return the mean of each figure over the cases that have it, without figures that no case has."""
    known = {name: [value for value in found if value is not None] for name, found in values.items()}
    return {name: _estimate(found, seed, resamples) for name, found in known.items() if found}


def _estimate(values: Sequence[float], seed: int, resamples: int) -> Estimate:
    mean = statistics.fmean(values)
    draws = mean_draws(values, seed=seed, resamples=resamples) if len(values) > 1 else None
    interval = percentiles(draws, mean) if draws is not None else None
    return Estimate(value=mean, interval=interval, num_cases=len(values))


def _compare(
    names: tuple[str, str],
    sides: tuple[Mapping[str, CaseFigures], Mapping[str, CaseFigures]],
    turn: int,
    seed: tuple[int, int],
    resamples: int,
) -> RunComparison:
    first, second = sides
    common = [case for case in first if case in second]
    fields = tuple(
        field
        for field in dict.fromkeys(field for case in common for field in first[case].similarities)
        if any(field in second[case].similarities for case in common)
    )
    figures = []
    for number, figure in enumerate(FIGURES):
        pairs = list(_pairs([(first[case], second[case]) for case in common], figure, turn, fields))
        if pairs:
            figures.append(_figure(figure, pairs, (*seed, number), resamples))
    return RunComparison(
        first=names[0],
        second=names[1],
        num_cases=len(common),
        num_left_out=len(first) + len(second) - 2 * len(common),
        fields=fields,
        figures=tuple(figures),
    )


def _pairs(
    rows: Sequence[tuple[CaseFigures, CaseFigures]], figure: str, turn: int, fields: Sequence[str]
) -> Iterator[tuple[float, float]]:
    """Yield a figure of the cases that have it on both sides; of a case's fields those count that both compared."""
    for before, after in rows:
        both = [field for field in fields if field in before.similarities and field in after.similarities]
        one, other = _value(before, figure, turn, both), _value(after, figure, turn, both)
        if one is not None and other is not None:
            yield one, other


def _figure(
    figure: str, pairs: Sequence[tuple[float, float]], seed: tuple[int, ...], resamples: int
) -> FigureComparison:
    first, second = zip(*pairs, strict=True)
    difference = paired_difference(first, second, seed=seed, resamples=resamples)
    gains = [after - before for before, after in pairs]
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    return FigureComparison(figure=figure, difference=difference, spread=spread)


def _smallest(one: FigureComparison, alpha: float) -> float | None:
    """Return the smallest difference shown at 80 % power: exact for right or wrong, else of a normal mean."""
    found, number = one.difference, one.difference.num_first
    if found.test.startswith("McNemar"):
        base = max(found.first, found.second)
        return (
            smallest_fall(number, Design(base=base, discordant=found.discordant or None, alpha=alpha)) if base else None
        )
    # Of the 2 ** number ways to flip signs two are at least as far out as any difference.
    if 2 / 2**number > alpha:
        return None
    deviations = -NormalDist().inv_cdf(alpha / 2) + NormalDist().inv_cdf(POWER)
    return deviations * one.spread / math.sqrt(number)


def _corrected(comparisons: Sequence[RunComparison]) -> tuple[RunComparison, ...]:
    """Return the comparisons with p corrected over all that was tested, and the verdicts that follow."""
    p_values = [one.difference.p for comparison in comparisons for one in comparison.figures]
    corrected, level = iter(holm(p_values)), ALPHA / len(p_values)
    return tuple(
        msgspec.structs.replace(
            comparison, figures=tuple(_judged(one, next(corrected), level, comparison) for one in comparison.figures)
        )
        for comparison in comparisons
    )


def _judged(one: FigureComparison, holm_p: float, level: float, names: RunComparison) -> FigureComparison:
    found, smallest = one.difference, _smallest(one, level)
    if holm_p <= ALPHA:
        verdict = f"{names.second} is {'higher' if found.value > 0 else 'lower'} than {names.first}"
    elif not found.num_better + found.num_worse:
        verdict = "no difference: the same in every case"
    elif smallest is None:
        verdict = "no difference shown; so few cases could not show any"
    else:
        least = cell(one.figure, smallest)
        verdict = f"no difference shown; one of less than {least} would often go unseen"
    return msgspec.structs.replace(one, holm_p=holm_p, smallest=smallest, verdict=verdict)


def _notes(runs: Sequence[DialogueRun], turn: int) -> Iterator[str]:
    counts = {run.turns for run in runs}
    if len(counts) > 1 or any(low != high for low, high in counts):
        shown = ", ".join(f"{run.name} {_range(run.turns)}" for run in runs)
        yield (
            f"The number of patient turns differs ({shown}): disclosure is compared at turn {turn}, the last that "
            "every dialogue has. Who talks longer is asked more: the other figures are not at equal turns."
        )


def _range(turns: tuple[int, int]) -> str:
    return str(turns[0]) if turns[0] == turns[1] else f"{turns[0]} to {turns[1]}"


def cell(figure: str, value: float, sign: str = "") -> str:
    """Return a figure as text: a cosine with three decimals, a share in percent with one."""
    is_cosine = figure in COSINES or figure not in FIGURES
    return f"{value:{sign}.3f}" if is_cosine else f"{100 * value:{sign}.1f}"
