"""Row: the product against all dialogues at once without admission, on a KV cache of a third of the working set."""

from benchmarks.figures import Figure, ratio
from benchmarks.real.bare import gather
from benchmarks.real.bench import RealBench
from benchmarks.real.contest import contest, product, traces, warm_bare
from benchmarks.real.outcome import Outcome, rates


async def measure_gather(bench: RealBench, repeats: int) -> list[Figure]:
    """Return the product's rate, admission by KV tokens, over that of a naive gather; the caches are the same."""
    bare = await warm_bare(bench, "tight")

    async def naive() -> Outcome:
        return await bare.measure(gather, bench.trace.calls)

    contenders = {"product, tight": await product(bench, "tight", live_per_slot=None), "gather, tight": naive}
    found = await contest(bench, repeats, contenders)
    mine, theirs = found["product, tight"], found["gather, tight"]
    about = bench.configuration(
        product_cached_tokens=mine[0].cached_tokens,
        gather_cached_tokens=theirs[0].cached_tokens,
        product_preemptions=mine[0].preemptions,
        gather_preemptions=theirs[0].preemptions,
    )
    same = traces(bench, mine, theirs)
    return [ratio("speedup_gather", rates(mine), rates(theirs), traces=same, goal=1.5, configuration=about)]
