"""What the real rows compare: which contenders, over how many dialogues, and the figures that come of them.

Parts that share contenders are measured in one contest, so that each contender plays once per repeat for all of them.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from benchmarks.figures import Figure, ratio
from benchmarks.real import sides as of
from benchmarks.real.bench import RealBench
from benchmarks.real.contest import Contest, contest
from benchmarks.real.outcome import Outcome
from benchmarks.trace import possible_hits


class Part(msgspec.Struct, frozen=True):
    """Contenders by name, and the figures of a contest that they took part in; `plays_all` plays all dialogues."""

    sides: tuple[str, ...]
    figures: Callable[[Contest], list[Figure]]
    plays_all: bool = False


async def measure_parts(bench: RealBench, repeats: int, names: Sequence[str]) -> list[Figure]:
    """Return the figures of these parts from one contest, over all dialogues if one of them needs all."""
    parts = [PARTS[name] for name in names]
    wanted = dict.fromkeys(side for part in parts for side in part.sides)
    plays_all = any(part.plays_all for part in parts)
    sides = of.Sides(bench, bench.workload.num_dialogues if plays_all else bench.workload.num_rival_dialogues)
    contenders = {name: await sides.open(name) for name in wanted}
    outcomes = await contest(bench, repeats, contenders, once=[of.TRANSFORMERS])
    done = Contest(bench, sides.trace, outcomes, {**sides.about, "sequential_calls": len(sides.sample.calls)})
    figures = [figure for part in parts for figure in part.figures(done)]
    return [msgspec.structs.replace(figure, note=NOTES.get(figure.name, "")) for figure in figures]


def _efficiency(done: Contest) -> list[Figure]:
    """Efficiency = T* / T with T* = max(work ceiling, critical path), whole and in the steady state."""
    return [
        done.steady("efficiency_steady", of.PRODUCT, of.CEILING, 0.95),
        _whole(done, "efficiency_whole", of.PRODUCT, 0.90),
        done.steady("efficiency_steady_live_slots", of.NARROW, of.CEILING),
        _whole(done, "efficiency_whole_live_slots", of.NARROW, None),
        done.figure("ceiling", "tokens/s", of.CEILING, lambda outcome: outcome.rate),
        done.figure("product", "tokens/s", of.PRODUCT, lambda outcome: outcome.rate),
        *_cache(done, of.PRODUCT, ""),
    ]


def _whole(done: Contest, name: str, side: str, goal: float | None) -> Figure:
    path_s: float = done.about["critical_path_s"]
    return done.compare(name, of.CEILING, side, lambda outcome: max(outcome.wall_s, path_s), goal)


def _cache(done: Contest, side: str, suffix: str) -> list[Figure]:
    """Prefix hits against a cache that forgets nothing, preemptions per thousand calls."""

    def preempted(outcome: Outcome) -> float:
        return 1000 * outcome.preemptions / len(outcome.finishes)

    return [
        _hit_ratio(done, f"prefix_hit_ratio{suffix}", side),
        done.figure(
            f"preemptions_per_1k{suffix}", "preemptions/1000 calls", side, preempted, goal=1.0, is_at_most=True
        ),
    ]


def _hit_ratio(done: Contest, name: str, side: str) -> Figure:
    possible = possible_hits(done.trace.calls, done.bench.workload.block_size)
    return done.figure(name, "ratio", side, lambda one: one.cached_tokens / possible, goal=0.97)


def _episodes(done: Contest) -> list[Figure]:
    """Episodes of the whole protocol per second and hour, and the product's efficiency on them."""
    number, calls = len(done.trace.episodes), len(done.trace.calls)
    about = {"calls_per_episode": calls / number, "tokens_per_episode": done.trace.completion_tokens / number}
    done = msgspec.structs.replace(done, about={**done.about, **about})
    return [
        done.figure("episodes_per_s_real", "episodes/s", of.PRODUCT, lambda outcome: number / outcome.wall_s),
        done.figure("episodes_per_hour_real", "episodes/h", of.PRODUCT, lambda outcome: 3600 * number / outcome.wall_s),
        done.steady("efficiency_steady_arena", of.PRODUCT, of.CEILING),
        _whole(done, "efficiency_whole_arena", of.PRODUCT, None),
        *_cache(done, of.PRODUCT, "_arena"),
    ]


def _exam(done: Contest) -> list[Figure]:
    """Items of an exam per second, the product's efficiency on them, and what became of their shared examples."""
    number, prompt, said = len(done.trace.episodes), done.trace.prompt_tokens, done.trace.completion_tokens
    about = {"prompt_tokens_per_item": prompt / number, "completion_tokens_per_item": said / number}
    done = msgspec.structs.replace(done, about={**done.about, **about})
    return [
        _whole(done, "exam_efficiency_whole", of.PRODUCT, 0.90),
        done.figure("exam_items_per_s", "items/s", of.PRODUCT, lambda outcome: number / outcome.wall_s),
        _hit_ratio(done, "exam_prefix_hit_ratio", of.PRODUCT),
    ]


def _sequential(done: Contest) -> list[Figure]:
    """Times faster than one call at a time, and that as a share of the most possible: ceiling / sequential."""
    return [
        _faster(done, "speedup_sequential", of.PRODUCT, of.SEQUENTIAL),
        _faster(done, "speedup_most_possible", of.CEILING, of.SEQUENTIAL),
        done.speedup("speedup_sequential_share", of.PRODUCT, of.CEILING, 0.9),
        _faster(done, "speedup_transformers", of.PRODUCT, of.TRANSFORMERS),
    ]


def _faster(done: Contest, name: str, over: str, under: str) -> Figure:
    """Compare with a contender that played a sample of the trace, or played in the first repeat alone."""
    theirs = done.outcomes[under]
    mine = done.outcomes[over][: len(theirs)]
    about = done.configuration(sample=theirs[0].trace)
    return ratio(name, [one.rate for one in mine], [one.rate for one in theirs], configuration=about)


PARTS: Final = {
    "real_episodes": Part((of.CEILING, of.PRODUCT), _episodes, plays_all=True),
    "real_exam": Part((of.CEILING, of.PRODUCT), _exam, plays_all=True),
    "ceiling": Part((of.CEILING, of.PRODUCT, of.NARROW), _efficiency, plays_all=True),
    "sequential": Part((of.CEILING, of.PRODUCT, of.SEQUENTIAL, of.TRANSFORMERS), _sequential, plays_all=True),
    "lockstep": Part(
        (of.PRODUCT, of.WAVES), lambda done: [done.speedup("speedup_lockstep_cpu", of.PRODUCT, of.WAVES, 1.05)]
    ),
    "openai": Part((of.PRODUCT, of.OPENAI), lambda done: [done.speedup("speedup_openai", of.PRODUCT, of.OPENAI, 0.98)]),
    "ray_hop": Part(
        (of.PRODUCT, of.IN_PROCESS), lambda done: [done.speedup("ray_hop", of.PRODUCT, of.IN_PROCESS, 0.97)]
    ),
    "gather": Part(
        (of.PRODUCT_TIGHT, of.GATHER_TIGHT),
        lambda done: [
            done.speedup("speedup_gather", of.PRODUCT_TIGHT, of.GATHER_TIGHT, 1.5),
            *_cache(done, of.PRODUCT_TIGHT, "_tight"),
        ],
    ),
    "openai_tight": Part(
        (of.PRODUCT_TIGHT, of.OPENAI_TIGHT),
        lambda done: [done.speedup("speedup_openai_tight", of.PRODUCT_TIGHT, of.OPENAI_TIGHT, 1.1)],
    ),
}
"""Every comparison on a really served model, by name."""

_CORES = "Where engine and product share two cores, what scheduler, actor and journal take is the engine's loss."
NOTES: Final = {
    "efficiency_steady": _CORES,
    "efficiency_whole": f"{_CORES} Ramp and tail count here.",
    "exam_efficiency_whole": f"{_CORES} Ramp and tail count here.",
    "speedup_sequential_share": _CORES,
    "speedup_lockstep_cpu": "On a CPU a finished row costs next to nothing: a step of fewer rows is that much shorter.",
    "speedup_openai": _CORES,
    "speedup_gather": "Prefill is cheap beside decoding on this model: evicted prefixes cost less than on a GPU.",
    "speedup_openai_tight": "Prefill is cheap beside decoding on this model: evicted prefixes cost less than on a GPU.",
}
"""What limits a figure, should it miss its goal."""
