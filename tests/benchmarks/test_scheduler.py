"""The scheduler's benchmark, small: every episode is played whole, and each figure counts what it says."""

import pytest

from benchmarks.live import measure_memory, measure_resume
from benchmarks.scheduler import measure_scheduler


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize(("protocol", "turns"), [("counseling", 16), ("mental_arena", 83)])
def test_every_turn_of_every_episode_is_counted(protocol: str, turns: int, journal: bool) -> None:
    (figures,) = measure_scheduler(protocol, live=5, episodes=12, journal=journal)
    assert figures.episodes == 12
    assert figures.turns == 12 * turns
    assert figures.turns_per_s == pytest.approx(figures.turns / figures.elapsed_s)
    assert 0 <= figures.lag_p50_s <= figures.lag_p99_s <= figures.lag_max_s


def test_transcripts_weigh_at_least_their_text() -> None:
    figures = measure_memory(300, replies=10)
    assert figures.over_idle > 300 * 10 * 450


def test_a_resumed_run_stands_where_it_stood() -> None:
    figures = measure_resume(20, replies=5)
    assert (figures.live, figures.replies) == (20, 5)
    assert figures.resume_s > 0
