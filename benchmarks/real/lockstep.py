"""Row: the product against turn-synchronous waves, of as many dialogues as there are slots and of all."""

from collections.abc import Awaitable, Callable

from benchmarks.figures import Figure, ratio
from benchmarks.real.bare import Order, in_waves
from benchmarks.real.bench import RealBench
from benchmarks.real.contest import contest, product, traces, warm_bare
from benchmarks.real.outcome import Outcome, rates


async def measure_lockstep(bench: RealBench, repeats: int) -> list[Figure]:
    """Return the product's rate over that of lock-step waves on the bare engine."""
    bare = await warm_bare(bench)
    workload = bench.workload

    def waves(order: Order) -> Callable[[], Awaitable[Outcome]]:
        return lambda: bare.measure(order, bench.trace.calls)

    contenders = {
        "product": await product(bench),
        "waves of slots": waves(in_waves(workload.slots)),
        "waves of all": waves(in_waves(workload.num_dialogues)),
    }
    found = await contest(bench, repeats, contenders)
    same = traces(bench, *found.values())
    mine = rates(found["product"])
    narrow, wide = rates(found["waves of slots"]), rates(found["waves of all"])
    about = bench.configuration()
    return [
        ratio("speedup_lockstep_cpu", mine, narrow, traces=same, goal=1.05, configuration=about),
        ratio("speedup_lockstep_all_cpu", mine, wide, traces=same, configuration=about),
    ]
