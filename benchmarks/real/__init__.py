"""Rows on a really served model: what the product makes of an engine, and what others would make of it.

`ROWS` maps row name to a blocking function of the number of repeats. Each starts the engines it needs in this process
and ends them; rows share the recorded trace through the user's cache. Importing this loads no ray, vllm or torch.
"""

import importlib
from collections.abc import Callable

from benchmarks.figures import Figure

_MEASURES = {
    "real_efficiency": "efficiency:measure_efficiency",
    "real_cache": "cache:measure_cache",
    "real_sequential": "sequential:measure_sequential",
    "real_lockstep": "lockstep:measure_lockstep",
    "real_gather": "gathering:measure_gather",
    "real_openai": "openai_server:measure_openai",
    "real_openai_tight": "openai_server:measure_openai_tight",
    "real_ray_hop": "ray_hop:measure_ray_hop",
}


def _row(place: str) -> Callable[[int], list[Figure]]:
    def run(repeats: int) -> list[Figure]:
        from benchmarks.real.running import run_row

        module, _, name = place.partition(":")
        return run_row(getattr(importlib.import_module(f"{__name__}.{module}"), name), repeats)

    return run


ROWS: dict[str, Callable[[int], list[Figure]]] = {name: _row(place) for name, place in _MEASURES.items()}
