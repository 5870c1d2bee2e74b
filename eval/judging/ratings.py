"""Who rated which transcript how: judges by their verdicts or single votes, people by files of ratings.

A file of ratings is CSV with the columns `transcript,dimension,rater,score`, one row per rating; a blank score is
missing. Invariant: what is returned lies on the scales, and every fault of the files is reported at once, with file and
line. Ratings are numbers (yes is 1, no is 0) where a rubric is known, else numbers or words as they were given. What a
rater calls not applicable is no rating, and counted.
"""

import functools
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from engine.cases.schema import nearest, show
from engine.errors import InputError
from engine.transcript import one_line
from eval.item_files import Record, read_records
from eval.judging.results import Judging
from eval.rubric import MAX_POINTS, NO, NOT_APPLICABLE, YES, Dimension, Rubric
from eval.statistics.agreement import Rating
from eval.verdicts import Verdict

COLUMNS: Final = ("transcript", "dimension", "rater", "score")
BINARY: Final[Mapping[str, float]] = {YES: 1.0, NO: 0.0}
MAX_NAME_CHARS: Final = 200
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,9})?")
_NOT_APPLICABLE: Final = frozenset({NOT_APPLICABLE, "na"})

Given: TypeAlias = Mapping[str, Rating | None]
"""Ratings by subject; None where one is missing or not applicable."""


class Scale(msgspec.Struct, frozen=True):
    """What ratings of one dimension may be. Without `points` they are numbers of any size."""

    points: tuple[Rating, ...]
    is_ordered: bool


class Ratings(msgspec.Struct, frozen=True, kw_only=True):
    """One rater's ratings of one dimension: by transcript, and by question where there are several to a transcript."""

    by_transcript: Given
    by_question: Given
    num_not_applicable: int = 0


class Rater(msgspec.Struct, frozen=True, kw_only=True):
    """One judge or person, with ratings by dimension."""

    name: str
    is_person: bool
    ratings: Mapping[str, Ratings]


def judge_of(judging: Judging) -> Rater:
    """Return a judging as one rater: its verdicts."""
    return _judge(judging, judging.name, lambda verdict: (verdict.score, verdict.status == "not_applicable"))


def voters_of(judging: Judging) -> list[Rater]:
    """Return the single votes inside a judging as raters, in their order; the judges of a panel under their roles."""
    votes = max((verdict.votes for one in judging.judged for verdict in one.verdicts), key=len, default=())
    roles = [vote.judge for vote in votes]
    are_named = len(set(roles)) == len(roles) > 1
    names = roles if are_named else [f"vote {place + 1}" for place in range(len(votes))]
    return [
        _judge(judging, f"{judging.name} {name}", functools.partial(_cast, place)) for place, name in enumerate(names)
    ]


def scales_of(rubric: Rubric) -> dict[str, Scale]:
    """Return the scale of each dimension of a rubric."""
    return {one.name: _scale(one) for one in rubric.dimensions}


def read_people(
    paths: Sequence[Path], rubric: Rubric | None, transcripts: frozenset[str]
) -> tuple[list[Rater], dict[str, Scale]]:
    """Return the people who rated, in order of name, and the scales: the rubric's, or those that are found.

    With a rubric, a rating must be of a transcript among `transcripts`. Raises InputError with every fault found.
    """
    faults = _Faults()
    rows = [row for path in paths for row in _rows(path, rubric, transcripts, faults)]
    scales = scales_of(rubric) if rubric is not None else _found_scales(rows, faults)
    people: dict[str, dict[str, dict[str, _Row]]] = {}
    for row in rows:
        own = people.setdefault(row.rater, {}).setdefault(row.dimension, {})
        before = own.setdefault(row.transcript, row)
        if before is not row:
            what = f"{show(row.rater)} has rated {show(row.transcript)}, {row.dimension} at {before.record.place}"
            faults.add(row.record, f"a transcript must be rated once, but {what} already: remove one of the rows")
    faults.raise_any()
    return [_person(name, people[name]) for name in sorted(people)], scales


class _Row(msgspec.Struct, frozen=True):
    """One row of a file, checked as far as it can be alone."""

    transcript: str
    dimension: str
    rater: str
    rating: Rating | None
    is_not_applicable: bool
    record: Record


class _Faults:
    """Faults of files; one found on many lines is told once, with the first of them."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], list[int]] = {}
        self._others: list[str] = []

    def add(self, record: Record, problem: str) -> None:
        self._lines.setdefault((record.file, problem), []).append(record.line)

    def extend(self, problems: Sequence[str]) -> None:
        self._others += problems

    def raise_any(self) -> None:
        told = list(self._others)
        for (file, problem), lines in self._lines.items():
            more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            told.append(f"{file}: line {lines[0]}{more}: {problem}")
        if told:
            raise InputError(told)


def _rows(path: Path, rubric: Rubric | None, transcripts: frozenset[str], faults: _Faults) -> Iterator[_Row]:
    try:
        records = read_records(path)
    except InputError as refused:
        faults.extend(refused.problems)
        return
    heads = [name.casefold() for name in records[0].values]
    if sorted(heads) != sorted(COLUMNS):
        got = show(", ".join(heads), 200)
        faults.extend([f"{path}: columns must be {', '.join(COLUMNS)}, got {got}: rename, add or remove some"])
        return
    for record in records:
        values = {name.casefold(): str(value).strip() for name, value in record.values.items()}
        # Spreadsheets save empty rows as commas.
        if any(values.values()):
            row, problems = _row(record, values, rubric, transcripts)
            for problem in problems:
                faults.add(record, problem)
            if not problems:
                yield row


def _row(
    record: Record, values: Mapping[str, str], rubric: Rubric | None, transcripts: frozenset[str]
) -> tuple[_Row, list[str]]:
    problems = [f"{name} must be named, got '': fill it in" for name in COLUMNS[:3] if not values[name]]
    transcript = values["transcript"]
    if rubric is not None and transcript and transcript not in transcripts:
        advice = f"name an episode of the judged run, such as {show(min(transcripts, default=''))}"
        problems.append(f"transcript must be one that was judged, got {show(transcript)}: {advice}")
    dimension = one_line("_".join(values["dimension"].casefold().split()), MAX_NAME_CHARS)
    rating, is_not_applicable = _read_score(values["score"]), False
    if rubric is not None and dimension:
        known = {one.name: one for one in rubric.dimensions}
        if dimension in known:
            rating, is_not_applicable, found = _placed(rating, known[dimension])
            problems += found
        else:
            near = f"did you mean {nearest(dimension, known)!r}?"
            problems.append(f"dimension must be one of rubric {rubric.name}, got {show(dimension)}: {near}")
    row = _Row(transcript, dimension, one_line(values["rater"], MAX_NAME_CHARS), rating, is_not_applicable, record)
    if values["rater"] and not row.rater:
        problems.append(f"rater must be a name that can be read, got {show(values['rater'])}: rename")
    return row, problems


def _read_score(score: str) -> Rating | None:
    """Return a score of any scale: a number, a word, or None where it is blank."""
    if _NUMBER.fullmatch(score):
        return float(score)
    return one_line(" ".join(score.casefold().split()), MAX_NAME_CHARS) or None


def _placed(score: Rating | None, dimension: Dimension) -> tuple[Rating | None, bool, list[str]]:
    """Return a score on the scale of a dimension, whether it is "not applicable", and what is wrong with it."""
    if score is None or (score in _NOT_APPLICABLE and "na" in dimension.anchors):
        return None, score is not None, []
    words = BINARY if dimension.is_binary else {}
    value = words.get(score) if isinstance(score, str) else score
    if value is not None and value in _scale(dimension).points:
        return value, False, []
    options = ", ".join(option for option, _ in dimension.options)
    got = show(score) if isinstance(score, str) else f"{score:g}"
    advice = "correct it, or leave it blank where it is missing"
    return None, False, [f"score of {dimension.name} must be one of {options}, got {got}: {advice}"]


def _scale(dimension: Dimension) -> Scale:
    if dimension.is_binary:
        return Scale(tuple(sorted(BINARY.values())), is_ordered=False)
    return Scale(tuple(float(answer) for answer in dimension.anchors if answer != "na"), is_ordered=True)


def _found_scales(rows: Sequence[_Row], faults: _Faults) -> dict[str, Scale]:
    """Return the scales that ratings come to, where no rubric says them: ordered where they are numbers, not of two."""
    found: dict[str, Scale] = {}
    for dimension in dict.fromkeys(row.dimension for row in rows):
        given = [row for row in rows if row.dimension == dimension]
        words = sorted({row.rating for row in given if isinstance(row.rating, str)})
        numbers = sorted({row.rating for row in given if isinstance(row.rating, float)})
        if words and numbers:
            record = next(row.record for row in given if isinstance(row.rating, str))
            what = f"{show(words[0])} beside {numbers[0]:g}"
            advice = "correct it, or leave it blank where it is missing"
            faults.add(record, f"scores of {dimension} must be all numbers or all words, got {what}: {advice}")
        is_scale = len(numbers) <= MAX_POINTS
        found[dimension] = Scale((*words, *numbers) if is_scale else (), is_ordered=len(numbers) > len(BINARY))
    return found


def _person(name: str, rows: Mapping[str, Mapping[str, _Row]]) -> Rater:
    ratings = {}
    for dimension, own in rows.items():
        given = {transcript: row.rating for transcript, row in own.items()}
        not_applicable = sum(row.is_not_applicable for row in own.values())
        ratings[dimension] = Ratings(by_transcript=given, by_question=given, num_not_applicable=not_applicable)
    return Rater(name=name, is_person=True, ratings=ratings)


def _judge(judging: Judging, name: str, read: Callable[[Verdict], tuple[float | None, bool]]) -> Rater:
    """Return a rater who rates by what `read` finds in a verdict: (rating, whether the question did not apply)."""
    ratings = {}
    for dimension in judging.rubric.dimensions:
        by_transcript: dict[str, Rating | None] = {}
        by_question: dict[str, Rating | None] = {}
        num_not_applicable = 0
        for one in judging.judged:
            found = {verdict.item: read(verdict) for verdict in one.verdicts if verdict.dimension == dimension.name}
            known = [rating for rating, _ in found.values() if rating is not None]
            by_transcript[one.transcript] = statistics.fmean(known) if known else None
            by_question |= {f"{one.transcript}/{item}": rating for item, (rating, _) in found.items()}
            num_not_applicable += sum(is_not_applicable for _, is_not_applicable in found.values())
        ratings[dimension.name] = Ratings(
            by_transcript=by_transcript, by_question=by_question, num_not_applicable=num_not_applicable
        )
    return Rater(name=one_line(name, MAX_NAME_CHARS), is_person=False, ratings=ratings)


def _cast(place: int, verdict: Verdict) -> tuple[float | None, bool]:
    """Return what the vote at a place says, and whether it says that the question does not apply."""
    option = verdict.votes[place].option if place < len(verdict.votes) else None
    if option is None or option == NOT_APPLICABLE:
        return None, option is not None
    return (BINARY[option] if option in BINARY else float(option)), False
