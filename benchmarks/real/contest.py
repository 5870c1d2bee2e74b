"""How contenders of one contest are run (interleaved repeat by repeat, on warm engines) and compared."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from benchmarks.figures import Figure, figure, ratio
from benchmarks.interleave import turns
from benchmarks.real.bench import RealBench
from benchmarks.real.outcome import Outcome
from benchmarks.trace import Trace

Contender: TypeAlias = Callable[[], Awaitable[Outcome]]


class Contest(msgspec.Struct, frozen=True):
    """What came of a contest: every contender's outcomes in order of repeats, and what its figures say of it."""

    bench: RealBench
    trace: Trace
    outcomes: Mapping[str, list[Outcome]]
    about: Mapping[str, Any]

    def speedup(self, name: str, over: str, under: str, goal: float | None = None) -> Figure:
        """Return the ratio of two contenders' rates over the whole run. Raises ValueError when their work differs."""
        return self.compare(name, over, under, lambda outcome: outcome.rate, goal)

    def steady(self, name: str, over: str, under: str, goal: float | None = None) -> Figure:
        """Return the ratio of two contenders' rates in the steady state."""
        return self.compare(name, over, under, lambda outcome: outcome.steady_rate, goal)

    def compare(
        self, name: str, over: str, under: str, measure: Callable[[Outcome], float], goal: float | None = None
    ) -> Figure:
        """Return the ratio of what `measure` says of two contenders, repeat by repeat."""
        above, below = ([measure(outcome) for outcome in self.outcomes[side]] for side in (over, under))
        return ratio(
            name,
            above,
            below,
            traces=(self.hash_of(over), self.hash_of(under)),
            goal=goal,
            configuration=self.configuration(**self._cached(over, under)),
        )

    def hash_of(self, *names: str) -> str:
        """Return the one hash of all outcomes of these contenders: the trace's. Raises ValueError for another."""
        found = {outcome.trace for name in names for outcome in self.outcomes[name]}
        if found != {self.trace.hash}:
            raise ValueError(f"contenders must replay the recorded trace {self.trace.hash}, got {sorted(found)}")
        return self.trace.hash

    def figure(self, name: str, unit: str, side: str, measure: Callable[[Outcome], float], **more: Any) -> Figure:
        """Return what `measure` says of one contender's repeats."""
        values = [measure(outcome) for outcome in self.outcomes[side]]
        return figure(name, unit, values, configuration=self.configuration(), trace=self.hash_of(side), **more)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """Return what a figure says it was measured with."""
        return self.bench.configuration(dialogues=len(self.trace.episodes), **self.about, **more)

    def _cached(self, *names: str) -> dict[str, int]:
        return {f"{name}: cached tokens": self.outcomes[name][0].cached_tokens for name in names}


async def contest(
    bench: RealBench, repeats: int, contenders: Mapping[str, Contender], once: Iterable[str] = ()
) -> dict[str, list[Outcome]]:
    """Run every contender once per repeat, those of `once` in the first alone; engines must be warm."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in contenders}
    only_first = set(once)
    for number, name in turns([*contenders], repeats):
        if number and name in only_first:
            continue
        outcome = await contenders[name]()
        bench.say(
            f"{name} {number + 1}/{repeats}: {outcome.wall_s:.1f} s, {outcome.rate:.1f} tok/s, "
            f"steady {outcome.steady_rate:.1f}, cached {outcome.cached_tokens}/{outcome.prompt_tokens}"
        )
        outcomes[name].append(outcome)
    return outcomes
