"""Outcomes: rates, the steady state, and the hash of what was done."""

import pytest

from benchmarks.figures import ratio
from benchmarks.real.outcome import Finish, Outcome, finish_of
from benchmarks.trace import Call, hash_calls
from engine.steps import Usage


def make_outcome(*times: float, tokens: int = 10, tail_s: float = 0.0) -> Outcome:
    finishes = tuple(Finish(at, Usage(100, tokens, 50), bytes([i])) for i, at in enumerate(times))
    return Outcome(max(times) + tail_s, finishes)


def make_calls() -> list[Call]:
    return [
        Call(episode="e", path=str(i), role="r", purpose="p", prompt_ids=(1, i), completion_ids=(i,)) for i in range(3)
    ]


def test_tokens_are_sums_over_calls() -> None:
    outcome = make_outcome(1.0, 2.0)
    assert (outcome.completion_tokens, outcome.prompt_tokens, outcome.cached_tokens) == (20, 200, 100)
    assert outcome.rate == 10.0


def test_the_steady_state_leaves_out_ramp_and_tail() -> None:
    even = [10.0 + i for i in range(100)]
    outcome = make_outcome(*even, even[-1] + 50.0, tail_s=30.0)
    assert outcome.steady_rate == pytest.approx(10.0)
    assert outcome.rate < 6.0


def test_order_of_finishes_does_not_matter() -> None:
    times = [1.0, 5.0, 2.0, 9.0, 3.0, 4.0]
    assert make_outcome(*times).steady_rate == make_outcome(*sorted(times)).steady_rate


def test_a_single_call_has_its_whole_rate() -> None:
    assert make_outcome(2.0).steady_rate == 5.0


def test_the_hash_of_the_work_is_the_hash_of_the_trace() -> None:
    calls = make_calls()
    finishes = [finish_of(call, 1.0, call.completion_ids, 0) for call in reversed(calls)]
    assert Outcome(1.0, tuple(finishes)).trace == hash_calls(calls)


def test_a_ratio_refuses_contenders_that_said_something_else() -> None:
    calls = make_calls()
    right = Outcome(1.0, tuple(finish_of(call, 1.0, call.completion_ids, 0) for call in calls))
    wrong = Outcome(1.0, tuple(finish_of(call, 1.0, (9,), 0) for call in calls))
    assert ratio("r", [right.rate], [right.rate], traces=(right.trace, right.trace)).median == 1.0
    with pytest.raises(ValueError, match="equal traces"):
        ratio("r", [right.rate], [wrong.rate], traces=(right.trace, wrong.trace))
