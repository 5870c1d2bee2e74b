import pytest

from benchmarks.simulated.contenders import Calls, gather, in_waves
from benchmarks.simulated.product import play
from benchmarks.simulated.workload import Workload
from tests.benchmarks.simulated.workloads import make_arena, make_sessions


@pytest.mark.parametrize("workload", [make_sessions(), make_arena()], ids=["counseling", "mental_arena"])
def test_every_contender_does_the_work_of_the_product(workload: Workload) -> None:
    calls = Calls(workload)
    found = [
        play(workload).outcome,
        gather(workload),
        in_waves(workload, 2),
        in_waves(workload, workload.num_episodes),
        calls.bare(calls.by_turn()),
        calls.bare(calls.by_dialogue()),
        calls.bare(calls.by_groups(2)),
    ]
    assert len({outcome.trace for outcome in found}) == 1
    assert len({outcome.completion_tokens for outcome in found}) == 1
    assert {len(outcome.finishes) for outcome in found} == {len(calls.depth)}


def test_another_seed_is_another_trace() -> None:
    assert gather(make_sessions(seed=0)).trace != gather(make_sessions(seed=1)).trace


def test_a_simulation_repeats_exactly() -> None:
    first, second = play(make_sessions()), play(make_sessions())
    assert first.outcome.wall_s == second.outcome.wall_s
    assert first.demand == second.demand
    assert first.ended_s == second.ended_s


def test_the_standard_episode_has_five_rounds_and_three_tries_of_each_plan() -> None:
    calls = Calls(make_arena(1))
    paths = [path for _, path in calls.depth]
    assert sum(path.endswith("/score") for path in paths) == 6
    assert len({path.split("/")[1] for path in paths if path.startswith("decode/")}) == 6  # before and after five


def test_calls_come_after_those_they_depend_on() -> None:
    calls = Calls(make_sessions(3))
    order = calls.by_turn()
    assert [calls.depth[place] for place in order] == sorted(calls.depth.values())
    assert [path for _, path in calls.by_dialogue()[:4]] == ["1/therapist", "1/patient", "2/therapist", "2/patient"]


def test_waves_wait_for_their_slowest() -> None:
    workload = make_sessions(8)
    waves = in_waves(workload, 4)
    assert waves.wall_s > gather(workload).wall_s
    ends = sorted({finish.at_s for finish in waves.finishes})
    assert ends[-1] == waves.wall_s
