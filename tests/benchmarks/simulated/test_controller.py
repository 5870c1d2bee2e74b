from collections.abc import Mapping

import pytest

from benchmarks.real.outcome import Finish, Outcome
from benchmarks.simulated.controller import Forced, turnovers
from benchmarks.simulated.product import Played, play
from engine.admission import Pool
from engine.simulation.backend import Demand
from engine.steps import Usage
from tests.benchmarks.simulated.workloads import make_sessions


def make_run(tokens: list[int]) -> Played:
    """An episode of one call ends every second, with that many tokens."""
    finishes = tuple(Finish(float(at), Usage(10, made, 0), b"") for at, made in enumerate(tokens))
    ended_s = [finish.at_s for finish in finishes]
    outcome = Outcome(float(len(tokens)), finishes)
    return Played(outcome=outcome, demand=Demand(), tallies=[], real_s=1.0, ended_s=ended_s, moves=0)


def test_a_right_start_needs_no_turnover() -> None:
    assert turnovers(make_run([10] * 100), turnover_s=10.0, best=10.0) == 0


def test_a_slow_start_is_counted_in_turnovers() -> None:
    assert turnovers(make_run([2] * 30 + [10] * 270), turnover_s=10.0, best=10.0) == pytest.approx(3, abs=0.1)


def test_a_fast_beginning_that_does_not_last_is_no_recovery() -> None:
    assert turnovers(make_run([12] * 10 + [2] * 60 + [10] * 230), turnover_s=10.0, best=10.0) > 3


def test_a_collapse_in_a_long_run_is_not_thinned_out() -> None:
    tokens = [10] * 50 + [4] * 10 + [10] * 900
    assert sum(tokens[:-90]) > 0.99 * 10 * len(tokens[:-90])
    assert turnovers(make_run(tokens), turnover_s=10.0, best=10.0) == pytest.approx(6, abs=0.2)


def test_the_tail_is_left_out() -> None:
    assert turnovers(make_run([10] * 95 + [1] * 50), turnover_s=10.0, best=10.0) == 0


def test_a_forced_start_has_so_many_live_before_admission_has_a_say() -> None:
    workload = make_sessions(24)
    forced = Forced(20, 10**9)
    started: list[int] = []
    room = forced.room

    def watched(num_live: int, pools: Mapping[str, Pool]) -> int:
        started.append(num_live)
        return room(num_live, pools)

    forced.room = watched  # type: ignore[method-assign]
    run = play(workload, admission=forced)
    assert len(run.ended_s) == 24
    assert forced.num_shed == 0
    assert max(started) >= 20


def test_what_never_gets_there_is_the_whole_run() -> None:
    assert turnovers(make_run([5] * 100), turnover_s=10.0, best=10.0) == pytest.approx(8.9, abs=0.1)
