import pytest

from benchmarks.simulated import efficiency, policies, rivals
from tests.benchmarks.simulated.workloads import make_sessions


def test_efficiency_names_the_best_order_and_the_trace() -> None:
    [found] = efficiency.efficiency("efficiency", make_sessions(24), 4, repeats=2)
    assert found.repeats == 2
    assert found.trace
    assert len(found.configuration["orders"]) == 2
    assert 0.5 < found.median < 1.5


def test_a_speed_up_over_other_work_does_not_exist() -> None:
    mine = [run.outcome for run in rivals._plays(make_sessions(4), 1)]
    other = [run.outcome for run in rivals._plays(make_sessions(5), 1)]
    with pytest.raises(ValueError, match="must compare equal traces"):
        rivals._versus("speedup", make_sessions(4), mine, other, None)


@pytest.mark.parametrize("name", policies.TRIALS)
def test_every_policy_can_be_left_out(name: str) -> None:
    trial = policies.TRIALS[name]
    workload = make_sessions(40)
    assert trial.with_it(workload).outcome.trace == trial.without(workload).outcome.trace
