"""Orders of play over any way to make a call: everything at once, one at a time, lock-step waves, naive gather.

The bare engine in process is one such way: no scheduler, no Ray, no journal, token ids straight into the engine's own
front end. Every call is forced to the recorded ids, so contenders do the same work and differ in order alone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from actors.engine import Engine, sampling_parameters
from benchmarks.real.outcome import Finish, Outcome, finish_of
from benchmarks.trace import Call, depths
from engine.steps import Sampling

Ask = Callable[[Call, int], Awaitable[Finish]]
"""Make one call with a priority (lower first); return its finish."""
Order = Callable[[Ask, Sequence[Call]], Awaitable[list[Finish]]]


async def at_once(ask: Ask, calls: Sequence[Call]) -> list[Finish]:
    """Ask everything at once, dependencies ignored; the engine takes the calls in the order given."""
    return list(await asyncio.gather(*(ask(call, place) for place, call in enumerate(calls))))


async def one_by_one(ask: Ask, calls: Sequence[Call]) -> list[Finish]:
    """Ask one call at a time."""
    return [await ask(call, 0) for call in calls]


def in_waves(width: int) -> Order:
    """Return lock-step: `width` dialogues advance together, each turn waiting for the slowest; then the next ones."""

    async def play(ask: Ask, calls: Sequence[Call]) -> list[Finish]:
        depth = depths(calls)
        episodes = list(dict.fromkeys(call.episode for call in calls))
        finishes: list[Finish] = []
        for start in range(0, len(episodes), width):
            wave = set(episodes[start : start + width])
            mine = [call for call in calls if call.episode in wave]
            for turn in range(1 + max(depth[call.key] for call in mine)):
                finishes += await asyncio.gather(*(ask(call, 0) for call in mine if depth[call.key] == turn))
        return finishes

    return play


async def gather(ask: Ask, calls: Sequence[Call]) -> list[Finish]:
    """Play all dialogues at once, one task each, no admission and no priority: what a plain script does."""
    return [finish for part in await asyncio.gather(*map(_dialogue(ask), _episodes(calls))) for finish in part]


def _episodes(calls: Iterable[Call]) -> list[list[Call]]:
    grouped: dict[str, list[Call]] = {}
    for call in calls:
        grouped.setdefault(call.episode, []).append(call)
    return list(grouped.values())


def _dialogue(ask: Ask) -> Callable[[list[Call]], Awaitable[list[Finish]]]:
    async def play(calls: list[Call]) -> list[Finish]:
        done: dict[str, asyncio.Task[Finish]] = {}

        async def turn(call: Call) -> Finish:
            await asyncio.gather(*(done[parent] for parent in call.parents))
            return await ask(call, 0)

        for call in calls:
            done[call.path] = asyncio.create_task(turn(call))
        return list(await asyncio.gather(*done.values()))

    return play


class Bare:
    """One in-process engine as a way to make calls. `end_ids` end a turn, `temperature` as in the product."""

    def __init__(self, engine: Engine, end_ids: Sequence[int], temperature: float) -> None:
        self._engine = engine
        self._end_ids = end_ids
        self._temperature = temperature
        self._run = 0
        self._begun = 0.0

    async def ask(self, call: Call, priority: int) -> Finish:
        """Make one call."""
        sampling = Sampling(len(call.completion_ids), self._temperature)
        parameters = sampling_parameters(sampling, None, self._end_ids, forced_ids=call.completion_ids)
        name = f"{self._run}|{call.episode}|{call.path}"
        made = await self._engine.generate(call.prompt_ids, parameters, name, priority)
        return finish_of(call, time.perf_counter() - self._begun, made.token_ids, made.cached_tokens)

    async def measure(self, order: Order, calls: Sequence[Call]) -> Outcome:
        """Play from an empty prefix cache and time it. Raises RuntimeError when the cache cannot be emptied."""
        if not await self._engine.forget_prefixes():
            raise RuntimeError("the prefix cache must be empty at the start, got blocks in use: end all requests first")
        self._run += 1
        preempted = self._engine.counters.preemptions
        self._begun = time.perf_counter()
        finishes = await order(self.ask, calls)
        wall_s = time.perf_counter() - self._begun
        return Outcome(wall_s, tuple(finishes), self._engine.counters.preemptions - preempted)
