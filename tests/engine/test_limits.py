"""Limits: what is counted, when nothing more may be sent, and how shards share them."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import load
from engine.config_sections import LimitsConfig
from engine.errors import RunError
from engine.limits import ENDLESS, Meter, Reached, Spent, pool_of, share_limits, used_before
from engine.prices import Prices
from engine.steps import Usage
from engine.totals import CallTotals, Totals

PRICES = {"base": Prices(price_in=2.0, price_out=10.0), "judge": Prices()}
USED = {"base": CallTotals(5, 1000, 100), "judge": CallTotals(1, 500, 50)}
TABLE = {
    "models": {"base": {"kind": "vllm"}, "judge": {"kind": "openai", "model": "m"}},
    "roles": {"patient": "base", "therapist": "base", "judge": "judge"},
}


@pytest.mark.parametrize(
    ("limits", "room", "reached"),
    [
        ({}, ENDLESS, []),
        ({"max_calls": 9}, 3, []),
        ({"max_calls": 6}, 0, [Reached("max_calls", 6, 6)]),
        ({"max_calls": 4}, 0, [Reached("max_calls", 4, 6)]),
        ({"max_tokens": 1651}, ENDLESS, []),
        ({"max_tokens": 1650, "max_calls": 9}, 0, [Reached("max_tokens", 1650, 1650)]),
        # 1,000 at 2 and 100 at 10 a million: 0.003; the judge has no prices.
        ({"max_cost": 0.0031}, ENDLESS, []),
        ({"max_cost": 0.003}, 0, [Reached("max_cost", 0.003, 0.003)]),
        ({"max_hours": 1.6}, ENDLESS, []),
        ({"max_hours": 1.5, "max_calls": 1}, 0, [Reached("max_calls", 1, 6), Reached("max_hours", 1.5, 1.5)]),
    ],
)
def test_what_was_used_counts_against_each_limit(limits: dict[str, Any], room: int, reached: list[Reached]) -> None:
    meter = Meter(LimitsConfig(**limits), prices=PRICES, before=USED, played_s=3600.0)
    meter.begin(100.0)
    assert meter.room(1900.0) == room
    assert meter.reached(1900.0) == reached


def test_calls_count_when_they_go_out_and_tokens_when_answers_come() -> None:
    meter = Meter(LimitsConfig(max_calls=10), prices=PRICES)
    meter.sent(4)
    assert meter.room(0.0) == 6
    meter.answered("base", Usage(1_000_000, 100_000, 0))
    meter.answered("judge", Usage(7, 3, 0))
    assert meter.spent(50.0) == Spent(calls=4, tokens=1_100_010, cost=3.0, hours=0.0)
    assert Meter(LimitsConfig(max_calls=1), prices={"judge": Prices()}).spent(0.0).cost is None


def test_a_reached_limit_is_said_with_both_figures() -> None:
    assert str(Reached("max_tokens", 10_000, 12_345)) == "limits.max_tokens is reached: 12,345 of 10,000"
    assert str(Reached("max_tokens", 1e7, 12345678.0)) == "limits.max_tokens is reached: 12,345,678 of 10,000,000"
    assert str(Reached("max_cost", 2.5, 2.51)) == "limits.max_cost is reached: 2.51 of 2.5"


@given(
    st.integers(1, 200),
    st.integers(0, 250),
    st.lists(st.tuples(st.integers(0, 64), st.integers(0, 40), st.integers(0, 3000)), max_size=60),
)
def test_no_more_calls_are_sent_than_may_be_and_none_once_anything_is_reached(
    max_calls: int, before: int, waves: list[tuple[int, int, int]]
) -> None:
    limits = LimitsConfig(max_calls=max_calls, max_tokens=5000, max_hours=2.0)
    meter = Meter(limits, before={"base": CallTotals(before)})
    meter.begin(0.0)
    sent = in_flight = 0
    now = 0.0
    for wanted, answered, tokens in waves:
        now += tokens / 3
        room = meter.room(now)
        assert bool(room) != bool(meter.reached(now))
        num = min(wanted, room)
        meter.sent(num)
        sent += num
        in_flight += num
        assert sent == 0 or before + sent <= max_calls
        for _ in range(min(answered, in_flight)):
            meter.answered("base", Usage(tokens, 1, 0))
            in_flight -= 1
    assert meter.spent(now).calls == before + sent


@given(st.integers(1, 9), st.integers(0, 500), st.integers(0, 500))
def test_shares_add_up_to_the_whole_and_all_have_all_hours(num_shards: int, calls: int, tokens: int) -> None:
    whole = LimitsConfig(max_calls=calls, max_tokens=tokens, max_cost=3.0, max_hours=2.0)
    shares = [share_limits(whole, index, num_shards) for index in range(num_shards)]
    assert sum(share.max_calls for share in shares) == calls
    assert sum(share.max_tokens for share in shares) == tokens
    assert max(share.max_calls for share in shares) - min(share.max_calls for share in shares) <= 1
    assert math.isclose(sum(share.max_cost for share in shares), 3.0)
    assert {share.max_hours for share in shares} == {2.0}


def test_two_shards_used_what_both_did_in_the_longer_time() -> None:
    one, two = Spent(calls=1, tokens=10, cost=None, hours=2.0), Spent(calls=2, tokens=5, cost=0.5, hours=1.0)
    assert one + two == Spent(calls=3, tokens=15, cost=0.5, hours=2.0)
    assert (one + one).cost is None


def test_what_was_used_before_goes_by_pool_live_episodes_included() -> None:
    ended = Totals(calls=9, prompt_tokens=90, roles={"patient": CallTotals(4, 40), "judge": CallTotals(5, 50)})
    live = {"base/1": CallTotals(2, 7), "judge": CallTotals(1, 1), "": CallTotals(1)}
    assert used_before(load(TABLE), ended, live) == {
        "": CallTotals(1),
        "base": CallTotals(6, 47),
        "judge": CallTotals(6, 51),
    }
    assert pool_of("basement/0", load(TABLE)) == ""


def test_what_failed_at_the_embedder_is_no_call() -> None:
    live = {"base/1": CallTotals(2, 7), "embedder": CallTotals(3)}
    assert used_before(load(TABLE), Totals(), live)["base"] == CallTotals(2, 7)
    assert "" not in {pool for pool, used in used_before(load(TABLE), Totals(), live).items() if used.calls}
    table = {**TABLE, "models": {**TABLE["models"], "embedder": {"kind": "openai", "model": "m"}}}
    assert used_before(load(table), Totals(), live)["embedder"] == CallTotals(3)


def test_a_limit_of_cost_needs_to_know_the_roles() -> None:
    older = Totals(calls=9, prompt_tokens=90)
    assert used_before(load(TABLE), older, {}) == {"": CallTotals(9, 90)}
    table: dict[str, Any] = {**TABLE, "limits": {"max_cost": 1.0}}
    table["models"] = {**table["models"], "base": {"kind": "vllm", "price_in": 1, "price_out": 1}}
    with pytest.raises(RunError, match="got 9 calls of episodes that an older version"):
        used_before(load(table), older, {})
