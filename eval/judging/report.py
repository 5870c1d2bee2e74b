"""What a judging came to: per dimension how it was scored, and how often no verdict came.

`verdicts.jsonl` has every verdict with its votes, `judging.json` the figures; both are made anew from the corpus.
Knows nothing of how judges were asked.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.files import write_atomic
from engine.protocol import Report, Section
from engine.rundir import RunDirectory
from engine.tables import MISSING
from eval.judging.results import read_judging
from eval.rubric import Dimension, Rubric
from eval.verdicts import Rate, Verdict, rate

VERDICTS: Final = "verdicts.jsonl"
FIGURES: Final = "judging.json"


class DimensionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How one dimension was scored over all transcripts.

    `mean` and `counts` (score to number) are over scored verdicts; `yes` is set for yes/no dimensions.
    """

    dimension: str
    num_scored: int
    num_not_applicable: int
    num_missing: int
    mean: float | None
    counts: dict[str, int]
    yes: Rate | None = None


class JudgingFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one judging. `num_failed` transcripts do not fit the rubric, or their judges gave no answer."""

    rubric: str
    fingerprint: str
    pipeline: str
    models: tuple[str, ...]
    num_transcripts: int
    num_failed: int
    dimensions: tuple[DimensionFigures, ...]


def report(rundir: RunDirectory) -> Report:
    """Sum up a judging's run and write both files. Raises InputError when nothing was judged."""
    found = read_judging(rundir)
    verdicts = [verdict for one in found.judged for verdict in one.verdicts]
    figures = JudgingFigures(
        rubric=found.rubric.name,
        fingerprint=found.rubric.fingerprint,
        pipeline=found.pipeline,
        models=found.models,
        num_transcripts=len(found.judged),
        num_failed=len(found.failed),
        dimensions=dimension_figures(found.rubric, verdicts),
    )
    files = [rundir.path / FIGURES, rundir.path / VERDICTS]
    write_atomic(files[0], msgspec.json.format(msgspec.json.encode(figures)))
    write_atomic(files[1], b"".join(msgspec.json.encode(one) + b"\n" for one in found.judged))
    table = _table(found.rubric, figures, found.failures)
    return Report(figures={"judging": msgspec.to_builtins(figures)}, sections=[table], files=files)


def dimension_figures(rubric: Rubric, verdicts: Sequence[Verdict]) -> tuple[DimensionFigures, ...]:
    """Return the figures of each dimension, in the order of the rubric."""
    return tuple(_figures(one, [v for v in verdicts if v.dimension == one.name]) for one in rubric.dimensions)


def _figures(dimension: Dimension, verdicts: Iterable[Verdict]) -> DimensionFigures:
    own = list(verdicts)
    scores = [verdict.score for verdict in own if verdict.score is not None]
    status = Counter(verdict.status for verdict in own)
    return DimensionFigures(
        dimension=dimension.name,
        num_scored=len(scores),
        num_not_applicable=status["not_applicable"],
        num_missing=status["missing"],
        mean=statistics.fmean(scores) if scores else None,
        counts={f"{score:g}": number for score, number in sorted(Counter(scores).items())},
        yes=rate(own, dimension.name) if dimension.is_binary else None,
    )


def _table(rubric: Rubric, figures: JudgingFigures, failures: Mapping[str, int]) -> Section:
    rows = tuple(
        _cells(dimension, found) for dimension, found in zip(rubric.dimensions, figures.dimensions, strict=True)
    )
    heads = ("dimension", "better", "mean or yes", "scores", "scored", "not applicable", "missing")
    title = f"Judged: {figures.num_transcripts:,} transcripts, rubric {rubric.name}, pipeline {figures.pipeline}"
    failed = ", ".join(f"{number} {kind}" for kind, number in failures.items())
    note = f"Failed: {failed}." if failed else ""
    return Section(title=title, columns=heads, rows=rows, note=note)


def _cells(dimension: Dimension, found: DimensionFigures) -> tuple[str, ...]:
    return (
        dimension.name.replace("_", " "),
        dimension.better,
        _middle(found),
        ", ".join(f"{score}: {number}" for score, number in found.counts.items()) or MISSING,
        str(found.num_scored),
        str(found.num_not_applicable),
        str(found.num_missing),
    )


def _middle(found: DimensionFigures) -> str:
    yes: Any = found.yes
    if yes is not None and yes.share is not None:
        return f"{100 * yes.share:.0f} % ({100 * yes.low:.0f} to {100 * yes.high:.0f})"
    return MISSING if found.mean is None else f"{found.mean:.2f}"
