"""Agreement: libraries and published examples, missing and constant ratings, what holds for every pair of raters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import cohen_kappa_score, mean_absolute_error
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from engine.errors import InputError
from eval.statistics.agreement import (
    Agreement,
    Rating,
    RatingTable,
    Weights,
    agreement_of_many,
    agreement_of_two,
    side_by_side,
)

FIVE = (1, 2, 3, 4, 5)
# Subjects by categories, 14 raters each: the example with kappa 0.210 that follows Fleiss 1971 in textbooks.
TEN_BY_FIVE = (
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
)
PAIRS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30)


def make_raters(seed: int = 0, number: int = 60) -> tuple[list[int], list[int]]:
    draw = np.random.default_rng(seed)
    first = draw.integers(1, 6, number)
    return first.tolist(), np.clip(first + draw.integers(-1, 2, number), 1, 5).tolist()


def by_name(found: tuple[Agreement, ...]) -> dict[str, Agreement]:
    return {one.statistic: one for one in found}


@pytest.mark.parametrize("seed", range(4))
def test_two_raters_agree_with_the_libraries(seed: int) -> None:
    first, second = make_raters(seed)
    found = {
        name: one.value for name, one in by_name(agreement_of_two(first, second, scale=FIVE, resamples=20)).items()
    }
    assert found["Cohen's kappa"] == pytest.approx(cohen_kappa_score(first, second, labels=FIVE), abs=1e-6)
    for weights in ("linear", "quadratic"):
        expected = cohen_kappa_score(first, second, labels=FIVE, weights=weights)
        assert found[f"Cohen's kappa, {weights}"] == pytest.approx(expected, abs=1e-6)
    assert found["Kendall's tau-b"] == pytest.approx(kendalltau(first, second).statistic, abs=1e-6)
    assert found["Spearman's rho"] == pytest.approx(spearmanr(first, second).statistic, abs=1e-6)
    assert found["mean absolute error"] == pytest.approx(mean_absolute_error(first, second), abs=1e-6)
    assert found["within 1"] == 1
    assert found["percent agreement"] == np.mean(np.array(first) == np.array(second))


def test_cohens_own_kind_of_table() -> None:
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert RatingTable((first, second)).cohens_kappa().value == pytest.approx(0.4)


def test_weights_go_by_the_value_of_the_points() -> None:
    first, second = [1, 5, 1, 2, 1, 2, 2, 2, 5], [2, 1, 1, 2, 1, 2, 2, 5, 1]
    linear = RatingTable((first, second), resamples=10).cohens_kappa("linear").value
    assert linear == pytest.approx(cohen_kappa_score(first, second, labels=FIVE, weights="linear"), abs=1e-6)
    assert linear != pytest.approx(cohen_kappa_score(first, second, weights="linear"), abs=1e-3)


def test_fleiss_on_the_published_example() -> None:
    rows = [[category for category, count in enumerate(row) for _ in range(count)] for row in TEN_BY_FIVE]
    found = RatingTable(list(zip(*rows, strict=True))).fleiss_kappa()
    assert round(found.value or 0, 3) == 0.210
    assert found.num_subjects == 10


def test_fleiss_agrees_with_statsmodels() -> None:
    ratings = np.random.default_rng(5).integers(0, 3, (4, 50))
    expected = fleiss_kappa(aggregate_raters(ratings.T)[0])
    assert RatingTable(ratings.tolist(), resamples=20).fleiss_kappa().value == pytest.approx(expected, abs=1e-6)


def test_a_missing_rating_leaves_its_subject_out() -> None:
    first, second = make_raters()
    holes = [None if n % 5 == 0 else rating for n, rating in enumerate(second)]
    kept = [n for n in range(60) if n % 5]
    found = agreement_of_two(first, holes, resamples=50)
    expected = agreement_of_two([first[n] for n in kept], [second[n] for n in kept], resamples=50)
    assert [one.value for one in found] == [one.value for one in expected]
    assert {(one.num_subjects, one.num_dropped) for one in found} == {(48, 12)}


def test_raters_are_put_side_by_side_by_subject() -> None:
    assert side_by_side([{"a": 1, "b": 2}, {"c": 3, "b": None, "a": 4}]) == [[1, 2, None], [4, None, 3]]
    assert side_by_side([]) == []


def test_nothing_in_common_has_no_value() -> None:
    found = agreement_of_two([1, None, 2], [None, 3, None], resamples=10)
    assert {(one.value, one.interval, one.reason) for one in found} == {(None, None, "no subject has all ratings")}


def test_constant_ratings_are_undefined_with_a_reason() -> None:
    found = by_name(agreement_of_two([3] * 8, [3] * 8, resamples=10))
    assert found["Cohen's kappa"].reason == found["Cohen's kappa, quadratic"].reason == "every rating is the same"
    assert found["ICC(2,1)"].reason == "the subjects' ratings do not differ"
    assert (
        found["Kendall's tau-b"].reason == found["Spearman's rho"].reason == "one rater gave the same rating throughout"
    )
    undefined = {name for name, one in found.items() if one.value is None}
    assert undefined == set(found) - {"percent agreement", "mean absolute error", "within 1"}
    assert RatingTable(([3] * 8, [3] * 8, [3] * 8)).fleiss_kappa().reason == "every rating is the same"


def test_one_constant_rater_leaves_kappa_at_chance() -> None:
    found = by_name(agreement_of_two([1, 2, 3, 2], [2, 2, 2, 2], resamples=50))
    assert found["Cohen's kappa"].value == 0
    assert found["Spearman's rho"].value is None


def test_degenerate_resamples_are_counted() -> None:
    found = RatingTable(([1, 1, 1, 1, 2], [1, 1, 1, 1, 2]), resamples=1000).cohens_kappa()
    assert found.value == 1
    # A resample without the fifth subject has one rating throughout.
    assert found.num_degenerate == pytest.approx(1000 * 0.8**5, abs=60)
    assert found.interval is not None


def test_one_subject_has_a_value_and_no_interval() -> None:
    found = by_name(agreement_of_two([1], [2]))
    assert found["mean absolute error"].value == 1
    assert found["mean absolute error"].reason == "an interval needs 2 subjects or more, got 1"
    assert found["ICC(3,1)"].reason == "needs 2 subjects or more, got 1"


@given(PAIRS)
@settings(max_examples=20, deadline=None)
def test_range_symmetry_and_order(pairs: list[tuple[int, int]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    found = agreement_of_two(first, second, scale=FIVE, resamples=6)
    swapped = agreement_of_two(second, first, scale=FIVE, resamples=6)
    turned = agreement_of_two(first[::-1], second[::-1], scale=FIVE, resamples=6)
    for one, other, back in zip(found, swapped, turned, strict=True):
        if one.value is None:
            assert one.reason
            assert other.value is None
            continue
        assert one.value == pytest.approx(other.value, abs=1e-9) == pytest.approx(back.value, abs=1e-9)
        assert one.value <= (4 if one.statistic == "mean absolute error" else 1 + 1e-9)
        # Of few subjects ICC(2,1) has no lower limit at -1: the raters' variance is estimated below 0.
        assert one.value >= -1 - 1e-9 or one.statistic == "ICC(2,1)"
        assert one.interval is None or one.interval.contains(one.value)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=20).filter(lambda ratings: len(set(ratings)) > 1))
@settings(max_examples=20, deadline=None)
def test_a_rater_agrees_wholly_with_itself(ratings: list[int]) -> None:
    for one in agreement_of_two(ratings, ratings, resamples=10):
        assert one.value == pytest.approx(0 if one.statistic == "mean absolute error" else 1)


def test_the_interval_is_seeded_and_narrows_with_subjects() -> None:
    few, many = make_raters(number=30), make_raters(number=480)
    narrow, wide = (RatingTable(raters, seed=2).cohens_kappa().interval for raters in (many, few))
    assert narrow is not None
    assert wide is not None
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2
    assert RatingTable(few, seed=2).cohens_kappa().interval == wide != RatingTable(few, seed=3).cohens_kappa().interval


def test_the_interval_covers_as_often_as_it_says() -> None:
    draw = np.random.default_rng(8)
    raters = draw.integers(0, 2, (40, 2, 80))
    intervals = [RatingTable(pair.tolist(), resamples=200).cohens_kappa().interval for pair in raters]
    covered = sum(interval is not None and interval.contains(0) for interval in intervals)
    assert covered >= 34


def test_words_need_a_scale_for_what_goes_by_order() -> None:
    first, second = ["low", "high", "mid", "low"], ["low", "mid", "mid", "mid"]
    assert [one.statistic for one in agreement_of_two(first, second, resamples=10)] == [
        "percent agreement",
        "Cohen's kappa",
    ]
    found = by_name(agreement_of_two(first, second, scale=("low", "mid", "high"), resamples=10))
    assert found["mean absolute error"].value == 0.5
    assert found["within 1"].value == 1
    with pytest.raises(InputError, match="must be of ordered ratings, got words"):
        RatingTable((first, second)).cohens_kappa("linear")


def test_many_raters_get_kappa_and_the_mean_ones_too() -> None:
    ratings = np.random.default_rng(2).integers(1, 6, (3, 30)).tolist()
    names = [one.statistic for one in agreement_of_many(ratings, resamples=10)]
    assert names == ["Fleiss's kappa", "ICC(3,1)", "ICC(2,1)", "ICC(3,k)", "ICC(2,k)"]
    words = [[str(rating) for rating in one] for one in ratings]
    assert [one.statistic for one in agreement_of_many(words, resamples=10)] == ["Fleiss's kappa"]
    with pytest.raises(InputError, match="must be of 2 raters, got 3"):
        RatingTable(ratings).spearmans_rho()


@pytest.mark.parametrize(
    ("ratings", "scale", "problem"),
    [
        ([[1, 2]], None, "2 raters or more, got 1"),
        ([[1, 2], [1]], None, "got 2, 1 ratings"),
        ([[1, 6], [1, 2]], FIVE, "on the scale, got 6"),
        ([[1, 2], [1, "2"]], None, "all words or all numbers"),
        ([[1, float("nan")], [1, 2]], None, "must be finite, got nan"),
        ([[1, 2], [1, 2]], (1, 1, 2), "distinct points"),
    ],
)
def test_ratings_that_cannot_be_compared_are_refused(
    ratings: list[list[Rating | None]], scale: tuple[Rating, ...] | None, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        RatingTable(ratings, scale=scale)


def test_every_weight_is_a_kappa_of_its_own() -> None:
    table = RatingTable(make_raters(1), scale=FIVE, resamples=10)
    kinds: tuple[Weights, ...] = ("none", "linear", "quadratic")
    assert len({table.cohens_kappa(weights).value for weights in kinds}) == 3
