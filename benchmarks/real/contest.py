"""How contenders of one figure are run: interleaved repeat by repeat, in turn first, on warm engines."""

from collections.abc import Awaitable, Callable, Mapping

from benchmarks.interleave import turns
from benchmarks.real.bare import Bare, at_once
from benchmarks.real.bench import Cache, RealBench
from benchmarks.real.outcome import Outcome
from benchmarks.trace import Call, by_dialogue, by_turn, select

Contender = Callable[[], Awaitable[Outcome]]
WARM_UP_DIALOGUES = 2
LIVE_PER_SLOT = 4


async def contest(bench: RealBench, repeats: int, contenders: Mapping[str, Contender]) -> dict[str, list[Outcome]]:
    """Run every contender once per repeat; each repeat begins with another one. Engines must be warm."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in contenders}
    for number, name in turns([*contenders], repeats):
        outcome = await contenders[name]()
        bench.say(
            f"{name} {number + 1}/{repeats}: {outcome.wall_s:.1f} s, {outcome.rate:.1f} tok/s, "
            f"steady {outcome.steady_rate:.1f}, cached {outcome.cached_tokens}/{outcome.prompt_tokens}"
        )
        outcomes[name].append(outcome)
    return outcomes


async def warm_bare(bench: RealBench, cache: Cache = "ample") -> Bare:
    """Return the bare engine, warm."""
    bare = await bench.bare(cache)
    await bare.measure(at_once, select(bench.trace, bench.trace.episodes[:WARM_UP_DIALOGUES]).calls)
    return bare


class Ceiling:
    """The bare engine with all calls at once: the best of several orders of replay.

    All orders are tried in the first repeat; later repeats run the best one. Which order is best is decided by
    `rate`, and its cached tokens are part of the outcome.
    """

    def __init__(self, bench: RealBench, bare: Bare) -> None:
        trace = bench.trace
        self._bench = bench
        self._bare = bare
        self._orders: dict[str, tuple[Call, ...]] = {
            "as recorded": trace.calls,
            "turn by turn": by_turn(trace),
            "dialogue by dialogue": by_dialogue(trace),
        }
        self.best = ""

    async def __call__(self) -> Outcome:
        """Replay and return the best outcome."""
        tried = {}
        for name in [self.best] if self.best else list(self._orders):
            tried[name] = await self._bare.measure(at_once, self._orders[name])
            self._bench.say(f"ceiling, {name}: {tried[name].rate:.1f} tok/s, cached {tried[name].cached_tokens}")
        self.best = max(tried, key=lambda name: tried[name].rate)
        return tried[self.best]


async def product(bench: RealBench, cache: Cache = "ample", live_per_slot: int | None = LIVE_PER_SLOT) -> Contender:
    """Return the product as a contender, warm: fleet, scheduler, journal. None leaves admission to the KV cache."""
    fleet = await bench.product(cache)
    await bench.warm_up(fleet)
    max_live = None if live_per_slot is None else live_per_slot * bench.workload.slots
    return lambda: bench.player.measure(fleet, bench.trace.calls, max_live)


def traces(bench: RealBench, *outcomes: list[Outcome]) -> tuple[str, str]:
    """Return the one hash of all outcomes of two sides, for `ratio`. Raises ValueError when they are not equal."""
    found = {outcome.trace for side in outcomes for outcome in side} | {bench.trace.hash}
    if len(found) != 1:
        raise ValueError(f"contenders must replay the recorded trace {bench.trace.hash}, got {sorted(found)}")
    return (bench.trace.hash, bench.trace.hash)
