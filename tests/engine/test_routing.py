"""Stickiness, balance, affinity, and moves away from sick or crowded replicas."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from engine.backend import ReplicaGauges
from engine.routing import Router


def make_replicas(*states: str, slots: int = 4) -> list[ReplicaGauges]:
    return [ReplicaGauges(f"base/{number}", state=state, slots=slots) for number, state in enumerate(states)]


def make_router(*states: str, slots: int = 4, move_share: float = 0.5) -> Router:
    router = Router(move_share=move_share)
    router.refresh(make_replicas(*states, slots=slots))
    return router


def test_an_episode_sticks_to_its_replica() -> None:
    router = make_router("ready", "ready", "ready")
    home = router.route("e")
    assert {router.route("e") for _ in range(10)} == {home}


def test_first_contacts_are_spread_evenly() -> None:
    router = make_router("ready", "ready", "ready")
    homes = Counter(router.route(f"e{number}") for number in range(30))
    assert set(homes.values()) == {10}


def test_the_replica_with_fewer_tokens_gets_the_next_episode() -> None:
    router = make_router("ready", "ready")
    first = router.route("long")
    router.observe("long", 5000)
    assert {router.route(f"e{number}") for number in range(3)} == {"base/0", "base/1"} - {first}


def test_a_wave_of_new_episodes_is_spread_although_the_last_one_is_still_ending() -> None:
    router = make_router("ready", "lost")
    for number in range(8):
        router.route(f"old{number}")
        router.observe(f"old{number}", 2000)
    router.refresh(make_replicas("ready", "ready"))
    homes: Counter[str | None] = Counter()
    for number in range(8):
        router.forget(f"old{number}")
        homes[router.route(f"new{number}")] += 1
    assert min(homes.values()) >= 2


def test_a_sick_replica_is_left_and_no_replica_means_none() -> None:
    router = make_router("ready", "lost")
    assert router.route("e") == "base/0"
    router.refresh(make_replicas("lost", "ready"))
    assert router.route("e") == "base/1"
    assert router.num_moves == 1
    router.refresh(make_replicas("lost", "starting"))
    assert router.route("e") is None


def test_a_retry_avoids_the_replica_that_failed_if_another_is_ready() -> None:
    router = make_router("ready", "lost")
    assert router.route("e") == "base/0"
    router.refresh(make_replicas("ready", "ready"))
    assert router.route("e", avoid="base/0") == "base/1"
    router.refresh(make_replicas("ready", "lost"))
    assert router.route("f", avoid="base/0") == "base/0"


def test_a_case_goes_where_it_was_within_a_margin() -> None:
    router = make_router("ready", "ready", "ready")
    first = router.route("a#0", "a")
    assert router.route("a#1", "a") == first
    assert router.route("a#2", "a") != first


def crowd(router: Router, num_calls: int, tokens: int = 3000) -> None:
    """Give base/0 that many episodes with an open call each, and base/1 one idle episode."""
    router.refresh(make_replicas("ready", "lost"))
    for number in range(num_calls):
        router.route(f"e{number}")
        router.observe(f"e{number}", tokens)
        router.sent("base/0")
    router.refresh(make_replicas("ready", "ready"))


def test_a_queueing_episode_moves_to_a_replica_with_free_slots_until_the_gap_is_closed() -> None:
    router = make_router("ready", "ready")
    crowd(router, 8)
    moved = 0
    for number in range(8):
        router.returned("base/0")
        chosen = router.route(f"e{number}")
        assert chosen is not None
        router.sent(chosen)
        moved += chosen == "base/1"
    assert moved == router.num_moves
    assert 1 <= moved <= 4


def test_nothing_moves_without_a_queue_or_without_room_for_its_context() -> None:
    router = make_router("ready", "ready")
    crowd(router, 3)
    assert router.route("e0") == "base/0"
    router = make_router("ready", "ready")
    crowd(router, 8)
    router.observe("e0", 10**6)
    router.route("big")
    router.observe("big", 3 * 10**6)
    assert router.route("e0") == "base/0"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=60))
def test_tokens_are_given_back_in_full(events: list[tuple[int, int]]) -> None:
    router = make_router("ready", "ready", "ready")
    for episode, action in events:
        name = f"e{episode}"
        if action == 0:
            router.forget(name)
        else:
            router.route(name, f"case{episode % 3}")
            router.observe(name, 100 * action)
    for episode in range(10):
        router.forget(f"e{episode}")
    assert not any(router.committed(f"base/{number}") for number in range(3))


def one(number: int, state: str = "ready", weights: str = "old", *versions: str, mixing: bool = False) -> ReplicaGauges:
    return ReplicaGauges(
        f"base/{number}", state=state, slots=4, weights=weights, versions=versions, is_mixing=mixing, kv_tokens=40_000
    )


def weights_of(router: Router, episode: str) -> str:
    stay = router.place(episode)
    assert stay is not None
    return stay.weights


def make_swapping(*replicas: ReplicaGauges) -> Router:
    """One episode `e` on base/0 under the old version, and then these replicas."""
    router = Router()
    router.refresh([one(0), *(one(number, "lost") for number in range(1, len(replicas)))])
    assert router.route("e") == "base/0"
    router.refresh(list(replicas))
    return router


def test_a_cordoned_replica_takes_no_new_episode_and_keeps_those_that_live_there() -> None:
    router = make_swapping(one(0, "cordoned"), one(1, "ready", "new"))
    assert router.route("e") == "base/0" and weights_of(router, "e") == "old"
    assert router.route("f") == "base/1" and weights_of(router, "f") == "new"


def test_with_everything_cordoned_a_new_episode_waits_and_the_old_go_on() -> None:
    router = make_swapping(one(0, "cordoned"))
    assert router.route("f") is None
    assert router.route("e") == "base/0"


def test_an_episode_leaves_a_cordoned_replica_for_one_of_its_version_that_has_room() -> None:
    assert make_swapping(one(0, "cordoned"), one(1)).route("e") == "base/1"
    full = make_swapping(one(0, "cordoned"), one(1))
    for number in range(4):
        full.sent("base/1")
        assert full.route(f"f{number}") == "base/1"
    assert full.route("e") == "base/0"


def test_an_episode_stays_where_the_other_cache_has_no_room_for_it() -> None:
    router = make_swapping(one(0, "cordoned"), one(1))
    assert router.route("long") == "base/1"
    router.observe("long", 34_000)
    assert router.route("e") == "base/0"


def test_turns_wait_while_their_replica_stands_still() -> None:
    assert make_swapping(one(0, "swapping"), one(1)).route("e") is None


def test_an_episode_of_a_lost_replica_goes_on_under_its_version_even_on_a_cordoned_one() -> None:
    router = make_swapping(one(0, "lost"), one(1, "ready", "new"), one(2, "cordoned"))
    assert router.route("e") == "base/2" and weights_of(router, "e") == "old"


def test_a_version_that_nobody_holds_is_given_up() -> None:
    router = make_swapping(one(0, "lost"), one(1, "ready", "new"))
    assert router.route("e") == "base/1" and weights_of(router, "e") == "new"


def test_while_nobody_is_ready_no_version_is_given_up() -> None:
    router = make_swapping(one(0, "lost"), one(1, "starting", "new"))
    assert router.route("e") is None
    router.refresh([one(0), one(1, "ready", "new")])
    assert router.route("e") == "base/0" and weights_of(router, "e") == "old"


def test_a_replica_with_two_adapters_serves_each_episode_under_its_own() -> None:
    router = make_swapping(one(0, "ready", "new", "old", "new"))
    assert weights_of(router, "e") == "old" and weights_of(router, "f") == "new"


def test_where_versions_mix_an_episode_stays_and_takes_the_new_one() -> None:
    router = make_swapping(one(0, "ready", "new", "old", "new", mixing=True), one(1))
    assert router.route("e") == "base/0" and weights_of(router, "e") == "new"


def test_queueing_moves_an_episode_only_to_a_replica_of_its_version() -> None:
    router = Router()
    router.refresh([one(0), one(1, "lost"), one(2, "lost")])
    for number in range(8):
        router.route(f"e{number}")
        router.observe(f"e{number}", 3000)
        router.sent("base/0")
    router.refresh([one(0), one(1, "ready", "new"), one(2)])
    router.returned("base/0")
    assert router.route("e0") == "base/2" and weights_of(router, "e0") == "old"
