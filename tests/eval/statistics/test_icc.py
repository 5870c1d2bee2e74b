"""Intraclass correlation: the published worked example, and what holds for every table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import f_oneway

from eval.statistics.icc import ICC_FORMS, IccForm, intraclass_correlation, mean_squares

# Four judges' ratings of six targets. Source: Shrout and Fleiss 1979, table 2.
SIX_BY_FOUR = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=np.float64
)
PUBLISHED = dict(zip(ICC_FORMS, (0.17, 0.29, 0.71, 0.44, 0.62, 0.91), strict=True))
TABLES = arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(2, 4)), elements=st.integers(1, 5).map(float))


@pytest.mark.parametrize(("form", "value"), PUBLISHED.items())
def test_the_published_example(form: IccForm, value: float) -> None:
    assert round(float(intraclass_correlation(SIX_BY_FOUR, form)), 2) == value


def test_the_published_mean_squares() -> None:
    assert [round(square, 2) for square in mean_squares(SIX_BY_FOUR)] == [11.24, 32.49, 1.02, 6.26]


def test_subjects_over_within_is_the_one_way_f_of_scipy() -> None:
    found = mean_squares(SIX_BY_FOUR)
    assert found.subjects / found.within == pytest.approx(f_oneway(*SIX_BY_FOUR).statistic, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(TABLES, st.sampled_from(ICC_FORMS))
def test_order_shift_and_scale_change_nothing(table: np.ndarray, form: IccForm) -> None:
    found = intraclass_correlation(table, form)
    for other in (table[::-1], table[:, ::-1], table + 10, table * 3):
        again = intraclass_correlation(other, form)
        if isinstance(found, str):
            assert again == found
        else:
            assert again == pytest.approx(found, abs=1e-6)
            assert found <= 1 + 1e-9


def test_a_stricter_rater_counts_against_agreement_only() -> None:
    table = np.array([[1, 3], [2, 4], [3, 5], [2, 4]], dtype=np.float64)
    assert intraclass_correlation(table, "ICC(3,1)") == pytest.approx(1)
    assert float(intraclass_correlation(table, "ICC(2,1)")) < 0.5


@pytest.mark.parametrize("form", ICC_FORMS)
@pytest.mark.parametrize("rating", [0.0, 0.1, 3.3])
def test_equal_ratings_have_no_coefficient(form: IccForm, rating: float) -> None:
    assert intraclass_correlation(np.full((5, 3), rating), form) == "the subjects' ratings do not differ"


def test_subjects_with_equal_means_have_none_of_the_mean_rating() -> None:
    table = np.array([[1, 5], [5, 1], [3, 3]], dtype=np.float64)
    assert intraclass_correlation(table, "ICC(3,k)") == "the subjects' ratings do not differ"
    assert intraclass_correlation(table, "ICC(3,1)") == pytest.approx(-1)
    assert intraclass_correlation(table, "ICC(2,k)") == "the variance is estimated below 0"
