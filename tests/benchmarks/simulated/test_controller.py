import pytest

from benchmarks.real.outcome import Finish, Outcome
from benchmarks.simulated.controller import turnovers
from benchmarks.simulated.product import Played
from engine.simulation.backend import Demand
from engine.steps import Usage


def make_run(tokens: list[int]) -> Played:
    """An episode of one call ends every second, with that many tokens."""
    finishes = tuple(Finish(float(at), Usage(10, made, 0), b"") for at, made in enumerate(tokens))
    ended_s = [finish.at_s for finish in finishes]
    outcome = Outcome(float(len(tokens)), finishes)
    return Played(outcome=outcome, demand=Demand(), tallies=[], real_s=1.0, ended_s=ended_s, moves=0)


def test_a_right_start_needs_no_turnover() -> None:
    assert turnovers(make_run([10] * 100), turnover_s=10.0, best=10.0) == 0


def test_a_slow_start_is_counted_in_turnovers() -> None:
    assert turnovers(make_run([2] * 30 + [10] * 270), turnover_s=10.0, best=10.0) == pytest.approx(1.5, abs=0.5)


def test_a_fast_beginning_that_does_not_last_is_no_recovery() -> None:
    assert turnovers(make_run([12] * 10 + [2] * 60 + [10] * 230), turnover_s=10.0, best=10.0) > 3


def test_what_never_gets_there_is_the_whole_run() -> None:
    assert turnovers(make_run([5] * 100), turnover_s=10.0, best=10.0) == pytest.approx(9.4, abs=0.2)
