"""A run on several shards, simulated: each plays its slice on its replicas, and the figures are put together.

Shards share nothing while they play, so they are simulated one after the other, each with a clock that starts
at zero; the run ends when the last one does.
"""

from collections.abc import Sequence

import msgspec

from engine.config_sections import VllmConfig
from engine.planning import Plan
from engine.shards import share_of
from engine.simulation.pools import Settings
from engine.simulation.prediction import Prediction
from engine.simulation.simulate import simulate


def simulate_run(plan: Plan, settings: Settings) -> Prediction:
    """Play a plan on as many shards as it asks for. Raises as `simulate` does."""
    num_shards = plan.config.shards
    if num_shards == 1:
        return simulate(plan, settings)
    return combine([simulate(slice_plan(plan, index), settings) for index in range(num_shards)])


def slice_plan(plan: Plan, index: int) -> Plan:
    """Return what shard `index` plays: its cases, on its share of every pool's replicas."""
    num_shards = plan.config.shards
    models = {
        name: msgspec.structs.replace(model, replicas=share_of(model.replicas, index, num_shards)[1])
        if isinstance(model, VllmConfig)
        else model
        for name, model in plan.config.models.items()
    }
    config = msgspec.structs.replace(plan.config, models=models, shards=1)
    return msgspec.structs.replace(plan, config=config, cases=plan.cases[index::num_shards])


def combine(parts: Sequence[Prediction]) -> Prediction:
    """Return the figures of all shards together: counts add up, shares are means over replicas, times the longest."""
    elapsed = max(part.elapsed_s for part in parts)
    slowest = max(parts, key=lambda part: part.elapsed_s)
    counts = {name: sum(getattr(part, name) for part in parts) for name in _COUNTS}
    rates = {name: sum(getattr(part, name) * part.elapsed_s for part in parts) / elapsed for name in _RATES}
    shares = {name: _mean([getattr(part, name) for part in parts], parts) for name in _SHARES}
    return msgspec.structs.replace(
        slowest,
        **counts,
        **rates,
        **shares,
        steady_episodes_per_s=sum(part.steady_episodes_per_s for part in parts),
        longest_episode_s=max(part.longest_episode_s for part in parts),
        speedup=elapsed / max(counts["real_s"], 1e-9),
    )


_COUNTS = ("replicas", "episodes", "completed", "failed", "calls", "retries", "max_live", "real_s")
_RATES = ("episodes_per_s", "calls_per_s", "turns_per_s", "completion_tokens_per_s", "prompt_tokens_per_s")
_SHARES = (
    *("cached_share", "hit_ratio", "preemptions_per_1000", "busy_ratio", "busy_share", "slot_share", "kv_share"),
)


def _mean(values: Sequence[float], parts: Sequence[Prediction]) -> float:
    weights = [part.replicas for part in parts]
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
