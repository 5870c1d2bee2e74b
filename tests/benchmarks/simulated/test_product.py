import msgspec
import pytest

from benchmarks.simulated.product import play
from engine.admission import Admission
from engine.routing import Router
from tests.benchmarks.simulated.workloads import make_sessions


def test_a_run_ends_every_episode_and_counts_its_tokens() -> None:
    run = play(make_sessions(12))
    assert len(run.ended_s) == 12
    assert run.outcome.completion_tokens == run.demand.completion_tokens
    assert run.episodes_per_s == pytest.approx(12 / run.outcome.wall_s)
    assert 0 < run.hit_ratio <= 1


def test_a_policy_is_switched_off_without_changing_the_work() -> None:
    workload = make_sessions(12)
    whole = play(workload, replicas=2)
    flat = play(workload, replicas=2, change=lambda request: msgspec.structs.replace(request, priority=0))
    still = play(workload, replicas=2, router=lambda: Router(move_share=1e9), admission=Admission(2))
    assert whole.outcome.trace == flat.outcome.trace == still.outcome.trace
    assert still.moves == 0
    assert still.outcome.wall_s > whole.outcome.wall_s
