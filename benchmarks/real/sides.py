"""The contenders of the real rows by name: engines are started, and warmed up, when a contender is first asked for."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from benchmarks.real.bare import Bare, Order, at_once, gather, in_waves, one_by_one
from benchmarks.real.bench import Cache, RealBench
from benchmarks.real.contest import Contender
from benchmarks.real.outcome import Outcome
from benchmarks.real.plain import PlainModel
from benchmarks.trace import Call, Trace, by_dialogue, by_turn, longest_episode, select

WARM_UP_DIALOGUES: Final = 2
LIVE_PER_SLOT: Final = 4

CEILING, PRODUCT, NARROW, IN_PROCESS = "ceiling", "product", "product, live = slots", "product in process"
SEQUENTIAL, TRANSFORMERS, WAVES, OPENAI = "sequential", "transformers", "waves of slots", "openai"
PRODUCT_TIGHT, GATHER_TIGHT, OPENAI_TIGHT = "product, tight", "gather, tight", "openai, tight"


class Sides:
    """Opens contenders over the first `num_dialogues` of the recorded trace.

    `sample` is the part that is played one call at a time: whole dialogues with at least `num_sequential` calls.
    `about` collects what figures should say of the contenders that were opened.
    """

    def __init__(self, bench: RealBench, num_dialogues: int) -> None:
        self.bench = bench
        self.trace = select(bench.trace, bench.player.episodes[:num_dialogues])
        self.sample = _sample(self.trace, bench.workload.num_sequential)
        self.about: dict[str, Any] = {}

    async def open(self, name: str) -> Contender:
        """Return a contender by name, warm. Raises KeyError for an unknown one."""
        return await _OPEN[name](self)

    # ------------------------------------------------------------ the product

    def _play(self, backend: Any, max_live: int | None) -> Contender:
        bench, calls, number = self.bench, self.trace.calls, len(self.trace.episodes)
        return lambda: bench.player.measure(backend, calls, max_live, number)

    async def product(self, cache: Cache = "ample", live_per_slot: int | None = LIVE_PER_SLOT) -> Contender:
        """Fleet, scheduler, journal. `live_per_slot` None leaves admission to the KV cache."""
        fleet = await self.bench.product(cache)
        await self.bench.warm_up(fleet)
        return self._play(fleet, None if live_per_slot is None else live_per_slot * self.bench.workload.slots)

    async def in_process(self) -> Contender:
        """The same scheduler and journal over a replica object in this process."""
        near = await self.bench.in_process()
        await self.bench.warm_up(near)
        return self._play(near, LIVE_PER_SLOT * self.bench.workload.slots)

    # ------------------------------------------------------------ the bare engine

    async def bare(self, cache: Cache = "ample") -> Bare:
        """The bare engine, warm."""
        bare = await self.bench.bare(cache)
        await bare.measure(at_once, self._warm_up_calls)
        return bare

    @property
    def _warm_up_calls(self) -> Sequence[Call]:
        return select(self.trace, self.trace.episodes[:WARM_UP_DIALOGUES]).calls

    async def replay(self, order: Order, cache: Cache = "ample", trace: Trace | None = None) -> Contender:
        """The bare engine in some order of play."""
        bare, calls = await self.bare(cache), (trace or self.trace).calls
        return lambda: bare.measure(order, calls)

    async def ceiling(self) -> Contender:
        """All calls at once, in the best of several orders; the critical path is measured before."""
        bare = await self.bare()
        alone = select(self.trace, [longest_episode(self.trace)]).calls
        self.about["critical_path_s"] = round((await bare.measure(one_by_one, alone)).wall_s, 2)
        return Ceiling(self, bare)

    # ------------------------------------------------------------ others

    async def transformers(self) -> Contender:
        """Plain transformers, one call at a time."""
        plain, calls = await PlainModel.load(self.bench.path), self.sample.calls
        return lambda: plain.measure(calls)

    async def openai(self, cache: Cache = "ample") -> Contender:
        """vLLM's API server, the `openai` client and one asyncio task per dialogue."""
        server, calls = await self.bench.server(cache), self.trace.calls
        await server.measure(gather, self._warm_up_calls)
        return lambda: server.measure(gather, calls)


class Ceiling:
    """The bare engine with all calls at once: the best of several orders of replay.

    All orders are tried in the first repeat; later repeats run the best one. Which order is best is decided by
    `rate`, and its cached tokens are part of the outcome.
    """

    def __init__(self, sides: Sides, bare: Bare) -> None:
        trace = sides.trace
        self._sides = sides
        self._bare = bare
        self._orders = _distinct(
            {
                "as recorded": trace.calls,
                "turn by turn": by_turn(trace),
                "dialogue by dialogue": by_dialogue(trace),
            }
        )
        self._best = ""

    async def __call__(self) -> Outcome:
        """Replay and return the best outcome."""
        tried = {}
        for name in [self._best] if self._best else list(self._orders):
            tried[name] = await self._bare.measure(at_once, self._orders[name])
            self._sides.bench.say(f"ceiling, {name}: {tried[name].rate:.1f} tok/s, cached {tried[name].cached_tokens}")
        self._best = max(tried, key=lambda name: tried[name].rate)
        self._sides.about["order"] = self._best
        return tried[self._best]


def _distinct(orders: Mapping[str, tuple[Call, ...]]) -> dict[str, tuple[Call, ...]]:
    """Return each order once, under its first name: dialogues of one call have no other."""
    found: dict[str, tuple[Call, ...]] = {}
    for name, calls in orders.items():
        if calls not in found.values():
            found[name] = calls
    return found


def _sample(trace: Trace, wanted: int) -> Trace:
    """Return whole dialogues with at least `wanted` calls, spread evenly over the trace."""
    per_episode = len(trace.calls) / len(trace.episodes)
    number = min(len(trace.episodes), -(-wanted // max(1, int(per_episode))))
    return select(trace, [trace.episodes[i * len(trace.episodes) // number] for i in range(number)])


_OPEN: Final[dict[str, Callable[[Sides], Awaitable[Contender]]]] = {
    CEILING: Sides.ceiling,
    PRODUCT: Sides.product,
    NARROW: lambda sides: sides.product(live_per_slot=1),
    IN_PROCESS: Sides.in_process,
    SEQUENTIAL: lambda sides: sides.replay(one_by_one, trace=sides.sample),
    TRANSFORMERS: Sides.transformers,
    WAVES: lambda sides: sides.replay(in_waves(sides.bench.workload.slots)),
    OPENAI: Sides.openai,
    PRODUCT_TIGHT: lambda sides: sides.product("tight", live_per_slot=None),
    GATHER_TIGHT: lambda sides: sides.replay(gather, "tight"),
    OPENAI_TIGHT: lambda sides: sides.openai("tight"),
}
