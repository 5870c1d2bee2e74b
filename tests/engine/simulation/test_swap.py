"""Swaps of simulated pools under load: policies, adapters, failures at every step, and what holds of all of them."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.swap import Watched
from engine.simulation.backend import WEIGHTS
from engine.simulation.swap import Inject, SimulatedSwap
from engine.swap import FailureKind, ReplicaFailed, SwapFailure, SwapPolicy, Target
from tests.engine.simulation.swapping import FULL, LORA, TIMES, require_sound, swap_under_load

POLICIES: tuple[SwapPolicy, ...] = ("finish_on_old", "drain", "mix")
IN_PLACE = ("pause", "load", "loaded", "resume", "canary")
BESIDE = ("add", "added", "canary")


def failing(step: str, number: int, kind: FailureKind | None) -> Callable[[SimulatedSwap], Inject]:
    """Let the nth call of a step fail; without a kind, let its replica die."""

    def make(swap: SimulatedSwap) -> Inject:
        seen: Counter[str] = Counter()

        def inject(name: str, replica: str) -> None:
            seen[name] += 1
            if name == step and seen[name] == number + 1:
                if kind is not None:
                    raise ReplicaFailed(SwapFailure(kind, "was told to fail", replica))
                swap.kill(replica, TIMES.restart_s)

        return inject

    return make


@pytest.mark.parametrize("target", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_swaps_under_two_hundred_live_dialogues(policy: SwapPolicy, target: Target) -> None:
    swapped = swap_under_load(policy, target, replicas=8, episodes=320, max_live=240)
    require_sound(swapped, 320)
    assert swapped.live >= 200 and swapped.report.is_done
    assert {row.after for row in swapped.report.replicas} == {swapped.report.after}
    assert bool(swapped.mixed) == (policy == "mix")
    for row in swapped.report.replicas:
        assert row.stalled_s - row.loaded_s <= 1.0
        assert (row.stalled_s > 0) == (target == FULL)


def test_an_adapter_serves_new_episodes_at_once_and_the_old_one_goes_with_its_last_episode() -> None:
    held: set[tuple[str, ...]] = set()
    swapped = swap_under_load(
        "finish_on_old", LORA, during=lambda pool: held.update(g.versions for g in pool.replicas())
    )
    require_sound(swapped, 40)
    assert swapped.report.elapsed_s < 1 and swapped.report.paused_s == 0
    assert (WEIGHTS, swapped.report.after) in held
    assert {gauges.versions for gauges in swapped.pool.replicas()} == {(swapped.report.after,)}


def test_finishing_on_the_old_version_never_stops_all_replicas() -> None:
    states: list[Counter[str]] = []
    swapped = swap_under_load("finish_on_old", during=lambda pool: states.append(_states(pool)))
    require_sound(swapped, 40)
    assert all(state["swapping"] + state["cordoned"] <= 1 for state in states) and len(states) > 10
    assert swapped.report.paused_s == 0


def _states(pool: Watched) -> Counter[str]:
    return Counter(gauges.state for gauges in pool.replicas())


def test_one_replica_that_finishes_on_the_old_version_drains_and_reports_the_pause() -> None:
    swapped = swap_under_load("finish_on_old", replicas=1)
    require_sound(swapped, 40)
    [row] = swapped.report.replicas
    assert row.waited_s > 1 and swapped.report.paused_s >= row.waited_s + row.stalled_s
    assert not swapped.mixed


def test_a_drained_pool_has_no_old_episode_when_the_first_new_one_starts() -> None:
    swapped = swap_under_load("drain")
    require_sound(swapped, 40)
    assert swapped.report.paused_s > 1 and not swapped.mixed


def test_a_reply_that_was_being_sampled_carries_both_versions() -> None:
    swapped = swap_under_load("mix", replicas=1)
    require_sound(swapped, 40)
    assert swapped.report.replicas[0].waited_s == 0
    assert {record.weights for record in swapped.records} >= {("r1", WEIGHTS), ("r1",)}


def test_a_swap_to_what_is_served_does_nothing() -> None:
    swapped = swap_under_load("finish_on_old", Target(WEIGHTS))
    assert swapped.report.is_done and swapped.report.before == swapped.report.after == WEIGHTS
    assert all(row.after == "" for row in swapped.report.replicas)


@pytest.mark.parametrize("kind", ["refused", "canary", "mismatch", "timeout", None])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("target", "step"), [*((FULL, s) for s in IN_PLACE), *((LORA, s) for s in BESIDE)])
def test_a_step_that_fails_on_the_second_replica_brings_the_old_version_back_everywhere(
    target: Target, step: str, policy: SwapPolicy, kind: FailureKind | None
) -> None:
    swapped = swap_under_load(policy, target, inject=failing(step, 1, kind))
    require_sound(swapped, 40)
    report = swapped.report
    assert not report.is_done and report.failure is not None and report.failure.kind == (kind or "lost")
    assert report.failure.replica.startswith("replica-")
    assert all(row.after == "" for row in report.replicas)
    if policy != "mix" and kind is not None and target == LORA:
        assert not swapped.mixed


def test_a_replica_that_dies_while_it_waits_comes_back_old_and_is_swapped() -> None:
    swapped = swap_under_load("finish_on_old", kills=((5.0, 0),))
    require_sound(swapped, 40)
    assert swapped.report.is_done


@settings(max_examples=40, deadline=None)
@given(
    policy=st.sampled_from(POLICIES),
    target=st.sampled_from([FULL, LORA]),
    replicas=st.integers(1, 4),
    step=st.sampled_from([*IN_PLACE, "add", "added", "none"]),
    number=st.integers(0, 5),
    kind=st.sampled_from(["refused", "canary", "mismatch", None]),
    kills=st.lists(st.tuples(st.floats(0.5, 15), st.integers(0, 3)), max_size=2).map(tuple),
    at_s=st.floats(0.0, 12.0),
)
def test_whatever_fails_all_replicas_agree_and_nothing_is_mixed_unflagged(
    policy: SwapPolicy,
    target: Target,
    replicas: int,
    step: str,
    number: int,
    kind: FailureKind | None,
    kills: tuple[tuple[float, int], ...],
    at_s: float,
) -> None:
    inject = failing(step, number, kind)
    swapped = swap_under_load(
        policy, target, replicas=replicas, episodes=16, max_live=10, at_s=at_s, inject=inject, kills=kills
    )
    require_sound(swapped, 16)
    restarted = any(engine.tally.restarts for engine in swapped.pool.engines)
    if policy != "mix" and not restarted:
        assert not swapped.mixed
