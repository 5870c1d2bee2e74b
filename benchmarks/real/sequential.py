"""Row: the product against one call at a time, as a script would make them."""

from benchmarks.figures import Figure, ratio
from benchmarks.real.bare import one_by_one
from benchmarks.real.bench import RealBench
from benchmarks.real.contest import Ceiling, Contender, contest, product, traces, warm_bare
from benchmarks.real.outcome import Outcome
from benchmarks.real.plain import PlainModel
from benchmarks.trace import Trace, select


async def measure_sequential(bench: RealBench, repeats: int) -> list[Figure]:
    """Return how many times faster the product is than one call at a time, and its share of the most possible.

    One call at a time is measured on whole dialogues of the same trace, enough for `num_sequential` calls, on the same
    engine, and with plain transformers. The share is (product / sequential) over (ceiling / sequential).
    """
    bare = await warm_bare(bench)
    part = sample(bench)
    plain = await PlainModel.load(bench.path)

    async def sequential() -> Outcome:
        return await bare.measure(one_by_one, part.calls)

    async def transformers() -> Outcome:
        return await plain.measure(part.calls)

    contenders: dict[str, Contender] = {
        "ceiling": Ceiling(bench, bare),
        "product": await product(bench),
        "sequential": sequential,
        "transformers": transformers,
    }
    found = await contest(bench, repeats, contenders)
    for name in ("sequential", "transformers"):
        if {outcome.trace for outcome in found[name]} != {part.hash}:
            raise ValueError(f"{name} must replay its part of the recorded trace, got other tokens")
    same = traces(bench, found["ceiling"], found["product"])
    about = bench.configuration(sequential_calls=len(part.calls), sequential_trace=part.hash)
    rate = {name: [outcome.rate for outcome in side] for name, side in found.items()}
    return [
        ratio("speedup_sequential", rate["product"], rate["sequential"], traces=same, configuration=about),
        ratio("speedup_transformers", rate["product"], rate["transformers"], traces=same, configuration=about),
        ratio("speedup_most_possible", rate["ceiling"], rate["sequential"], traces=same, configuration=about),
        ratio("speedup_sequential_share", rate["product"], rate["ceiling"], traces=same, goal=0.9, configuration=about),
    ]


def sample(bench: RealBench) -> Trace:
    """Return whole dialogues with at least `num_sequential` calls, spread evenly over the trace."""
    trace, wanted = bench.trace, bench.workload.num_sequential
    per_episode = len(trace.calls) / len(trace.episodes)
    number = min(len(trace.episodes), -(-wanted // max(1, int(per_episode))))
    return select(trace, [trace.episodes[i * len(trace.episodes) // number] for i in range(number)])
