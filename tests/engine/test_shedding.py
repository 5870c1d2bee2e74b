"""Which live dialogues go on: youngest shed first, oldest taken up first, at least one always."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.admission import ASKING_PER_SLOT, FUTURE, HEADROOM, RESUME, SHED, TRIM_RANGE, Admission, Pool
from engine.backend import ReplicaGauges

ROLES = {"patient": "base", "therapist": "base"}
KV_TOKENS = 10_000


def make_pools(
    slots: int = 8, kv_tokens: int | None = KV_TOKENS, state: str = "ready", waiting: int = 0
) -> dict[str, Pool]:
    return {"base": Pool([ReplicaGauges("base/0", state=state, slots=slots, kv_tokens=kv_tokens, waiting=waiting)], 2)}


def make_live(tokens: Sequence[int], admission: Admission | None = None, slots: int = 8) -> Admission:
    """One live dialogue for each number, e0 the oldest, all balanced before they hold anything."""
    admission = admission or Admission(None)
    admission.balance(make_pools(slots))
    for number in range(len(tokens)):
        admission.start(f"e{number}")
    for number, held in enumerate(tokens):
        admission.observe("base", f"e{number}", "patient", held)
    return admission


def shed(admission: Admission, number: int = 10) -> list[str]:
    return [f"e{n}" for n in range(number) if admission.is_shed(f"e{n}")]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([3000, 3000, 3500], []),
        ([3000, 3000, 3501], ["e2"]),
        ([4000, 4000, 500, 1001], ["e3"]),
        ([8000, 500, 1001, 9000], ["e2", "e3"]),
        ([20_000, 500], ["e1"]),
        ([20_000], []),
    ],
)
def test_the_youngest_are_shed_until_the_rest_fits_and_one_goes_on(tokens: list[int], expected: list[str]) -> None:
    admission = make_live(tokens)
    assert admission.balance(make_pools()) == []
    assert shed(admission) == expected
    assert admission.num_shed == len(expected)


def test_shed_dialogues_go_on_oldest_first_once_there_is_room_and_before_others_start() -> None:
    admission = make_live([4000, 3000, 2000, 1000, 500])
    admission.balance(make_pools())
    assert shed(admission) == ["e3", "e4"]
    assert admission.room(5, make_pools()) <= 0
    admission.observe("base", "e3", "therapist", 600)
    assert admission.balance(make_pools()) == []
    admission.forget("e2", ROLES)
    assert 4000 + 3000 + 1600 > RESUME * KV_TOKENS
    assert admission.balance(make_pools()) == []
    admission.forget("e1", ROLES)
    assert admission.balance(make_pools()) == ["e3", "e4"]
    admission.forget("e0", ROLES)
    assert admission.room(2, make_pools()) > 0


def test_what_ends_while_it_is_shed_leaves_nothing_behind() -> None:
    admission = make_live([8000, 2000])
    admission.balance(make_pools())
    admission.forget("e1", ROLES)
    admission.forget("e0", ROLES)
    assert (admission.num_shed, admission.committed("base")) == (0, 0)
    admission.start("e2")
    assert not admission.is_shed("e2")


def test_what_would_only_queue_is_held_back_until_the_caches_are_known_to_hold_it() -> None:
    num_asking = int(8 * ASKING_PER_SLOT)
    admission = make_live([0] * 20)
    assert shed(admission, 20) == [f"e{n}" for n in range(num_asking, 20)]
    admission.observe("base", "e0", "patient", 100)
    admission.forget("e0", ROLES)
    assert admission.balance(make_pools()) == [f"e{n}" for n in range(num_asking, 20)]


@pytest.mark.parametrize(("tokens_of_second", "expected"), [(100, ["e1"]), (0, [])])
def test_what_has_not_begun_goes_on_only_where_it_could_start_now(tokens_of_second: int, expected: list[str]) -> None:
    admission = make_live([9600, tokens_of_second])
    admission.observe("base", "past", "patient", 9000)
    admission.forget("past", ROLES)
    assert admission.balance(make_pools()) == [] and shed(admission) == ["e1"]
    # Room for what it holds, none for what it comes to hold.
    admission.observe("base", "e0", "patient", 4000)
    assert admission.balance(make_pools()) == expected


def test_the_fullest_pool_decides() -> None:
    pools = make_pools() | {"judge": make_pools(kv_tokens=1000)["base"]}
    admission = make_live([100, 100, 100])
    for number, tokens in enumerate((400, 400, 400)):
        admission.observe("judge", f"e{number}", "judge", tokens)
    assert admission.balance(pools) == []
    assert shed(admission) == ["e2"]
    admission.forget("e0", ROLES | {"judge": "judge"})
    assert admission.balance(pools) == ["e2"]


def test_where_nothing_is_known_of_caches_or_the_number_is_fixed_all_go_on() -> None:
    for admission in (Admission(99), Admission(None, can_shed=False)):
        assert shed(make_live([9000] * 9, admission)) == []
        assert admission.balance(make_pools()) == []
        assert admission.num_shed == 0
    blind = Admission(None)
    blind.balance(make_pools(kv_tokens=None))
    for number in range(99):
        blind.start(f"e{number}")
        blind.observe("base", f"e{number}", "patient", 9000)
    assert blind.balance(make_pools(kv_tokens=None)) == []
    assert blind.num_shed == 0


def test_while_no_replica_is_ready_nothing_changes() -> None:
    admission = make_live([5000, 3000, 3000])
    admission.balance(make_pools())
    assert shed(admission) == ["e2"]
    admission.forget("e1", ROLES)
    assert admission.balance(make_pools(state="lost")) == []
    admission.forget("e0", ROLES)
    assert admission.balance(make_pools(state="lost")) == ["e2"]


def test_lost_caches_shed_and_returned_ones_take_up_again() -> None:
    admission = make_live([2000] * 4)
    both = {"base": Pool([*make_pools()["base"].replicas, ReplicaGauges("base/1", slots=8, kv_tokens=KV_TOKENS)], 2)}
    assert admission.balance(both) == [] and shed(admission) == []
    half = {"base": Pool([ReplicaGauges("base/0", slots=8, kv_tokens=KV_TOKENS // 2)], 2)}
    admission.balance(half)
    assert shed(admission) == ["e2", "e3"]
    assert admission.balance(both) == ["e2", "e3"]


def test_a_prior_too_large_shrinks_at_most_by_half_in_a_turn_of_all() -> None:
    admission = Admission(None, prior_tokens=2000)
    pools = make_pools(slots=64)
    live = [int(HEADROOM * KV_TOKENS / 4000)]
    assert admission.room(0, pools) == live[0]
    for turn in range(1, 8):
        for number in range(live[-1]):
            assert admission.room(live[-1], pools) <= 0
            admission.observe("base", f"e{number}", "patient", 5 * turn)
        live.append(live[-1] + max(admission.room(live[-1], pools), 0))
        assert live[-1] <= 2 * live[-2] + 1
    assert live[-1] > 8 * live[0]


def test_a_queue_or_full_caches_leave_the_prior_alone() -> None:
    for pools, tokens in ((make_pools(slots=64, waiting=1), 10), (make_pools(slots=64), 5000)):
        admission = make_live([tokens] * 2, Admission(None, prior_tokens=2000), slots=64)
        for _ in range(8):
            admission.observe("base", "e0", "patient", tokens)
            assert admission.room(2, pools) <= 0
        assert admission._budget("base").prior_scale == 1.0


STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "answer", "answer", "end"]), st.integers(0, 99), st.integers(0, 900)),
    max_size=120,
)


def commitment(admission: Admission, num_live: int) -> float:
    """Return what that many commit, by the definition: all they come to need, or a share of it once one has ended."""
    budget = admission._budget("base")
    if budget.final is None:
        return num_live * budget.held / max(len(budget.contexts), num_live, 1)
    return budget.held * (1 - FUTURE) + num_live * budget.final * FUTURE


@settings(deadline=None)
@given(STEPS, st.integers(1, 12), st.integers(500, 20_000), st.integers(50, 3000))
def test_whatever_happens(steps: list[tuple[str, int, int]], slots: int, kv_tokens: int, prior: int) -> None:
    """Live dialogues are a list from oldest to youngest; those that go on are a head of it, never empty."""
    admission, pools = Admission(None, prior_tokens=prior), make_pools(slots, kv_tokens)
    live: dict[str, int] = {}
    num_started = 0
    for kind, pick, tokens in steps:
        active = [name for name in live if not admission.is_shed(name)]
        if kind == "start":
            room = admission.room(len(live), pools)
            if room > 0:
                assert not admission.num_shed
                assert not live or commitment(admission, len(live) + room) <= HEADROOM * TRIM_RANGE[1] * kv_tokens
                num_started += 1
                name = f"e{num_started}"
                live[name] = 0
                admission.start(name)
        elif active:
            name = active[pick % len(active)]
            if kind == "answer":
                live[name] += tokens
                admission.observe("base", name, "patient", live[name])
            else:
                admission.forget(name, ROLES)
                del live[name]
        before = [name for name in live if admission.is_shed(name)]
        resumed = admission.balance(pools)
        names = list(live)
        states = [admission.is_shed(name) for name in names]
        assert states == sorted(states)
        assert not live or not states[0]
        assert resumed == before[: len(resumed)]
        assert admission.committed("base") == sum(live.values())
        held = sum(live[name] for name in names if not admission.is_shed(name))
        assert held <= SHED * kv_tokens or states.count(False) == 1
    for name in list(live):
        assert not admission.is_shed(name)
        admission.forget(name, ROLES)
        admission.balance(pools)
    assert (admission.num_shed, admission.committed("base")) == (0, 0)


@settings(deadline=None)
@given(st.integers(1, 40), st.lists(st.integers(0, 60), min_size=1, max_size=40))
def test_the_trim_changes_at_most_once_in_a_turn_of_all(num_live: int, bursts: list[int]) -> None:
    admission, pools = Admission(None), make_pools(slots=10**4, kv_tokens=10**6)
    admission.observe("base", "past", "patient", 100)
    admission.forget("past", ROLES)
    trims: list[float] = []
    for burst in bursts:
        for number in range(burst):
            admission.observe("base", f"e{number % num_live}", "patient", 10)
        admission.room(num_live, pools)
        trims.append(admission._budget("base").trim)
    num_changes = sum(one != other for one, other in zip([1.0, *trims], trims, strict=False))
    assert num_changes <= (sum(bursts) + 1) / num_live
