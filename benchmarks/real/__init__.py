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
WHOLE: Final = frozenset(GROUPS["real"])
"""Parts that play all dialogues; the others play as many as rivals do."""


def measure_episodes(repeats: int) -> list[Figure]:
    """Return the figures of the pinned standard episode; blocks for minutes."""
    from benchmarks.real.parts import measure_parts
    from benchmarks.real.running import run_row
    from benchmarks.real.workload import EPISODES

    names = ("real_episodes",)
    return run_row(lambda bench, count: measure_parts(bench, count, names, is_whole=True), repeats, EPISODES)


def measure_named(names: tuple[str, ...], repeats: int) -> list[Figure]:
    """Return the figures of these parts from one contest; blocks for minutes."""
    from benchmarks.real.parts import measure_parts
    from benchmarks.real.running import run_row

    is_whole = not WHOLE.isdisjoint(names)
    return run_row(lambda bench, count: measure_parts(bench, count, names, is_whole=is_whole), repeats)
