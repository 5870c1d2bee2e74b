"""The bootstrap: seeded, near the textbook's standard error, degenerate resamples counted."""

import numpy as np
import pytest

from eval.statistics import bootstrap
from eval.statistics.bootstrap import mean_draws, percentiles, resample
from eval.statistics.intervals import Interval

VALUES = np.random.default_rng(3).normal(size=400)


def test_draws_of_a_mean_vary_as_its_standard_error_says() -> None:
    draws = mean_draws(VALUES, seed=1, resamples=4000)
    assert draws.std() == pytest.approx(VALUES.std() / 20, rel=0.05)
    assert draws.mean() == pytest.approx(VALUES.mean(), abs=0.01)


def test_a_seed_gives_the_same_draws_and_another_does_not() -> None:
    assert (mean_draws(VALUES, seed=1) == mean_draws(VALUES, seed=1)).all()
    assert not (mean_draws(VALUES, seed=(1, 1)) == mean_draws(VALUES, seed=(1, 2))).any()


def test_draws_are_complete_where_they_do_not_fit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "MAX_CELLS", 3 * len(VALUES))
    assert mean_draws(VALUES, seed=1, resamples=10).shape == (10,)


def test_both_ways_give_one_interval() -> None:
    estimate = float(VALUES.mean())
    found = resample(lambda positions: float(VALUES[positions].mean()), len(VALUES), estimate, seed=5)
    assert found.interval is not None
    expected = percentiles(mean_draws(VALUES, seed=5), estimate)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.interval.contains(estimate)


def test_percentiles_are_numpys_and_hold_the_estimate() -> None:
    draws = np.arange(1001) / 1000
    assert percentiles(draws, 0.5) == Interval(pytest.approx(0.025), pytest.approx(0.975))
    assert percentiles(draws, 2.0) == Interval(pytest.approx(0.025), 2.0)


def test_degenerate_resamples_are_counted_and_left_out() -> None:
    found = resample(lambda positions: None if 0 in positions else 1.0, 20, 1.0, seed=1, resamples=1000)
    assert found.interval is None
    assert found.num_degenerate == pytest.approx(1000 * (1 - 0.95**20), abs=60)
    assert found.reason == f"undefined in {found.num_degenerate} of 1000 resamples"
    rare = resample(lambda positions: None if (positions == 0).sum() > 2 else 1.0, 20, 1.0, seed=1, resamples=1000)
    assert rare.interval == Interval(1.0, 1.0)
    assert 0 < rare.num_degenerate < 200


def test_one_subject_has_no_interval() -> None:
    assert resample(lambda positions: 1.0, 1, 1.0, seed=0).reason == "an interval needs 2 subjects or more, got 1"
