"""Row: how much of what the bare engine can do the product gets out of it, whole and in the steady state."""

from benchmarks.figures import Figure, figure, ratio
from benchmarks.real.bare import one_by_one
from benchmarks.real.bench import RealBench
from benchmarks.real.cache import cache_figures
from benchmarks.real.contest import Ceiling, Contender, contest, product, traces, warm_bare
from benchmarks.real.outcome import Outcome, rates
from benchmarks.trace import longest_episode, select


async def measure_efficiency(bench: RealBench, repeats: int) -> list[Figure]:
    """Return efficiency = T* / T, with T* = max(work ceiling, critical path), at live = 4 x slots and live = slots.

    The work ceiling is the best of three orders of replay on the bare engine; the critical path is the episode with
    the longest chain of completion tokens played alone. The steady state compares rates of the same window of both
    (see `Outcome.steady_rate`).
    """
    bare = await warm_bare(bench)
    ceiling = Ceiling(bench, bare)
    alone = select(bench.trace, [longest_episode(bench.trace)]).calls
    path = await bare.measure(one_by_one, alone)
    contenders: dict[str, Contender] = {
        "ceiling": ceiling,
        "product": await product(bench),
        "product, live = slots": await product(bench, live_per_slot=1),
    }
    found = await contest(bench, repeats, contenders)
    top, fast, narrow = found["ceiling"], found["product"], found["product, live = slots"]
    same = traces(bench, top, fast, narrow)
    about = bench.configuration(
        order=ceiling.best,
        critical_path_s=round(path.wall_s, 2),
        ceiling_cached_tokens=top[0].cached_tokens,
        product_cached_tokens=fast[0].cached_tokens,
    )
    best = [max(outcome.wall_s, path.wall_s) for outcome in top]

    def whole(name: str, side: list[Outcome], goal: float | None) -> Figure:
        return ratio(name, best, [o.wall_s for o in side], traces=same, goal=goal, configuration=about)

    def steady(name: str, side: list[Outcome], goal: float | None) -> Figure:
        over, under = [o.steady_rate for o in side], [o.steady_rate for o in top]
        return ratio(name, over, under, traces=same, goal=goal, configuration=about)

    return [
        steady("efficiency_steady", fast, 0.95),
        whole("efficiency_whole", fast, 0.90),
        steady("efficiency_steady_live_slots", narrow, None),
        whole("efficiency_whole_live_slots", narrow, None),
        figure("ceiling", "tokens/s", rates(top), configuration=about, trace=same[0]),
        figure("product", "tokens/s", rates(fast), configuration=about, trace=same[0]),
        *cache_figures(bench, fast),
    ]
