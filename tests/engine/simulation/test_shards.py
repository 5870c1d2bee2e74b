"""Shards in simulation: every case and every replica in exactly one, and figures that add up."""

from pathlib import Path
from typing import Any

import pytest

from engine.planning import Plan, make_plan
from engine.simulation.latency import PRESETS
from engine.simulation.pools import Settings
from engine.simulation.shards import simulate_run, slice_plan
from engine.token_count import bytes_count


def make_sharded(num_shards: int, replicas: int = 5, cases: int = 14) -> Plan:
    table: dict[str, Any] = {
        "shards": num_shards,
        "protocol": {"name": "counseling", "max_turns": 2},
        "cases": {"source": "sampled", "limit": cases},
        "models": {"base": {"kind": "vllm", "model": "simulated", "replicas": replicas, "max_num_seqs": 4}},
        "roles": {"patient": "base", "therapist": "base"},
    }
    return make_plan(table, Path.cwd())


@pytest.mark.parametrize("num_shards", [1, 2, 3, 5])
def test_every_case_and_replica_belongs_to_one_shard(num_shards: int) -> None:
    plan = make_sharded(num_shards)
    parts = [slice_plan(plan, index) for index in range(num_shards)]
    assert sorted(case.id for part in parts for case in part.cases) == sorted(case.id for case in plan.cases)
    replicas = [part.config.models["base"].replicas for part in parts]  # type: ignore[union-attr]
    assert sum(replicas) == 5 and max(replicas) - min(replicas) <= 1


def test_figures_of_shards_add_up() -> None:
    settings = Settings(coefficients=PRESETS["h200-8b"], counter=bytes_count)
    plan = make_sharded(2)
    parts = [simulate_run(slice_plan(plan, index), settings) for index in range(2)]
    both = simulate_run(plan, settings)
    assert (both.replicas, both.episodes, both.completed) == (5, 14, 14)
    assert both.calls == sum(part.calls for part in parts)
    assert both.elapsed_s == max(part.elapsed_s for part in parts)
    assert both.episodes_per_s == pytest.approx(14 / both.elapsed_s)
