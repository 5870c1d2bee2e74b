"""Rows on a really served model: what the product makes of an engine, and what others would make of it.

Each starts the engines it needs in this process and ends them; rows share the recorded trace through the user's cache.
`GROUPS` maps the rows of `all` to the parts that they measure in one contest; `PART_NAMES` can be measured alone.
Importing this loads no ray, vllm or torch.
"""

from typing import TYPE_CHECKING, Final

from benchmarks.figures import Figure

if TYPE_CHECKING:
    from benchmarks.real.workload import Workload

GROUPS: Final = {
    "real": ("ceiling", "sequential"),
    "real_rivals": ("lockstep", "openai", "ray_hop"),
    "real_tight": ("gather", "openai_tight"),
}
PART_NAMES: Final = tuple(name for names in GROUPS.values() for name in names)
REAL_EPISODES: Final = "real_episodes"
"""The one part that plays the pinned standard episode."""
REAL_EXAM: Final = "real_exam"
"""The one part that puts exam items."""


def measure_named(names: tuple[str, ...], repeats: int) -> list[Figure]:
    """Return the figures of these parts from one contest; blocks for minutes."""
    from benchmarks.real.parts import measure_parts
    from benchmarks.real.running import run_row

    return run_row(lambda bench, count: measure_parts(bench, count, names), repeats, _workload_of(names))


def _workload_of(names: tuple[str, ...]) -> "Workload":
    from benchmarks.real import exam, workload

    if REAL_EXAM in names:
        return exam.chosen_exam()
    return workload.EPISODES if REAL_EPISODES in names else workload.Workload()
