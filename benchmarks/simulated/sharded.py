"""Row: whether a thousand replicas on many shards make as many episodes per second each as one shard's do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Figure, ratio
from engine.planning import Plan, make_plan
from engine.simulation.latency import PRESETS
from engine.simulation.pools import Settings
from engine.simulation.prediction import Prediction
from engine.simulation.shards import simulate_run
from engine.token_count import bytes_count

PER_SHARD: Final = 16
CASES_PER_SHARD: Final = 16
REPEATS_PER_CASE: Final = 64
BRIEF_REPEATS: Final = 16
"""Those are all live at once: then there is no steady state, and the figures mean little."""
NUM_SHARDS: Final = 63


def make_sharded_plan(num_shards: int, seed: int, repeats_per_case: int) -> Plan:
    """Return short sessions for that many shards of `PER_SHARD` replicas."""
    table: dict[str, Any] = {
        "seed": seed,
        "shards": num_shards,
        "protocol": {"name": "counseling", "max_turns": 4},
        "cases": {"source": "sampled", "limit": CASES_PER_SHARD * num_shards, "repeats": repeats_per_case},
        "models": {
            "base": {"kind": "vllm", "model": "simulated", "replicas": PER_SHARD * num_shards, "max_num_seqs": 8}
        },
        "roles": {"patient": "base", "therapist": "base"},
    }
    return make_plan(table, Path.cwd())


def run(num_shards: int, seed: int, repeats_per_case: int = REPEATS_PER_CASE) -> Prediction:
    """Simulate that many shards with the coefficients of an H200."""
    settings = Settings(coefficients=PRESETS["h200-8b"], counter=bytes_count)
    return simulate_run(make_sharded_plan(num_shards, seed, repeats_per_case), settings)


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return episodes per second of all shards over as many times one shard's, steady state and whole run."""
    num_shards, per_case = (3, BRIEF_REPEATS) if brief else (NUM_SHARDS, REPEATS_PER_CASE)
    one = [run(1, seed, per_case) for seed in range(repeats)]
    many = [run(num_shards, seed, per_case) for seed in range(repeats)]
    about = {
        "replicas": PER_SHARD * num_shards,
        "shards": num_shards,
        "episodes": many[0].episodes,
        "episodes_per_s": many[0].episodes_per_s,
        "simulated_in_s": many[0].real_s,
    }
    note = "Simulated; shards share nothing: what the whole run loses is the slowest one's tail."
    return [
        _linearity("shards_linearity_steady", "steady_episodes_per_s", one, many, num_shards, about, note),
        _linearity("shards_linearity_whole", "episodes_per_s", one, many, num_shards, about, note),
    ]


def _linearity(
    name: str,
    field: str,
    one: Sequence[Prediction],
    many: Sequence[Prediction],
    num_shards: int,
    about: Mapping[str, Any],
    note: str,
) -> Figure:
    over = [getattr(found, field) for found in many]
    under = [num_shards * getattr(found, field) for found in one]
    return ratio(name, over, under, goal=0.95, configuration=about, note=note)
