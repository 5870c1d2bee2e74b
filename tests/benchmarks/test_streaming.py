"""The stream row: every episode's samples are seen by a process of its own, and what was never seen is no figure."""

import pytest

from benchmarks.streaming import StreamFigures, compare, make_records, measure_idle, measure_stream


async def test_every_episode_is_seen_after_it_ended() -> None:
    found = await measure_stream(40, rate=400)
    assert len(found.lags_s) == 40
    assert 0 < found.lags_s[0] <= found.lags_s[-1] < 30
    assert 0 < found.episodes_per_s < 1000


async def test_a_worker_that_needs_less_than_comes_hardly_waits() -> None:
    assert 0 <= await measure_idle(1200, rate=200) < 0.5


def test_no_two_patients_are_alike() -> None:
    assert len({record.outcome for record in make_records(20)}) == 20


def test_an_episode_that_was_never_seen_is_an_error() -> None:
    with pytest.raises(ValueError, match="got none of 1"):
        compare({"a": 1.0, "b": 2.0}, {"a": 1.5})


def test_lags_and_rate() -> None:
    found = compare({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 1.5, "b": 2.1, "c": 7.0})
    assert found.lags_s == pytest.approx((0.1, 0.5, 4.0)) and found.episodes_per_s == pytest.approx(0.5)
    assert StreamFigures(lags_s=(0.1, 0.2), episodes_per_s=1).percentile(0.99) == pytest.approx(200)
