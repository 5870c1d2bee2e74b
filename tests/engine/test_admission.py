"""How many dialogues may be live."""

import pytest

from engine.admission import FUTURE, HEADROOM, LIVE_PER_SLOT, PRIOR_TOKENS, Admission, Pool
from engine.backend import ReplicaGauges

ROLES = {"patient": "base", "therapist": "base"}


def make_pool(
    kv_tokens: int | None = None, slots: int = 8, num_roles: int = 2, state: str = "ready"
) -> dict[str, Pool]:
    return {"base": Pool([ReplicaGauges("base/0", state=state, slots=slots, kv_tokens=kv_tokens)], num_roles)}


@pytest.mark.parametrize(("num_live", "room"), [(0, 5), (3, 2), (5, 0), (7, -2)])
def test_a_number_bounds_live_dialogues(num_live: int, room: int) -> None:
    assert Admission(5).room(num_live, make_pool(kv_tokens=100)) == room


def test_without_kv_figures_slots_decide() -> None:
    assert Admission(None).room(0, make_pool()) == 8 * LIVE_PER_SLOT


def test_kv_tokens_bound_the_expected_contexts() -> None:
    pools = make_pool(kv_tokens=100 * PRIOR_TOKENS, slots=64)
    assert Admission(None).room(0, pools) == int(HEADROOM * 100 / 2)


def test_the_smallest_pool_decides_and_one_dialogue_may_always_live() -> None:
    assert Admission(None).room(0, make_pool(kv_tokens=10)) == 1
    assert Admission(None).room(0, make_pool(state="lost")) == 1
    pools = make_pool(kv_tokens=10**9) | {"judge": Pool([ReplicaGauges("judge", slots=2)], 1)}
    assert Admission(None).room(0, pools) == 2 * LIVE_PER_SLOT


def end_many(admission: Admission, number: int = 200) -> None:
    for episode in range(number):
        admission.observe("base", f"e{episode}", "patient", 300)
        admission.observe("base", f"e{episode}", "therapist", 200)
        admission.forget(f"e{episode}", ROLES)


def test_what_ended_dialogues_needed_is_learnt_and_mixed_ages_share() -> None:
    admission = Admission(None)
    end_many(admission)
    assert admission.committed("base") == 0
    pools = make_busy_pool(0)
    assert admission.room(0, pools) == int(HEADROOM * 10_000 / (500 * FUTURE))
    for episode in range(10):
        admission.observe("base", f"live{episode}", "patient", 500)
    assert admission.room(10, pools) == int((HEADROOM * 10_000 - 10 * 500) / (500 * FUTURE))


def test_dialogues_that_start_together_commit_all_they_may_need() -> None:
    admission = Admission(None, prior_tokens=400)
    assert admission.room(0, make_pool(kv_tokens=10_000, slots=64)) == int(HEADROOM * 10_000 / 800)
    admission.observe("base", "e", "patient", 2000)
    assert admission.room(1, make_pool(kv_tokens=10_000, slots=64)) == int(HEADROOM * 10_000 / 2000) - 1


def test_ample_cache_is_bounded_by_slots() -> None:
    admission = Admission(None)
    end_many(admission)
    assert admission.room(0, make_pool(kv_tokens=10**9, slots=8)) == 8 * LIVE_PER_SLOT


def play_turns(admission: Admission, number: int, pools: dict[str, Pool]) -> int:
    """Let one live dialogue answer that often; return the room beside it."""
    for _ in range(number):
        admission.observe("base", "live", "patient", 500)
    return admission.room(1, pools)


def make_busy_pool(preemptions: int, running: int = 64) -> dict[str, Pool]:
    gauges = ReplicaGauges("base/0", slots=64, kv_tokens=10_000, preemptions=preemptions, running=running)
    return {"base": Pool([gauges], 2)}


def test_preemptions_cut_once_per_turn_of_all_and_quiet_free_slots_grow() -> None:
    admission = Admission(None)
    end_many(admission)
    before = play_turns(admission, 1, make_busy_pool(0))
    cut = play_turns(admission, 1, make_busy_pool(5))
    assert cut < before
    assert admission.room(1, make_busy_pool(9)) == cut
    again = play_turns(admission, 1, make_busy_pool(9))
    assert again < cut
    grown = [play_turns(admission, 1, make_busy_pool(9, running=3)) for _ in range(40)]
    assert grown == sorted(grown) and grown[-1] > before


def test_a_full_queue_does_not_grow() -> None:
    admission = Admission(None)
    end_many(admission)
    rooms = {play_turns(admission, 1, make_busy_pool(0)) for _ in range(20)}
    assert len(rooms) == 1


def test_commitments_follow_the_last_completion() -> None:
    admission = Admission(None)
    admission.observe("base", "e", "patient", 300)
    admission.observe("base", "e", "patient", 900)
    assert admission.committed("base") == 900


def test_all_are_held_only_at_their_full_length() -> None:
    admission = Admission(None)
    end_many(admission)
    assert admission.holds_all(17, make_busy_pool(0))
    assert not admission.holds_all(18, make_busy_pool(0))
    assert admission.holds_all(10**6, make_pool(kv_tokens=None))
