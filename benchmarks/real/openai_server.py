"""Rows: the product against vLLM's API server driven by the `openai` client and one asyncio task per dialogue."""

from benchmarks.figures import Figure, ratio
from benchmarks.real.bare import gather
from benchmarks.real.bench import Cache, RealBench
from benchmarks.real.contest import WARM_UP_DIALOGUES, contest, product, traces
from benchmarks.real.outcome import Outcome, rates
from benchmarks.trace import select


async def measure_openai(bench: RealBench, repeats: int) -> list[Figure]:
    """Return the product's rate over the API server's, KV cache ample."""
    return [await _measure(bench, repeats, "speedup_openai", "ample", 0.98)]


async def measure_openai_tight(bench: RealBench, repeats: int) -> list[Figure]:
    """Return the product's rate over the API server's, KV cache a third of the working set, admission by KV tokens."""
    return [await _measure(bench, repeats, "speedup_openai_tight", "tight", 1.1)]


async def _measure(bench: RealBench, repeats: int, name: str, cache: Cache, goal: float) -> Figure:
    server = await bench.server(cache)
    await server.measure(gather, select(bench.trace, bench.trace.episodes[:WARM_UP_DIALOGUES]).calls)

    async def openai() -> Outcome:
        return await server.measure(gather, bench.trace.calls)

    mine = await (product(bench) if cache == "ample" else product(bench, cache, live_per_slot=None))
    found = await contest(bench, repeats, {"product": mine, "openai": openai})
    about = bench.configuration(
        product_cached_tokens=found["product"][0].cached_tokens, openai_cached_tokens=found["openai"][0].cached_tokens
    )
    same = traces(bench, *found.values())
    return ratio(name, rates(found["product"]), rates(found["openai"]), traces=same, goal=goal, configuration=about)
