"""How far judges agree with each other and with people: per dimension the measures that suit its scale; seeded.

Judges are measured against the people's consensus: the mean of numbers, the majority of words and of yes and no, where
a tie is missing. Beside that stands how far people agree: all together, and each against the consensus of the others,
because a judge can hardly agree with people better than they do. Where there is no figure, the reason stands in its
place. Knows nothing of files.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from engine.cases.schema import nearest, show
from engine.errors import InputError
from engine.protocol import Report, Section
from engine.rundir import RunDirectory
from engine.tables import MISSING
from eval.judging.ratings import (
    BINARY,
    Given,
    Rater,
    Ratings,
    Scale,
    judge_of,
    read_people,
    scales_of,
    voters_of,
)
from eval.judging.results import Judging, read_judging, refuse_mixed
from eval.statistics.agreement import Agreement, Rating, RatingTable, side_by_side
from eval.statistics.bootstrap import RESAMPLES

MIN_RATERS: Final = 2
MIN_SUBJECTS: Final = 2
MAX_EACH: Final = 8
"""People up to whom each is measured against the others: more would fill pages, and take minutes."""
HEADS: Final = ("measure", "between", "value", "95 % interval", "subjects", "left out", "why")
CONSENSUS: Final = "People's consensus is their mean, or the majority of words; a tie is missing."
FORMS: Final = "ICC(3,1): consistency, ICC(2,1): absolute agreement of single raters; with k, of all their means."

Kind: TypeAlias = Literal["judges", "people", "judge and people", "person and others"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One set of raters that were measured. `reason` says why there is no measure at all."""

    kind: Kind
    between: str
    num_raters: int
    measures: tuple[Agreement, ...]
    num_subjects: int
    num_dropped: int
    reason: str = ""


class RaterCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many ratings of one dimension a rater gave, by question where there are several to a transcript."""

    rater: str
    is_person: bool
    num_rated: int
    num_not_applicable: int
    num_missing: int


class DimensionAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """One dimension: its scale (`points`, in their order where `is_ordered`; none: any number), raters and measures."""

    dimension: str
    points: tuple[Rating, ...]
    is_ordered: bool
    raters: tuple[RaterCounts, ...]
    sides: tuple[Side, ...]


class AgreementFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement by dimension; `rubric` and `fingerprint` are "" where only people rated."""

    rubric: str
    fingerprint: str
    num_judges: int
    num_people: int
    dimensions: tuple[DimensionAgreement, ...]


def report(
    rundirs: Sequence[RunDirectory],
    names: Sequence[str],
    files: Sequence[Path] = (),
    *,
    dimension: str = "",
    by_vote: bool = False,
    seed: int = 0,
) -> Report:
    """Return how far the judgings in run directories, under these names, and the people in files agree.

    With `by_vote` the single votes inside the judgings are the judges. Raises InputError with every problem: different
    rubrics, faulty files, an unknown `dimension`, fewer than two raters.
    """
    twice = [str(rundir.path) for rundir in rundirs if [one.path for one in rundirs].count(rundir.path) > 1]
    if twice:
        raise InputError(f"a judging must be named once, got {twice[0]} {len(twice)} times: name another one")
    judgings = [read_judging(rundir, name) for rundir, name in zip(rundirs, names, strict=True)]
    refuse_mixed(judgings)
    rubric = judgings[0].rubric if judgings else None
    people, scales = read_people(files, rubric, _transcripts(judgings)) if files else ([], {})
    scales = scales_of(rubric) if rubric is not None else scales
    raters = [rater for one in judgings for rater in (voters_of(one) if by_vote else [judge_of(one)])] + people
    _refuse_few(raters, by_vote)
    figures = AgreementFigures(
        rubric=rubric.name if rubric is not None else "",
        fingerprint=rubric.fingerprint if rubric is not None else "",
        num_judges=len(raters) - len(people),
        num_people=len(people),
        dimensions=tuple(agree(raters, _chosen(scales, dimension), seed=seed)),
    )
    notes = _vote_notes(judgings) if by_vote else []
    return Report(figures={"agreement": msgspec.to_builtins(figures)}, sections=_sections(figures, notes))


def agree(
    raters: Sequence[Rater], scales: Mapping[str, Scale], *, seed: int = 0, resamples: int = RESAMPLES
) -> Iterator[DimensionAgreement]:
    """Yield the agreement on each dimension that has a scale, in their order."""
    for dimension, scale in scales.items():
        own = [rater for rater in raters if dimension in rater.ratings]
        yield DimensionAgreement(
            dimension=dimension,
            points=scale.points,
            is_ordered=scale.is_ordered,
            raters=tuple(_counts(rater, rater.ratings[dimension]) for rater in own),
            sides=tuple(_sides(own, dimension, _Measuring(scale, seed, resamples))),
        )


def consensus(given: Sequence[Given], scale: Scale) -> Given:
    """Return what raters say together, by subject: the mean on an ordered scale and of numbers of any size, else what
    most say; None for a tie, and where nobody has rated."""
    ratings: dict[str, list[Rating]] = {}
    for one in given:
        for subject, rating in one.items():
            ratings.setdefault(subject, []).extend([rating] if rating is not None else [])
    unite = _majority if scale.points and not scale.is_ordered else _mean
    return {subject: unite(found) if found else None for subject, found in ratings.items()}


def _majority(ratings: Sequence[Rating]) -> Rating | None:
    first, *others = Counter(ratings).most_common(2)
    return None if others and others[0][1] == first[1] else first[0]


def _mean(ratings: Sequence[Rating]) -> float:
    return statistics.fmean(float(rating) for rating in ratings)


class _Measuring(msgspec.Struct, frozen=True):
    """How one dimension is measured."""

    scale: Scale
    seed: int
    resamples: int

    def side(self, kind: Kind, between: str, given: Sequence[Given]) -> Side:
        """Return the measures between raters, or the reason why there are none."""
        ratings = side_by_side(given)
        num_subjects = len(ratings[0]) if ratings else 0
        num_used = sum(None not in row for row in zip(*ratings, strict=True))
        reason = ""
        if len(given) < MIN_RATERS:
            reason = f"needs {MIN_RATERS} raters or more, got {len(given)}"
        elif num_used < MIN_SUBJECTS:
            reason = f"needs {MIN_SUBJECTS} subjects or more that all have rated, got {num_used}"
        return Side(
            kind=kind,
            between=between,
            num_raters=len(given),
            measures=() if reason else tuple(self._measures(ratings)),
            num_subjects=num_used,
            num_dropped=num_subjects - num_used,
            reason=reason,
        )

    def _measures(self, ratings: Sequence[Sequence[Rating | None]]) -> Iterator[Agreement]:
        """Yield what suits the scale. Ratings between its points (means, medians of an even number of votes) are
        numbers: nothing that counts equal answers is told of them."""
        given = {rating for one in ratings for rating in one if rating is not None}
        is_on_points = given <= set(self.scale.points)
        points = self.scale.points if is_on_points else None
        table = RatingTable(ratings, scale=points, seed=self.seed, resamples=self.resamples)
        is_pair, is_ordered = len(ratings) == MIN_RATERS, self.scale.is_ordered or not is_on_points
        if is_on_points and is_pair:
            yield table.percent_agreement()
            yield table.cohens_kappa("quadratic" if is_ordered else "none")
        elif is_on_points:
            yield table.fleiss_kappa()
        if is_ordered:
            yield from (table.icc("ICC(3,1)"), table.icc("ICC(2,1)"))
        if is_ordered and is_pair:
            yield from (table.kendalls_tau(), table.spearmans_rho(), table.mean_absolute_error())
        elif is_ordered:
            yield from (table.icc("ICC(3,k)"), table.icc("ICC(2,k)"))
        # Within 1 is everything on a scale of two points.
        if is_pair and self.scale.is_ordered:
            yield table.within_one()


def _sides(raters: Sequence[Rater], dimension: str, measuring: _Measuring) -> Iterator[Side]:
    """Yield who is measured against whom."""
    judges = [rater for rater in raters if not rater.is_person]
    people = [rater for rater in raters if rater.is_person]
    said = [person.ratings[dimension].by_transcript for person in people]
    if len(judges) >= MIN_RATERS or not people:
        questions = [judge.ratings[dimension].by_question for judge in judges]
        yield measuring.side("judges", _between(judges, "judges"), questions)
    if people:
        united = consensus(said, measuring.scale)
        for judge in judges:
            pair = (judge.ratings[dimension].by_transcript, united)
            them = people[0].name if len(people) == 1 else "people"
            yield measuring.side("judge and people", f"{judge.name} and {them}", pair)
    if len(people) >= MIN_RATERS or (people and not judges):
        yield measuring.side("people", _between(people, "people"), said)
    # Of two people each is the other's only other: that is the pair above.
    if MIN_RATERS < len(people) <= MAX_EACH:
        for place, person in enumerate(people):
            others = consensus(said[:place] + said[place + 1 :], measuring.scale)
            yield measuring.side("person and others", f"{person.name} and other people", (said[place], others))


def _between(raters: Sequence[Rater], what: str) -> str:
    if len(raters) == MIN_RATERS:
        return " and ".join(rater.name for rater in raters)
    return f"{len(raters)} {what}"


def _counts(rater: Rater, ratings: Ratings) -> RaterCounts:
    rated = sum(rating is not None for rating in ratings.by_question.values())
    return RaterCounts(
        rater=rater.name,
        is_person=rater.is_person,
        num_rated=rated,
        num_not_applicable=ratings.num_not_applicable,
        num_missing=len(ratings.by_question) - rated - ratings.num_not_applicable,
    )


def _transcripts(judgings: Sequence[Judging]) -> frozenset[str]:
    """Return the transcripts that were put to judges, those that failed among them."""
    return frozenset(name for one in judgings for name in (*one.failed, *(judged.transcript for judged in one.judged)))


def _chosen(scales: Mapping[str, Scale], dimension: str) -> Mapping[str, Scale]:
    if not dimension:
        return scales
    if dimension not in scales:
        near = f"did you mean {nearest(dimension, scales)!r}?" if scales else "nothing was rated"
        raise InputError(f"--dimension must be one of {', '.join(scales)}, got {show(dimension)}: {near}")
    return {dimension: scales[dimension]}


def _refuse_few(raters: Sequence[Rater], by_vote: bool) -> None:
    if len(raters) < MIN_RATERS:
        name = f", {raters[0].name}" if raters else ""
        advice = "add a judging or a file of people's ratings" + ("" if by_vote else ", or take the votes (--votes)")
        raise InputError(f"agreement must be of {MIN_RATERS} raters or more, got {len(raters)}{name}: {advice}")


def _vote_notes(judgings: Sequence[Judging]) -> list[str]:
    """Return what to know of votes that were not cast apart; one sentence for each kind of pipeline."""
    told = {"dual": "In dual the second vote has seen the first.", "debate": "In debate voters have heard each other."}
    return [told[name] for name in dict.fromkeys(one.pipeline for one in judgings) if name in told]


def _sections(figures: AgreementFigures, notes: Sequence[str]) -> list[Section]:
    found = [_section(one, has_rubric=bool(figures.rubric)) for one in figures.dimensions]
    if found:
        has_icc = any(row[0].startswith("ICC") for section in found for row in section.rows)
        told = [*([CONSENSUS] if figures.num_people else []), *([FORMS] if has_icc else []), *notes]
        found[-1] = msgspec.structs.replace(found[-1], note=" ".join(told))
    return [_raters(figures), *found]


def _raters(figures: AgreementFigures) -> Section:
    """Return the table of raters: their ratings of all dimensions shown."""
    rows = []
    for name, is_person in dict.fromkeys(
        (one.rater, one.is_person) for each in figures.dimensions for one in each.raters
    ):
        own = [
            one for each in figures.dimensions for one in each.raters if (one.rater, one.is_person) == (name, is_person)
        ]
        sums = (sum(getattr(one, count) for one in own) for count in ("num_rated", "num_not_applicable", "num_missing"))
        rows.append((name, "person" if is_person else "judge", *(f"{number:,}" for number in sums)))
    title = f"Agreement by rubric {figures.rubric}" if figures.rubric else "Agreement"
    return Section(
        title=f"{title}: {figures.num_judges} judges, {figures.num_people} people",
        columns=("rater", "kind", "ratings", "not applicable", "missing"),
        rows=tuple(rows),
    )


def _section(one: DimensionAgreement, *, has_rubric: bool) -> Section:
    """Return the table of one dimension: under each measure everybody who has it, side by side."""
    measures = dict.fromkeys(measure.statistic for side in one.sides for measure in side.measures)
    rows = [
        _cells(measure, side)
        for name in measures
        for side in one.sides
        for measure in side.measures
        if measure.statistic == name
    ]
    rows += [_reason_cells(side) for side in one.sides if side.reason]
    points = tuple(point if isinstance(point, str) else f"{point:g}" for point in one.points)
    if has_rubric and not one.is_ordered:
        points = tuple(BINARY)[::-1]
    shown = ", ".join(points) or "numbers"
    return Section(title=f"{one.dimension.replace('_', ' ')} ({shown})", columns=HEADS, rows=tuple(rows))


def _cells(measure: Agreement, side: Side) -> tuple[str, ...]:
    interval = measure.interval
    return (
        measure.statistic,
        side.between,
        f"{measure.value:.2f}" if measure.value is not None else MISSING,
        f"{interval.low:.2f} to {interval.high:.2f}" if interval is not None else MISSING,
        str(measure.num_subjects),
        str(measure.num_dropped),
        measure.reason,
    )


def _reason_cells(side: Side) -> tuple[str, ...]:
    return ("all", side.between, MISSING, MISSING, str(side.num_subjects), str(side.num_dropped), side.reason)
