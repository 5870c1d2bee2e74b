"""Two or more judgings side by side: per dimension what differs, with a verdict in plain words; seeded.

Invariant: cases are what is compared, one pair each, however often one was played: a case's score is the mean over its
transcripts, and where some are in both judgings over those alone. A difference counts as shown only when its p,
corrected (Holm) over all dimensions and judgings compared at once, is at most 0.05. What is missing or not applicable
counts for neither side. Knows nothing of how judges were asked.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from engine.errors import InputError
from engine.protocol import Report, Section
from engine.rundir import RunDirectory
from engine.tables import MISSING
from eval.judging.results import Judging, place_of, read_judging, refuse_mixed
from eval.rubric import Dimension
from eval.statistics.bootstrap import RESAMPLES
from eval.statistics.differences import Difference, holm, paired_difference
from eval.statistics.intervals import ALPHA, Interval

HEADS: Final = ("dimension", "better", "cases", "first", "second", "difference", "p", "Holm p", "verdict", "no score")

Outcome: TypeAlias = Literal["better", "worse", "not shown", "no difference", "no pair"]


class SideFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One judging's verdicts on one dimension; `mean` is over those scored: the share of yes, where it is yes or no."""

    mean: float | None
    num_scored: int
    num_not_applicable: int
    num_missing: int


class DimensionComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One dimension of two judgings. `difference` is second - first over the cases that both scored, None without any.

    `outcome` is the second judging's, told by the end of the scale that is wished for (`better`).
    """

    dimension: str
    better: Literal["high", "low"]
    is_binary: bool
    first: SideFigures
    second: SideFigures
    difference: Difference | None
    holm_p: float | None = None
    outcome: Outcome = "no pair"


class JudgingComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two judgings by name. `num_cases` and `num_transcripts` are in both, `num_only` transcripts in one of them."""

    first: str
    second: str
    num_cases: int
    num_transcripts: int
    num_only_first: int
    num_only_second: int
    dimensions: tuple[DimensionComparison, ...]
    notes: tuple[str, ...]


class JudgingsCompared(msgspec.Struct, frozen=True, kw_only=True):
    """Judgings by one rubric, each but the first against the first."""

    rubric: str
    fingerprint: str
    judgings: tuple[str, ...]
    against_first: tuple[JudgingComparison, ...]


Scores: TypeAlias = Mapping[tuple[str, str], float]
"""What transcripts were scored, by (case, repeat)."""


def compare_judgings(rundirs: Sequence[RunDirectory], names: Sequence[str], *, seed: int = 0) -> Report:
    """Compare the judgings in two or more run directories, under these names.

    Raises InputError for fewer, for a directory without a judging, and for different rubrics.
    """
    if len(rundirs) < 2:
        raise InputError(f"judgings to compare must be two or more, got {len(rundirs)}: name another one")
    judgings = [read_judging(rundir, name) for rundir, name in zip(rundirs, names, strict=True)]
    found = compare(judgings, seed=seed)
    sections = [_section(one) for one in found.against_first]
    return Report(figures={"judgings": msgspec.to_builtins(found)}, sections=sections)


def compare(judgings: Sequence[Judging], *, seed: int = 0, resamples: int = RESAMPLES) -> JudgingsCompared:
    """Return the comparison of two or more judgings. Raises InputError for different rubrics."""
    refuse_mixed(judgings)
    first = judgings[0]
    compared = [_compare(first, second, seed, resamples) for second in judgings[1:]]
    return JudgingsCompared(
        rubric=first.rubric.name,
        fingerprint=first.rubric.fingerprint,
        judgings=tuple(one.name for one in judgings),
        against_first=_corrected(compared),
    )


def _compare(first: Judging, second: Judging, seed: int, resamples: int) -> JudgingComparison:
    before, after = ({place_of(one.transcript) for one in judging.judged} for judging in (first, second))
    return JudgingComparison(
        first=first.name,
        second=second.name,
        num_cases=len({case for case, _ in before} & {case for case, _ in after}),
        num_transcripts=len(before & after),
        num_only_first=len(before - after),
        num_only_second=len(after - before),
        dimensions=tuple(
            _dimension(dimension, first, second, (seed, number), resamples)
            for number, dimension in enumerate(first.rubric.dimensions, 1)
        ),
        notes=tuple(_notes(first, second)),
    )


def _dimension(
    dimension: Dimension, first: Judging, second: Judging, seed: tuple[int, int], resamples: int
) -> DimensionComparison:
    pairs = _pairs(_scores(first, dimension), _scores(second, dimension))
    difference = None
    if pairs:
        before, after = zip(*pairs, strict=True)
        difference = paired_difference(before, after, seed=seed, resamples=resamples)
    return DimensionComparison(
        dimension=dimension.name,
        better=dimension.better,
        is_binary=dimension.is_binary,
        first=_side(first, dimension),
        second=_side(second, dimension),
        difference=difference,
    )


def _scores(judging: Judging, dimension: Dimension) -> Scores:
    """Return the mean of each transcript's scores on a dimension: one, or one per turn or statement."""
    scores = {
        place_of(one.transcript): [
            verdict.score
            for verdict in one.verdicts
            if verdict.dimension == dimension.name and verdict.score is not None
        ]
        for one in judging.judged
    }
    return {place: statistics.fmean(found) for place, found in scores.items() if found}


def _pairs(first: Scores, second: Scores) -> list[tuple[float, float]]:
    """Return (first, second) of each case that both scored, in order of name."""
    cases = sorted({case for case, _ in first} & {case for case, _ in second})
    common = first.keys() & second.keys()
    shared = {case for case, _ in common}
    chosen = [
        {place: score for place, score in scores.items() if place in common or place[0] not in shared}
        for scores in (first, second)
    ]
    before, after = map(_by_case, chosen)
    return [(before[case], after[case]) for case in cases]


def _by_case(scores: Scores) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for (case, _), score in scores.items():
        found.setdefault(case, []).append(score)
    return {case: statistics.fmean(values) for case, values in found.items()}


def _side(judging: Judging, dimension: Dimension) -> SideFigures:
    own = [verdict for one in judging.judged for verdict in one.verdicts if verdict.dimension == dimension.name]
    scores = [verdict.score for verdict in own if verdict.score is not None]
    return SideFigures(
        mean=statistics.fmean(scores) if scores else None,
        num_scored=len(scores),
        num_not_applicable=sum(verdict.status == "not_applicable" for verdict in own),
        num_missing=sum(verdict.status == "missing" for verdict in own),
    )


def _notes(first: Judging, second: Judging) -> list[str]:
    """Return what else differs between two judgings, or was left out of them; one sentence each."""
    notes = []
    if first.pipeline != second.pipeline:
        notes.append(f"Pipelines differ ({first.pipeline}, {second.pipeline}): a difference may be theirs.")
    if first.models != second.models:
        judges = "; ".join(", ".join(one.models) or "none" for one in (first, second))
        notes.append(f"Judges differ ({judges}): a difference may be theirs.")
    for one in (first, second):
        if one.failures:
            failed = ", ".join(f"{number} {kind}" for kind, number in sorted(one.failures.items()))
            notes.append(f"Failed in {one.name}: {failed}.")
    return notes


def _corrected(compared: Sequence[JudgingComparison]) -> tuple[JudgingComparison, ...]:
    """Return the comparisons with p corrected over all that were tested, and the outcomes that follow."""
    tested = [one.difference.p for each in compared for one in each.dimensions if one.difference is not None]
    corrected = iter(holm(tested))
    return tuple(
        msgspec.structs.replace(
            each,
            dimensions=tuple(
                _judged(one, one.difference, next(corrected)) if one.difference is not None else one
                for one in each.dimensions
            ),
        )
        for each in compared
    )


def _judged(one: DimensionComparison, difference: Difference, holm_p: float) -> DimensionComparison:
    outcome: Outcome = "not shown"
    if holm_p <= ALPHA:
        outcome = "better" if (difference.value > 0) == (one.better == "high") else "worse"
    elif not difference.num_better + difference.num_worse:
        outcome = "no difference"
    return msgspec.structs.replace(one, holm_p=holm_p, outcome=outcome)


def _section(one: JudgingComparison) -> Section:
    rows = tuple(_cells(dimension, one) for dimension in one.dimensions)
    left_out = [
        f"Transcripts only in {name}: {number:,}."
        for name, number in ((one.first, one.num_only_first), (one.second, one.num_only_second))
        if number
    ]
    title = f"{one.first} against {one.second}: {one.num_cases:,} cases, {one.num_transcripts:,} transcripts in both"
    return Section(title=title, columns=HEADS, rows=rows, note=" ".join([*left_out, *one.notes]))


def _cells(one: DimensionComparison, names: JudgingComparison) -> tuple[str, ...]:
    found = one.difference
    sides = (one.first, one.second)
    # The means of what is compared, so that a row adds up; those of all verdicts are in the figures.
    means = (found.first, found.second) if found is not None else (one.first.mean, one.second.mean)
    return (
        one.dimension.replace("_", " "),
        one.better,
        str(found.num_first if found is not None else 0),
        *(_middle(mean, one.is_binary) for mean in means),
        _signed(found.value, found.interval, one.is_binary) if found is not None else MISSING,
        f"{found.p:.3g}" if found is not None else MISSING,
        f"{one.holm_p:.3g}" if one.holm_p is not None else MISSING,
        _said(one.outcome, names),
        _unscored(sides),
    )


def _said(outcome: Outcome, names: JudgingComparison) -> str:
    """Return an outcome in plain words."""
    return {
        "better": f"{names.second} is better than {names.first}",
        "worse": f"{names.second} is worse than {names.first}",
        "not shown": "no difference shown",
        "no difference": "no difference: both score the same on every case",
        "no pair": "cannot be told: no case was scored in both",
    }[outcome]


def _middle(mean: float | None, is_binary: bool) -> str:
    if mean is None:
        return MISSING
    return f"{100 * mean:.1f} %" if is_binary else f"{mean:.2f}"


def _signed(value: float, interval: Interval, is_binary: bool) -> str:
    ends = (value, interval.low, interval.high)
    shown, low, high = (f"{100 * one:+.1f}" if is_binary else f"{one:+.2f}" for one in ends)
    return f"{shown} ({low} to {high})"


def _unscored(sides: Sequence[SideFigures]) -> str:
    """Return how many verdicts gave no score, the first judging's and the second's."""
    if not any(side.num_missing + side.num_not_applicable for side in sides):
        return "none"
    missing, not_applicable = (
        ", ".join(str(getattr(side, name)) for side in sides) for name in ("num_missing", "num_not_applicable")
    )
    return f"missing {missing}; not applicable {not_applicable}"
