"""Stickiness, balance, and moves away from sick replicas."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from engine.backend import ReplicaGauges
from engine.routing import Router


def make_replicas(*states: str) -> list[ReplicaGauges]:
    return [ReplicaGauges(f"base/{number}", state=state) for number, state in enumerate(states)]


def test_an_episode_sticks_to_its_replica() -> None:
    router, replicas = Router(), make_replicas("ready", "ready", "ready")
    home = router.route("e", replicas)
    assert {router.route("e", replicas) for _ in range(10)} == {home}


def test_first_contacts_are_spread_evenly() -> None:
    router, replicas = Router(), make_replicas("ready", "ready", "ready")
    homes = Counter(router.route(f"e{number}", replicas) for number in range(30))
    assert set(homes.values()) == {10}


def test_the_replica_with_fewer_tokens_gets_the_next_episode() -> None:
    router, replicas = Router(), make_replicas("ready", "ready")
    first = router.route("long", replicas)
    router.observe("long", 5000)
    assert {router.route(f"e{number}", replicas) for number in range(3)} == {"base/0", "base/1"} - {first}


def test_a_wave_of_new_episodes_is_spread_although_the_last_one_is_still_ending() -> None:
    router, replicas = Router(), make_replicas("ready", "ready")
    for number in range(8):
        router.route(f"old{number}", make_replicas("ready", "lost"))
        router.observe(f"old{number}", 2000)
    homes = Counter()
    for number in range(8):
        router.forget(f"old{number}")
        homes[router.route(f"new{number}", replicas)] += 1
    assert min(homes.values()) >= 2


def test_a_sick_replica_is_left_and_no_replica_means_none() -> None:
    router = Router()
    home = router.route("e", make_replicas("ready", "lost"))
    assert home == "base/0"
    assert router.route("e", make_replicas("lost", "ready")) == "base/1"
    assert router.num_moves == 1
    assert router.route("e", make_replicas("lost", "starting")) is None


def test_a_retry_avoids_the_replica_that_failed_if_another_is_ready() -> None:
    router = Router()
    assert router.route("e", make_replicas("ready", "lost")) == "base/0"
    assert router.route("e", make_replicas("ready", "ready"), avoid="base/0") == "base/1"
    assert router.route("f", make_replicas("ready", "lost"), avoid="base/0") == "base/0"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=60))
def test_tokens_are_given_back_in_full(events: list[tuple[int, int]]) -> None:
    router, replicas = Router(), make_replicas("ready", "ready", "ready")
    for episode, action in events:
        name = f"e{episode}"
        if action == 0:
            router.forget(name)
        else:
            router.route(name, replicas)
            router.observe(name, 100 * action)
    for episode in range(10):
        router.forget(f"e{episode}")
    assert not any(router._committed.values())
