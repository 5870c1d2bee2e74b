"""How long calls take by measured step times: hours of a plan from its calls and tokens. Pure.

For each pool: completion tokens / (replicas x batch) decode steps, each as long as the step times say for that batch at
the mean context, and the prompt tokens that no cache had, prefilled. The batch is what is live, shared by the replicas,
within their slots. Replicas on a CPU share its cores and count as one with all their slots. Starting up, similarities
and swaps are left out; what the dialogues of a run wait for each other is not, as only `sandplay simulate` plays them.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from engine.config_sections import VllmConfig
from engine.planning import Plan
from engine.simulation.latency import FEW, Coefficients
from engine.speed import Speed
from engine.totals import CallTotals

Bound = Literal["least", "expected", "most"]
KV_SHARE: Final = 0.85
"""What admission lets dialogues commit of the KV cache."""


class Lane(msgspec.Struct, frozen=True):
    """One pool: its step times, how many engines work side by side, and how many requests each takes at once."""

    coefficients: Coefficients
    engines: int
    slots: int


def hours_of(roles: Mapping[str, CallTotals], plan: Plan, speeds: Mapping[str, Speed], bound: Bound) -> float:
    """Return the hours that calls by role take. `speeds` has every pool that a role of the plan uses.

    Pools work side by side at best and one after the other at worst. They are expected to work side by side where more
    dialogues are live than the slots of all of them hold.
    """
    lanes = {name: lane_of(plan, name, speed) for name, speed in speeds.items()}
    live = live_of(plan, speeds)
    spent = [
        _seconds(
            sum((calls for role, calls in roles.items() if plan.config.roles.get(role) == name), CallTotals()),
            lane,
            live,
        )
        for name, lane in lanes.items()
    ]
    is_side_by_side = live >= sum(lane.engines * lane.slots for lane in lanes.values())
    if bound == "least" or (bound == "expected" and is_side_by_side):
        return max(spent, default=0.0) / 3600
    return sum(spent) / 3600


def lane_of(plan: Plan, name: str, speed: Speed) -> Lane:
    """Return how a pool works on what it was measured on."""
    model = plan.config.models[name]
    assert isinstance(model, VllmConfig)
    if speed.is_cpu:
        return Lane(speed.coefficients, 1, model.max_num_seqs * model.replicas)
    return Lane(speed.coefficients, model.replicas, model.max_num_seqs)


def live_of(plan: Plan, speeds: Mapping[str, Speed]) -> float:
    """Return how many dialogues live at once: all, or as many as the configuration and the KV caches allow."""
    chosen = plan.config.scheduler.max_live
    live = float(plan.num_episodes)
    if chosen != "auto":
        return min(live, chosen)
    for name, speed in speeds.items():
        model = plan.config.models[name]
        if speed.kv_tokens is not None and plan.expected_context and isinstance(model, VllmConfig):
            live = min(live, max(1.0, KV_SHARE * speed.kv_tokens * model.replicas / plan.expected_context))
    return live


def _seconds(calls: CallTotals, lane: Lane, live: float) -> float:
    """Return how long a pool works at its calls."""
    if not calls.calls:
        return 0.0
    base, decode_seq, context, prefill_token, prefill_pair, batched = lane.coefficients.weights
    batch = min(max(live / lane.engines, 1.0), float(lane.slots))
    prompt = calls.prompt_tokens / calls.calls
    attended = prompt + calls.completion_tokens / calls.calls / 2
    step = base + decode_seq * batch + context * batch * attended + (batched if batch > FEW else 0.0)
    fresh = calls.prompt_tokens - calls.cached_tokens
    prefill = fresh * (prefill_token + prefill_pair * prompt / 2)
    return (calls.completion_tokens / batch * step + prefill) / lane.engines
