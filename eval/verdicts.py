"""Verdicts: what judges said of one transcript, and what their votes come to; pure.

A vote that could not be read is missing, never a middle score. Missing votes do not count; a verdict is missing when
no vote is left, or when a tie cannot be broken without taking sides. Knows nothing of prompts or models.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from engine.protocols.exam import wilson
from eval.rubric import NO, NOT_APPLICABLE, YES, Dimension

Status: TypeAlias = Literal["scored", "not_applicable", "missing"]

_BINARY: Final[Mapping[str, float]] = {YES: 1.0, NO: 0.0}


class Vote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One judge's answer to one question.

    `judge` is the role that was asked, `option` the answer (None: missing). `reason` is what the judge wrote before it,
    kept as data and read by no program. A vote that another one corrected is kept, but not `is_counted`.
    """

    judge: str
    option: str | None
    reason: str = ""
    is_counted: bool = True


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the votes on one question came to.

    `item` is the question's name, unique in its outcome: the dimension, with the number of the turn or of the case's
    statement where it is about one of them (1-based). `score` is a point of the scale (half of one for an even number
    of votes), or 1 for yes and 0 for no; None unless `status` is `scored`.
    """

    item: str
    dimension: str
    status: Status
    score: float | None
    votes: tuple[Vote, ...]
    turn: int | None = None
    statement: int | None = None


class JudgingOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All verdicts on one transcript, in the order of the rubric. `fingerprint` is the rubric's."""

    rubric: str
    fingerprint: str
    pipeline: str
    verdicts: tuple[Verdict, ...]


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How often a yes/no dimension was answered yes, with the 95 % interval of the share (Wilson's score interval).

    `share` and interval are over the transcripts with a verdict, None where there is none.
    """

    num_yes: int
    num_no: int
    num_not_applicable: int
    num_missing: int
    share: float | None = None
    low: float | None = None
    high: float | None = None


def decide(votes: Sequence[Vote], *, is_binary: bool) -> tuple[Status, float | None]:
    """Return what the counted votes come to.

    First whether the question applies at all, by majority; a tie on that is missing. Then scales take the median, yes
    and no the majority; a tie between yes and no is missing.
    """
    known = [vote.option for vote in votes if vote.is_counted and vote.option is not None]
    options = [option for option in known if option != NOT_APPLICABLE]
    if 2 * len(options) == len(known):
        return "missing", None
    if 2 * len(options) < len(known):
        return "not_applicable", None
    if not is_binary:
        return "scored", float(statistics.median(int(option) for option in options))
    balance = sum(1 if option == YES else -1 for option in options)
    return ("scored", _BINARY[YES if balance > 0 else NO]) if balance else ("missing", None)


def make_verdict(
    item: str, dimension: Dimension, votes: Sequence[Vote], *, turn: int | None = None, statement: int | None = None
) -> Verdict:
    """Return the verdict that votes on one question come to."""
    status, score = decide(votes, is_binary=dimension.is_binary)
    return Verdict(
        item=item,
        dimension=dimension.name,
        status=status,
        score=score,
        votes=tuple(votes),
        turn=turn,
        statement=statement,
    )


def rate(verdicts: Iterable[Verdict], dimension: str) -> Rate:
    """Return how often one yes/no dimension was answered yes, over the verdicts of any number of transcripts."""
    own = [verdict for verdict in verdicts if verdict.dimension == dimension]
    scores = [verdict.score for verdict in own if verdict.score is not None]
    num_yes = sum(score == _BINARY[YES] for score in scores)
    low, high = wilson(num_yes, len(scores)) if scores else (None, None)
    return Rate(
        num_yes=num_yes,
        num_no=len(scores) - num_yes,
        num_not_applicable=sum(verdict.status == "not_applicable" for verdict in own),
        num_missing=sum(verdict.status == "missing" for verdict in own),
        share=num_yes / len(scores) if scores else None,
        low=low,
        high=high,
    )


def read_outcome(outcome: Mapping[str, Any]) -> JudgingOutcome:
    """Return an outcome read back from a record's JSON. Raises msgspec.ValidationError for anything else."""
    return msgspec.convert(outcome, JudgingOutcome)


def means(outcome: JudgingOutcome) -> dict[str, float]:
    """Return the mean score per dimension over its scored verdicts; dimensions without one are left out."""
    scores: dict[str, list[float]] = {}
    for verdict in outcome.verdicts:
        if verdict.score is not None:
            scores.setdefault(verdict.dimension, []).append(verdict.score)
    return {name: statistics.fmean(values) for name, values in scores.items()}


def count_missing(outcome: JudgingOutcome) -> dict[str, int]:
    """Return the number of missing verdicts per dimension; dimensions without one are left out."""
    counts: dict[str, int] = {}
    for verdict in outcome.verdicts:
        if verdict.status == "missing":
            counts[verdict.dimension] = counts.get(verdict.dimension, 0) + 1
    return counts
