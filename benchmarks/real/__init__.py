"""Rows on a really served model: what the product makes of an engine, and what others would make of it.

Each starts the engines it needs in this process and ends them; rows share the recorded trace through the user's cache.
`GROUPS` maps the rows of `all` to the parts that they measure in one contest; `PART_NAMES` can be measured alone.
Importing this loads no ray, vllm or torch.
"""

from typing import Final

from benchmarks.figures import Figure

GROUPS: Final = {
    "real": ("ceiling", "sequential"),
    "real_rivals": ("lockstep", "openai", "ray_hop"),
    "real_tight": ("gather", "openai_tight"),
}
PART_NAMES: Final = tuple(name for names in GROUPS.values() for name in names)
REAL_EPISODES: Final = "real_episodes"
"""The one part that plays the pinned standard episode."""


def measure_named(names: tuple[str, ...], repeats: int) -> list[Figure]:
    """Return the figures of these parts from one contest; blocks for minutes."""
    from benchmarks.real import workload
    from benchmarks.real.parts import measure_parts
    from benchmarks.real.running import run_row

    played = workload.EPISODES if REAL_EPISODES in names else workload.Workload()
    return run_row(lambda bench, count: measure_parts(bench, count, names), repeats, played)
