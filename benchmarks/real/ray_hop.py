"""Row: what the way through Ray costs: the same scheduler over a Ray actor and over the same object in this process."""

from benchmarks.figures import Figure, ratio
from benchmarks.real.bench import RealBench
from benchmarks.real.contest import LIVE_PER_SLOT, contest, product, traces
from benchmarks.real.outcome import Outcome, rates


async def measure_ray_hop(bench: RealBench, repeats: int) -> list[Figure]:
    """Return the rate over the Ray actor, as a share of that over the in-process replica."""
    near = await bench.in_process()
    await bench.warm_up(near)

    async def in_process() -> Outcome:
        return await bench.player.measure(near, bench.trace.calls, LIVE_PER_SLOT * bench.workload.slots)

    found = await contest(bench, repeats, {"ray": await product(bench), "in process": in_process})
    same = traces(bench, *found.values())
    about = bench.configuration()
    far, here = rates(found["ray"]), rates(found["in process"])
    return [ratio("ray_hop", far, here, traces=same, goal=0.97, configuration=about)]
