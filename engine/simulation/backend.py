"""A pool of simulated replicas behind the `Backend` seam, on the virtual loop.

Invariant: as the real fleet, every request submitted is completed exactly once unless it was cancelled; a replica that
dies fails its requests with `replica_lost` and is not ready until it is back. Gauges are as old as the last news from
their replica. Everything random was drawn before: by seed, episode and path.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from engine.backend import Completion, Failure, ReplicaGauges, Request, RequestKey
from engine.errors import BackendDown
from engine.record import JOINT
from engine.residents import Residents
from engine.simulation.answers import Answer, Answers
from engine.simulation.faults import Fault
from engine.simulation.jobs import Done, Job, Shape
from engine.simulation.latency import PICOSECONDS, Coefficients
from engine.simulation.replica import Replica
from engine.simulation.swap import Inject, Place, Salted, SimulatedSwap, SwapTimes
from engine.simulation.tokens import Prompt, Tokens
from engine.steps import Reply, Usage
from engine.swap import SwapPolicy, SwapReport, Target
from engine.swapping import Swap

WEIGHTS: Final = "simulated-0"
WIRE_S: Final = 0.001


class Demand(msgspec.Struct):
    """What was asked of a pool: requests and prompt tokens that a cache without limits would have held."""

    num_requests: int = 0
    prompt_tokens: int = 0
    possible_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class _Open(msgspec.Struct, frozen=True, gc=False):
    """One open request: its answer, its replica, the version it is sampled under, and how many loads came before."""

    answer: Answer
    prompt: Prompt
    number: int
    weights: str
    num_loads: int


class SimulatedBackend:
    """Replicas of one shape. `wire_s` is the delay of a message, either way; `starts_s` the start-up time."""

    def __init__(
        self,
        *,
        answers: Answers,
        tokens: Tokens,
        shape: Shape,
        coefficients: Coefficients,
        replicas: int = 1,
        max_context: int | None = None,
        faults: Iterable[Fault] = (),
        wire_s: float = WIRE_S,
        starts_s: float = 0.0,
        model: str = "simulated",
        swap_times: SwapTimes | None = None,
    ) -> None:
        self.demand = Demand()
        self.residents = Residents()
        self.places = [Place(WEIGHTS) for _ in range(replicas)]
        self.target = Target(WEIGHTS)
        self.inject: Inject | None = None
        self._swap_times = swap_times or SwapTimes()
        self.engines = [
            Replica(
                f"replica-{number}",
                shape,
                coefficients,
                faults=[fault for fault in faults if fault.replica == number],
                starts_at_ps=round(starts_s * PICOSECONDS),
            )
            for number in range(replicas)
        ]
        self._index = {engine.name: number for number, engine in enumerate(self.engines)}
        self._answers = answers
        self._tokens = tokens
        self._model = model
        self._wire_s = wire_s
        self._max_context = min(max_context or shape.kv_tokens, shape.kv_tokens - shape.block_size)
        self._open: dict[RequestKey, _Open] = {}
        self._gauges = [self._measure(engine) for engine in self.engines]
        self._reported: tuple[ReplicaGauges, ...] = ()
        self._has_news = True
        self._events: list[tuple[int, int]] = []
        self._due: list[int | None] = [None] * replicas
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ps = 0
        self._has_begun = False
        self._done: list[Completion] = []
        self._changed = asyncio.Event()
        self._turn = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def max_context(self) -> int | None:
        """Longest context in tokens."""
        return self._max_context

    async def start(self) -> None:
        """Wait, in virtual time, until a replica is ready. Raises BackendDown when none ever will be."""
        self._begin()
        while all(engine.state != "ready" for engine in self.engines):
            if not self._events:
                raise BackendDown("no simulated replica will ever be ready: check the schedule of faults")
            await self._changed.wait()
            self._changed.clear()

    async def submit(self, batch: Sequence[Request]) -> None:
        """Put requests on the wire."""
        arrivals: dict[int, list[Job]] = {}
        for request in batch:
            job = self._prepare(request)
            if job is not None:
                arrivals.setdefault(self._place(request), []).append(job)
        if arrivals:
            self._running_loop().call_later(self._wire_s, self._arrive, arrivals)

    async def collect(self) -> list[Completion]:
        """Wait for completions or a change of replicas."""
        self._begin()
        await self._changed.wait()
        self._changed.clear()
        finished, self._done = self._done, []
        return finished

    async def cancel(self, keys: Sequence[RequestKey]) -> None:
        """Drop requests."""
        dropped = set(keys)
        by_engine: dict[int, list[RequestKey]] = {}
        for key in dropped:
            known = self._open.pop(key, None)
            if known is not None:
                by_engine.setdefault(known.number, []).append(key)
        now = self._now()
        for number, mine in by_engine.items():
            self._catch_up(number, now)
            self.engines[number].cancel(now, mine)
            self._expect(number)
        self._wind()
        self._done = [done for done in self._done if done.key not in dropped]
        self.residents.poke()

    async def forget(self, episode: str) -> None:
        """An episode has ended."""
        self._tokens.forget(episode)
        self.residents.forget(episode)

    def replicas(self) -> Sequence[ReplicaGauges]:
        """Return the gauges, as old as the last news; another object after each."""
        if self._has_news:
            self._has_news = False
            self._reported = tuple(self._gauges)
        return self._reported

    async def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._changed.set()

    # ------------------------------------------------------------ swaps

    async def swap(self, checkpoint: Path | None, policy: SwapPolicy, say: Callable[[str], None]) -> SwapReport:
        """Serve other weights, read as a whole; None for those of the start."""
        return await self.swap_to(Target(WEIGHTS if checkpoint is None else str(checkpoint)), policy, say)

    async def swap_to(self, target: Target, policy: SwapPolicy, say: Callable[[str], None]) -> SwapReport:
        """Serve a target."""
        replicas = SimulatedSwap(self, self._swap_times, self.inject)
        report = await Swap(replicas, self.target, target, policy, say).run()
        if report.is_done:
            self.target = target
        return report

    def act(self, number: int, act: Callable[[int], None]) -> None:
        """Let time pass on a replica, do something there, and show what came of it."""
        now = self._now()
        self._catch_up(number, now)
        act(now)
        self._catch_up(number, now)
        self._expect(number)
        self._wind()
        self._gauges[number] = self.places[number].shown(self._measure(self.engines[number]))
        self._has_news = True
        self._changed.set()
        self.residents.poke()

    def is_open(self, key: RequestKey) -> bool:
        """Whether a request is still to be completed, or was and is not collected yet."""
        return key in self._open or any(done.key == key for done in self._done)

    def is_asked(self, number: int) -> bool:
        """Whether requests of a replica are open."""
        return any(known.number == number for known in self._open.values())

    # ------------------------------------------------------------ requests

    def _prepare(self, request: Request) -> Job | None:
        """Return the request as a job, or None after failing it."""
        if request.options is not None:
            self._fail(request.key, Failure("rejected", "a simulated model has no log probabilities: serve a real one"))
            return None
        answer = self._answers.answer(request)
        prompt = self._tokens.prompt(request.episode, request.messages, answer.text, answer.num_content)
        if prompt.num_tokens + max(request.sampling.max_tokens, answer.num_tokens) > self._max_context:
            message = (
                f"prompt of {prompt.num_tokens} tokens + max_tokens {request.sampling.max_tokens} exceed the window of"
                f" {self._max_context}: raise max_model_len or shorten the dialogue"
            )
            self._fail(request.key, Failure("context_overflow", message))
            return None
        number = self._place(request)
        place = self.places[number]
        weights = place.chosen(request.weights)
        self._open[request.key] = _Open(answer, prompt, number, weights, len(place.loads))
        self.residents.settle(request.episode, self.engines[number].name, weights)
        tokens = prompt if place.is_plain else Salted(prompt, (weights, len(place.loads)))
        return Job(request.key, tokens, answer.num_tokens, request.priority)

    def _place(self, request: Request) -> int:
        return self._index[request.replica] if request.replica else 0

    def _arrive(self, arrivals: dict[int, list[Job]]) -> None:
        now = self._now()
        for number, jobs in arrivals.items():
            wanted = [job for job in jobs if job.key in self._open]
            self._catch_up(number, now)
            self.engines[number].submit(now, wanted)
            self._expect(number)
        self._wind()

    def _catch_up(self, number: int, now: int) -> None:
        """Advance one replica and send home what ended."""
        engine = self.engines[number]
        state, num_swaps = engine.state, engine.num_swaps
        ended = engine.advance(now)
        if ended or engine.state != state or engine.num_swaps != num_swaps:
            self._note(number, state, num_swaps)
            self._running_loop().call_later(self._wire_s, self._deliver, number, ended, self._measure(engine))

    def _note(self, number: int, state: str, num_swaps: int) -> None:
        """Note what became of a replica's weights: scheduled swaps mix, a restart brings what is served."""
        engine, place = self.engines[number], self.places[number]
        if engine.num_swaps != num_swaps:
            place.put(f"simulated-{engine.num_swaps}")
            place.is_mixing = True
        if engine.state == "ready" != state:
            place.weights, place.versions = place.served, (place.served,)

    def _deliver(self, number: int, ended: Sequence[Done], gauges: ReplicaGauges) -> None:
        place = self.places[number]
        self._gauges[number] = gauges if place.is_plain else place.shown(gauges)
        self._has_news = True
        for done in ended:
            known = self._open.pop(done.job.key, None)
            if known is None:
                continue
            if done.is_lost:
                self._fail(done.job.key, Failure("replica_lost", f"{gauges.replica} was lost"))
            else:
                self._done.append(self._complete(done.job, known))
        self._changed.set()
        self.residents.poke()

    def _complete(self, job: Job, known: _Open) -> Completion:
        episode, path, attempt = job.key
        answer, prompt, cached, demand = known.answer, known.prompt, job.cached or 0, self.demand
        demand.num_requests += 1
        demand.prompt_tokens += prompt.num_tokens
        demand.possible_tokens += prompt.possible
        demand.cached_tokens += cached
        demand.completion_tokens += answer.num_tokens
        self._tokens.completed(episode, prompt, answer.num_tokens)
        reply = Reply(
            answer.text,
            finish=answer.finish,
            probabilities=answer.probabilities,
            usage=Usage(prompt.num_tokens, answer.num_tokens, cached),
            model=self._model,
            replica=self.engines[known.number].name,
            weights=self._versions(known),
            attempt=attempt,
        )
        return Completion(episode, path, attempt, reply)

    def _versions(self, known: _Open) -> str:
        """Return what a reply was sampled under: a load since its request came joins in."""
        since = self.places[known.number].loads[known.num_loads :]
        return JOINT.join(dict.fromkeys((known.weights, *since))) if since else known.weights

    def _fail(self, key: RequestKey, failure: Failure) -> None:
        self._done.append(Completion(*key, failure=failure))
        self._changed.set()

    # ------------------------------------------------------------ time

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _now(self) -> int:
        return max(round(self._running_loop().time() * PICOSECONDS), self._timer_ps)

    def _expect(self, number: int) -> None:
        """Note when a replica's next event is."""
        due = self.engines[number].next_event()
        if due != self._due[number]:
            self._due[number] = due
            if due is not None:
                heapq.heappush(self._events, (due, number))

    def _begin(self) -> None:
        """Expect the first event of every replica, once."""
        if not self._has_begun:
            self._has_begun = True
            for number in range(len(self.engines)):
                self._expect(number)
            self._wind()

    def _wind(self) -> None:
        """Set the timer to the earliest event of any replica."""
        events = self._events
        while events and self._due[events[0][1]] != events[0][0]:
            heapq.heappop(events)
        when = events[0][0] / PICOSECONDS if events else None
        if self._timer is not None:
            if self._timer.when() == when:
                return
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._running_loop().call_at(when, self._strike)

    def _strike(self) -> None:
        """Let everything happen that is due."""
        self._timer = None
        events, due = self._events, self._due
        now = self._now()
        if events:
            now = self._timer_ps = max(now, events[0][0])
        while events and events[0][0] <= now:
            at, number = heapq.heappop(events)
            if due[number] == at:
                due[number] = None
                self._catch_up(number, now)
                self._expect(number)
        self._wind()

    def _measure(self, engine: Replica) -> ReplicaGauges:
        tally, shape = engine.tally, engine.shape
        return ReplicaGauges(
            engine.name,
            state=engine.state,
            running=engine.num_running,
            waiting=engine.num_waiting,
            slots=shape.slots,
            kv_tokens=shape.kv_tokens,
            kv_usage=engine.pool.usage,
            prefix_queries=tally.prefix_queries,
            prefix_hits=tally.prefix_hits,
            preemptions=tally.preemptions,
            prompt_tokens=tally.prompt_tokens,
            completion_tokens=tally.completion_tokens,
            weights=self.places[self._index[engine.name]].weights,
            restarts=tally.restarts,
        )
