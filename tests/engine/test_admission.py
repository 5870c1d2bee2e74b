"""How many dialogues may be live."""

import pytest

from engine.admission import HEADROOM, LIVE_PER_SLOT, PRIOR_TOKENS, Admission, Pool
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
    pools = make_pool(kv_tokens=100 * PRIOR_TOKENS)
    assert Admission(None).room(0, pools) == int(HEADROOM * 100 / 2)


def test_the_smallest_pool_decides_and_one_dialogue_may_always_live() -> None:
    assert Admission(None).room(0, make_pool(kv_tokens=10)) == 1
    assert Admission(None).room(0, make_pool(state="lost")) == 1
    pools = make_pool(kv_tokens=10**9) | {"judge": Pool([ReplicaGauges("judge", slots=2)], 1)}
    assert Admission(None).room(0, pools) == 2 * LIVE_PER_SLOT


def test_what_ended_dialogues_needed_is_learnt() -> None:
    admission = Admission(None)
    for number in range(200):
        admission.observe("base", f"e{number}", "patient", 300)
        admission.observe("base", f"e{number}", "therapist", 200)
        admission.forget(f"e{number}", ROLES)
    assert admission.room(0, make_pool(kv_tokens=100_000)) == int(HEADROOM * 100_000 / 500)
    assert admission.committed("base") == 0


def test_commitments_follow_the_last_completion() -> None:
    admission = Admission(None)
    admission.observe("base", "e", "patient", 300)
    admission.observe("base", "e", "patient", 900)
    assert admission.committed("base") == 900
