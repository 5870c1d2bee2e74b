"""Figures of the KV cache under the product: prefix hits against an infinite cache, preemptions per thousand calls."""

from benchmarks.figures import Figure, figure
from benchmarks.real.bench import RealBench
from benchmarks.real.contest import contest, product, traces
from benchmarks.real.outcome import Outcome
from benchmarks.trace import possible_hits


def cache_figures(bench: RealBench, outcomes: list[Outcome]) -> list[Figure]:
    """Return both figures of these repeats of the product."""
    possible = possible_hits(bench.trace.calls, bench.workload.block_size)
    about = bench.configuration(possible_hits=possible, prompt_tokens=bench.trace.prompt_tokens)
    hits = [outcome.cached_tokens / possible for outcome in outcomes]
    preempted = [1000 * outcome.preemptions / len(outcome.finishes) for outcome in outcomes]
    trace = traces(bench, outcomes)[0]
    return [
        figure("prefix_hit_ratio", "ratio", hits, goal=0.97, configuration=about, trace=trace),
        figure(
            "preemptions_per_1k",
            "preemptions/1000 calls",
            preempted,
            goal=1.0,
            is_at_most=True,
            configuration=about,
            trace=trace,
        ),
    ]


async def measure_cache(bench: RealBench, repeats: int) -> list[Figure]:
    """Return both figures where the cache is tight and admission alone keeps dialogues from evicting each other."""
    found = await contest(bench, repeats, {"product, tight": await product(bench, "tight", live_per_slot=None)})
    return cache_figures(bench, found["product, tight"])
