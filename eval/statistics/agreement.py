"""Agreement between judges and people: how far two or more raters say the same of the same subjects; pure, seeded.

Each figure comes with a bootstrap interval over subjects. A missing rating is None and leaves its subject out of that
figure; how many stay is reported. Where a statistic is undefined (nobody's ratings differ, say) its value is None with
a reason, never NaN. Knows nothing of rubrics.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from engine.errors import InputError
from eval.statistics.bootstrap import RESAMPLES, resample
from eval.statistics.icc import IccForm, intraclass_correlation
from eval.statistics.intervals import Interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Rating: TypeAlias = str | float
"""A point of a scale: a number, or a word."""
Ratings: TypeAlias = Sequence[Rating | None]
Weights = Literal["none", "linear", "quadratic"]
Statistic: TypeAlias = "Callable[[npt.NDArray[np.float64]], float | str]"
"""Takes ratings, shape [subjects, raters]; returns the value, or the reason why there is none."""

_UNIFORM: Final = "every rating is the same"
_CONSTANT: Final = "one rater gave the same rating throughout"
_TOLERANCE: Final = 1e-9


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of agreement.

    `num_subjects` were used, `num_dropped` left out for a missing rating. `num_degenerate` resamples had no value.
    `reason` says why the value or the interval is missing.
    """

    statistic: str
    value: float | None
    interval: Interval | None
    num_subjects: int
    num_dropped: int
    num_degenerate: int = 0
    reason: str = ""


class RatingTable:
    """The ratings of some raters on the same subjects, `ratings[rater][subject]`, None for a missing one.

    `scale` lists the points in their order; without it numbers stand for themselves and words have no order. Words on
    a scale stand for their places, 1 for the first. Raises InputError for fewer than two raters, lists of different
    lengths, a rating off the scale or not finite, words and numbers mixed.
    """

    def __init__(
        self,
        ratings: Sequence[Ratings],
        *,
        scale: Sequence[Rating] | None = None,
        seed: int = 0,
        resamples: int = RESAMPLES,
    ) -> None:
        import numpy as np

        _check(ratings, scale)
        points = scale if scale is not None else _found_points(ratings)
        self.is_ordered = scale is not None or not any(isinstance(point, str) for point in points)
        self._values = np.asarray(_values(points), dtype=np.float64)
        places = {point: place for place, point in enumerate(points)}
        rows = [row for row in zip(*ratings, strict=True) if None not in row]
        self.num_subjects, self.num_dropped = len(rows), len(ratings[0]) - len(rows)
        self.num_raters = len(ratings)
        found = [[places[rating] for rating in row if rating is not None] for row in rows]
        self._places = np.asarray(found, dtype=np.intp).reshape(len(rows), len(ratings))
        self._seed, self._resamples = seed, resamples

    def cohens_kappa(self, weights: Weights = "none") -> Agreement:
        """Two raters' agreement beyond chance; weights count a miss by its distance or that squared, in the points'
        values. Sources: Cohen 1960, 1968."""
        from statsmodels.stats.inter_rater import cohens_kappa

        name = "Cohen's kappa" if weights == "none" else f"Cohen's kappa, {weights}"
        self._want(name, is_pair=True, is_ordered=weights != "none")
        number = len(self._values)
        options: dict[str, Any] = {} if weights == "none" else {"weights": self._values, "wt": weights}

        def kappa(places: "npt.NDArray[Any]") -> float | str:
            table = _counts(places[:, 0] * number + places[:, 1], number * number).reshape(number, number)
            if table.max() == len(places) and table.trace() == len(places):
                return _UNIFORM
            return float(cohens_kappa(table, return_results=False, **options))

        return self._measure(name, self._places, kappa)

    def fleiss_kappa(self) -> Agreement:
        """Any number of raters' agreement beyond chance, whoever they are. Source: Fleiss 1971."""
        import numpy as np
        from statsmodels.stats.inter_rater import fleiss_kappa

        number = len(self._values)
        rows = [_counts(row, number) for row in self._places]
        table = np.asarray(rows, dtype=np.intp).reshape(self.num_subjects, number)

        def kappa(counts: "npt.NDArray[Any]") -> float | str:
            return _UNIFORM if (counts.sum(axis=0) > 0).sum() < 2 else float(fleiss_kappa(counts))

        return self._measure("Fleiss's kappa", table, kappa)

    def icc(self, form: IccForm) -> Agreement:
        """Share of the ratings' variance that is the subjects'. Source: Shrout and Fleiss 1979."""
        self._want(form, is_ordered=True)
        return self._measure(form, self._numbers, lambda ratings: intraclass_correlation(ratings, form))

    def kendalls_tau(self) -> Agreement:
        """Whether two raters order the subjects alike, ties allowed for (tau-b). Source: Kendall 1945."""
        from scipy.stats import kendalltau

        return self._correlate("Kendall's tau-b", lambda first, second: kendalltau(first, second).statistic)

    def spearmans_rho(self) -> Agreement:
        """The correlation of two raters' ranks. Source: Spearman 1904."""
        from scipy.stats import spearmanr

        return self._correlate("Spearman's rho", lambda first, second: spearmanr(first, second).statistic)

    def mean_absolute_error(self) -> Agreement:
        """How far two raters lie apart on the mean, in the points' values."""
        return self._distance("mean absolute error", lambda distances: float(distances.mean()))

    def within_one(self) -> Agreement:
        """Share of subjects on which two raters lie at most 1 apart."""
        return self._distance("within 1", lambda distances: float((distances <= 1 + _TOLERANCE).mean()))

    def percent_agreement(self) -> Agreement:
        """Share of subjects, 0..1, on which two raters say the same."""
        self._want("percent agreement", is_pair=True)
        return self._measure(
            "percent agreement", self._places, lambda places: float((places[:, 0] == places[:, 1]).mean())
        )

    @property
    def _numbers(self) -> "npt.NDArray[np.float64]":
        return self._values[self._places]

    def _correlate(self, name: str, correlation: Callable[[Any, Any], Any]) -> Agreement:
        self._want(name, is_pair=True, is_ordered=True)

        def correlate(ratings: "npt.NDArray[Any]") -> float | str:
            if (ratings == ratings[0]).all(axis=0).any():
                return _CONSTANT
            return float(correlation(ratings[:, 0], ratings[:, 1]))

        return self._measure(name, self._numbers, correlate)

    def _distance(self, name: str, figure: Callable[[Any], float]) -> Agreement:
        self._want(name, is_pair=True, is_ordered=True)
        return self._measure(name, self._numbers, lambda ratings: figure(abs(ratings[:, 0] - ratings[:, 1])))

    def _want(self, name: str, *, is_pair: bool = False, is_ordered: bool = False) -> None:
        problems = []
        if is_pair and self.num_raters != 2:
            problems.append(f"{name} must be of 2 raters, got {self.num_raters}: choose two of them")
        if is_ordered and not self.is_ordered:
            problems.append(f"{name} must be of ordered ratings, got words: give their scale in order")
        if problems:
            raise InputError(problems)

    def _measure(self, name: str, rows: "npt.NDArray[Any]", statistic: Statistic) -> Agreement:
        """Return the statistic of all rows with its bootstrap interval over them."""
        sizes = {"num_subjects": self.num_subjects, "num_dropped": self.num_dropped}
        value = statistic(rows) if self.num_subjects else "no subject has all ratings"
        if isinstance(value, str):
            return Agreement(statistic=name, value=None, interval=None, reason=value, **sizes)

        def of_positions(positions: "npt.NDArray[np.intp]") -> float | None:
            found = statistic(rows[positions])
            return None if isinstance(found, str) else found

        drawn = resample(of_positions, len(rows), value, seed=self._seed, resamples=self._resamples)
        return Agreement(
            statistic=name,
            value=value,
            interval=drawn.interval,
            num_degenerate=drawn.num_degenerate,
            reason=drawn.reason,
            **sizes,
        )


def side_by_side(raters: Sequence[Mapping[str, Rating | None]]) -> list[list[Rating | None]]:
    """Return each rater's ratings in one order of all subjects, by id, with None where a rater has not rated one."""
    subjects = dict.fromkeys(subject for one in raters for subject in one)
    return [[one.get(subject) for subject in subjects] for one in raters]


def agreement_of_two(
    first: Ratings, second: Ratings, *, scale: Sequence[Rating] | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Agreement, ...]:
    """Return every measure that fits two raters: of words without a scale percent agreement and kappa only."""
    table = RatingTable((first, second), scale=scale, seed=seed, resamples=resamples)
    found = [table.percent_agreement(), table.cohens_kappa()]
    if table.is_ordered:
        found += [table.cohens_kappa("linear"), table.cohens_kappa("quadratic")]
        found += [table.icc("ICC(3,1)"), table.icc("ICC(2,1)"), table.kendalls_tau(), table.spearmans_rho()]
        found += [table.mean_absolute_error(), table.within_one()]
    return tuple(found)


def agreement_of_many(
    ratings: Sequence[Ratings], *, scale: Sequence[Rating] | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Agreement, ...]:
    """Return the measures that fit any number of raters, `ratings[rater][subject]`: kappa, and ICC of ordered ones."""
    table = RatingTable(ratings, scale=scale, seed=seed, resamples=resamples)
    forms: tuple[IccForm, ...] = ("ICC(3,1)", "ICC(2,1)", "ICC(3,k)", "ICC(2,k)")
    return (table.fleiss_kappa(), *(table.icc(form) for form in forms if table.is_ordered))


def _counts(places: "npt.NDArray[Any]", number: int) -> "npt.NDArray[np.intp]":
    import numpy as np

    return np.bincount(places, minlength=number)


def _check(ratings: Sequence[Ratings], scale: Sequence[Rating] | None) -> None:
    problems = []
    if len(ratings) < 2:
        problems.append(f"agreement must be of 2 raters or more, got {len(ratings)}: add another rater's ratings")
    if len({len(one) for one in ratings}) > 1:
        lengths = ", ".join(str(len(one)) for one in ratings)
        problems.append(f"each rater must rate the same subjects, got {lengths} ratings: put None where one is missing")
    given = {rating for one in ratings for rating in one if rating is not None}
    if scale is not None:
        if len(set(scale)) != len(scale) or not scale:
            problems.append(f"a scale must list distinct points, got {list(scale)}: name each once")
        strangers = sorted(given - set(scale), key=str)
        problems += [f"a rating must be on the scale, got {rating!r}: make it None" for rating in strangers]
    points = given | set(scale or ())
    if len({isinstance(point, str) for point in points}) > 1:
        problems.append("ratings must be all words or all numbers, got both: put them on one scale")
    for point in points:
        if not isinstance(point, str) and not math.isfinite(point):
            problems.append(f"a rating must be finite, got {point}: make it None")
    if problems:
        raise InputError(problems)


def _found_points(ratings: Sequence[Ratings]) -> list[Rating]:
    given = {rating for one in ratings for rating in one if rating is not None}
    words = sorted(point for point in given if isinstance(point, str))
    numbers = sorted(point for point in given if not isinstance(point, str))
    return [*words, *numbers]


def _values(points: Sequence[Rating]) -> list[float]:
    """Return what the points count as: numbers as themselves, words as their places."""
    return [float(place + 1) if isinstance(point, str) else float(point) for place, point in enumerate(points)]
