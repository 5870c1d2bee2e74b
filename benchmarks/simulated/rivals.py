"""Rows: the product against turn-synchronous waves and against all dialogues at once, on simulated GPU replicas."""

import msgspec

from benchmarks.figures import Figure, figure, ratio
from benchmarks.real.outcome import Outcome
from benchmarks.simulated.contenders import Calls, gather, in_waves
from benchmarks.simulated.product import Played, play
from benchmarks.simulated.recorder import trace_of
from benchmarks.simulated.workload import H200_SHAPE, SESSIONS_GPU, Workload, seeded

H200_64 = msgspec.structs.replace(H200_SHAPE, slots=64)
NARROW = msgspec.structs.replace(SESSIONS_GPU, num_episodes=1024, shape=H200_64)
KV_SHARE = 3
BRIEF_EPISODES = 128


def _short(workload: Workload, brief: bool) -> Workload:
    shape = msgspec.structs.replace(workload.shape, slots=16, num_blocks=4000) if brief else workload.shape
    return msgspec.structs.replace(workload, num_episodes=BRIEF_EPISODES, shape=shape) if brief else workload


def _versus(
    name: str, workload: Workload, mine: list[Outcome], theirs: list[Outcome], goal: float | None, note: str = ""
) -> Figure:
    about = workload.configuration(
        cached=mine[-1].cached_tokens, other_cached=theirs[-1].cached_tokens, other_preemptions=theirs[-1].preemptions
    )
    traces = (trace_of(mine), trace_of(theirs))
    over, under = [one.rate for one in mine], [one.rate for one in theirs]
    return ratio(name, over, under, traces=traces, goal=goal, configuration=about, note=note)


def _plays(workload: Workload, repeats: int) -> list[Played]:
    return [play(seeded(workload, seed)) for seed in range(repeats)]


def measure_lockstep(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return speed-ups over waves of slots and of all, 64 and 256 slots; lengths are log-normal, at most 256 tokens."""
    found = []
    points = ((NARROW, "", 1.6, 1.4),) if brief else ((NARROW, "", 1.6, 1.4), (SESSIONS_GPU, "_256", None, None))
    for base, suffix, slots_goal, all_goal in points:
        workload = _short(base, brief)
        mine = [one.outcome for one in _plays(workload, repeats)]
        seeds = [seeded(workload, seed) for seed in range(repeats)]
        narrow = [in_waves(one, workload.shape.slots) for one in seeds]
        wide = [in_waves(one, workload.num_episodes) for one in seeds]
        note = "A finished row frees compute as well as its slot: at many slots a step's fixed cost is a small share."
        found += [
            _versus(f"speedup_lockstep_slots{suffix}", workload, mine, narrow, slots_goal, note),
            _versus(f"speedup_lockstep_all{suffix}", workload, mine, wide, all_goal),
        ]
    return found


def measure_gather(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return the speed-up over all dialogues at once, first come first served, on a cache of a third of what they need.

    The product's prefix hits and preemptions in that same tight cache are figures of their own.
    """
    base = _short(msgspec.structs.replace(SESSIONS_GPU, num_episodes=1024), brief)
    blocks = Calls(base).num_blocks // KV_SHARE
    workload = msgspec.structs.replace(base, shape=msgspec.structs.replace(base.shape, num_blocks=blocks))
    mine = _plays(workload, repeats)
    theirs = [gather(seeded(workload, seed)) for seed in range(repeats)]
    about = workload.configuration()
    return [
        _versus("speedup_gather_simulated", workload, [one.outcome for one in mine], theirs, 2.0),
        figure("prefix_hit_ratio_simulated", "ratio", [one.hit_ratio for one in mine], goal=0.97, configuration=about),
        figure(
            "preemptions_per_1k_simulated",
            "preemptions/1000 calls",
            [one.preemptions_per_1k for one in mine],
            goal=1.0,
            is_at_most=True,
            configuration=about,
        ),
    ]
