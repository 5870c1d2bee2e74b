"""Intraclass correlation: the share of the ratings' variance that is the subjects'; pure.

Six forms. The first number is the design: 1 each subject has raters of its own, 2 the same raters are drawn from many
(absolute agreement: a rater who is always stricter counts against it), 3 these raters are all that matter
(consistency: such a rater does not). The second is what is relied on: 1 a single rating, k the mean of all. Knows
nothing of missing ratings.
"""

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

IccForm = Literal["ICC(1,1)", "ICC(2,1)", "ICC(3,1)", "ICC(1,k)", "ICC(2,k)", "ICC(3,k)"]
ICC_FORMS: Final[tuple[IccForm, ...]] = get_args(IccForm)

_ROUNDING: Final = 1e-12


class MeanSquares(NamedTuple):
    """Mean squares of an analysis of variance: between subjects, between raters, of what remains, within subjects."""

    subjects: float
    raters: float
    rest: float
    within: float


def intraclass_correlation(ratings: "npt.NDArray[np.float64]", form: IccForm) -> float | str:
    """Return the coefficient of complete ratings, shape [subjects, raters], or the reason why it has none.

    At least two raters. Below 0 where subjects differ less than chance alone would have it; forms with k have no lower
    limit. Source: Shrout and Fleiss 1979, table 4 and the formulas before it.
    """
    num_subjects, num_raters = ratings.shape
    if num_subjects < 2:
        return f"needs 2 subjects or more, got {num_subjects}"
    found = mean_squares(ratings)
    error = found.within if form.startswith("ICC(1") else found.rest
    bias = (found.raters - found.rest) / num_subjects if form.startswith("ICC(2") else 0.0
    if form.endswith("k)"):
        total = found.subjects + bias
    else:
        total = found.subjects + (num_raters - 1) * error + num_raters * bias
    # Sums of squares of equal numbers come out as rounding, not as 0.
    if total <= _ROUNDING * float((ratings**2).mean()):
        return "the subjects' ratings do not differ" if found.subjects <= total else "the variance is estimated below 0"
    return (found.subjects - error) / total


def mean_squares(ratings: "npt.NDArray[np.float64]") -> MeanSquares:
    """Return the mean squares of ratings, shape [subjects, raters], at least two of each."""
    num_subjects, num_raters = ratings.shape
    centered = ratings - ratings.mean()
    subjects = num_raters * float((centered.mean(axis=1) ** 2).sum())
    raters = num_subjects * float((centered.mean(axis=0) ** 2).sum())
    rest = max(float((centered**2).sum()) - subjects - raters, 0.0)
    return MeanSquares(
        subjects=subjects / (num_subjects - 1),
        raters=raters / (num_raters - 1),
        rest=rest / ((num_subjects - 1) * (num_raters - 1)),
        within=(raters + rest) / (num_subjects * (num_raters - 1)),
    )
