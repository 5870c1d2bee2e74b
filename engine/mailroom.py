"""One pool's traffic: routes open steps to replicas, sends them in batches, watches deadlines and due retries.

The mailroom knows attempts and replicas, nothing of dialogues. Completions are handed to `take` with their steps.
Invariant: a step's current attempt is in flight from its sending until its completion is handed over, once; what comes
later, or again, is dropped.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar

from engine.backend import Backend, Completion, Failure, Request, RequestKey
from engine.clock import Clock
from engine.limits import Meter
from engine.live import OpenStep
from engine.ordering import Order
from engine.routing import Router

T = TypeVar("T")

CHUNK: Final = 64
"""Steps sent between two passes of the loop: bounds how long a timer or a socket waits."""

NUM_TAKEN: Final = 8
PASS_S: Final = 0.002
"""Completions are taken so many at a time, with a pass of the loop after so long: the last of an episode can cost 100
times as much as others."""

Arrival: TypeAlias = tuple[OpenStep, Completion]
Take: TypeAlias = Callable[["Mailroom", list[Arrival]], None]


class Mailroom:
    """Outgoing and incoming mail of one backend. What the limits of `meter` have no room for stays in the outbox."""

    def __init__(
        self,
        backend: Backend,
        router: Router,
        clock: Clock,
        timeout_s: float,
        order: Order,
        take: Take,
        meter: Meter | None = None,
    ) -> None:
        self.backend = backend
        self.router = router
        self._order = order
        self._clock = clock
        self._timeout_s = timeout_s
        self._take = take
        self._meter = meter
        # By turns done: sorting 10,000 steps would keep the loop for milliseconds.
        self._outbox: dict[int, list[OpenStep]] = {}
        self._ended: list[str] = []
        self._has_mail = asyncio.Event()
        # Insertion order is submission order, and every request has the same time limit: the first entry is due first.
        self._in_flight: dict[RequestKey, OpenStep] = {}
        self._delayed: list[tuple[float, int, OpenStep]] = []
        self._num_delayed = 0
        self._has_deadline = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._in_flight

    def post(self, step: OpenStep, delay_s: float = 0.0) -> None:
        """Send a step's current attempt, after `delay_s`."""
        if delay_s > 0:
            self._num_delayed += 1
            heapq.heappush(self._delayed, (self._clock.now() + delay_s, self._num_delayed, step))
            self._has_deadline.set()
            return
        self._put_out(step)
        self._has_mail.set()

    def _put_out(self, step: OpenStep) -> None:
        turns = step.live.num_turns
        if turns in self._outbox:
            self._outbox[turns].append(step)
        else:
            self._outbox[turns] = [step]

    def forget(self, episode: str) -> None:
        """An episode has ended."""
        self.router.forget(episode)
        self._ended.append(episode)
        self._has_mail.set()

    async def announce(self) -> None:
        """Tell the backend which episodes have ended."""
        ended, self._ended = self._ended, []
        for episode in ended:
            await self.backend.forget(episode)

    async def send(self) -> None:
        """Consumes: posted steps. Produces: batches. Waits for: mail, ready replicas. Unblocked by: `_has_mail`."""
        while True:
            await self._has_mail.wait()
            self._has_mail.clear()
            await self.announce()
            if not self._room():
                # Nothing will come of it any more: who waits for that may have no other reason to wake.
                self._take(self, [])
                continue
            outbox, self._outbox = self._outbox, {}
            steps = [step for turns in sorted(outbox, key=self._order.priority) for step in outbox[turns]]
            outbox.clear()
            steps.reverse()
            while steps and (room := self._room()):
                self.router.refresh(self.backend.replicas())
                now = self._clock.now()
                addressed = [self._address(step, now) for step in _taken(steps, room)]
                batch = [request for request in addressed if request is not None]
                if batch:
                    if self._meter is not None:
                        self._meter.sent(len(batch))
                    await self.backend.submit(batch)
                if steps:
                    await asyncio.sleep(0)
            for step in reversed(steps):
                self._put_out(step)

    def _room(self) -> int:
        """Return how many steps may be sent at once."""
        return CHUNK if self._meter is None else min(self._meter.room(self._clock.now()), CHUNK)

    def _address(self, step: OpenStep, now: float) -> Request | None:
        """Return the step as a routed request; without a ready replica it stays in the outbox."""
        live = step.live
        stay = self.router.place(live.name, live.identity.key.case, step.avoid)
        if stay is None:
            self._put_out(step)
            return None
        replica = stay.replica
        step.submitted_at = now
        if not self._in_flight:
            self._has_deadline.set()
        step.replica = replica
        self._in_flight[step.key] = step
        self.router.sent(replica)
        return step.request(replica, self._order.priority(live.num_turns), self._timeout_s, stay.weights)

    async def receive(self, room: Callable[[], Awaitable[None]]) -> None:
        """Consumes: completions. Produces: calls of `take`. Waits for: the backend, the journal's room."""
        while True:
            coming = [*reversed(await self.backend.collect())]
            since = self._clock.now()
            # An empty batch is handled too: it says that the replicas changed.
            while True:
                await room()
                self._hand_over(_taken(coming, NUM_TAKEN))
                if self._outbox:
                    self._has_mail.set()
                if not coming:
                    break
                if self._clock.now() - since >= PASS_S:
                    await asyncio.sleep(0)
                    since = self._clock.now()

    def _hand_over(self, completions: list[Completion]) -> None:
        arrivals: list[Arrival] = []
        for completion in completions:
            step = self._in_flight.pop(completion.key, None)
            if step is not None:
                self.router.returned(step.replica)
                arrivals.append((step, completion))
        self._take(self, arrivals)

    async def watch(self) -> None:
        """Consumes: deadlines and due retries. Waits for: the next of them. Unblocked by: `_has_deadline`."""
        while True:
            due = self._next_due()
            if due is None:
                self._has_deadline.clear()
                await self._has_deadline.wait()
                continue
            await self._sleep_until(due)
            await self._expire(self._clock.now())

    def _next_due(self) -> float | None:
        """Return when the next deadline or retry is due."""
        times = [self._delayed[0][0]] if self._delayed else []
        if self._in_flight:
            step = next(iter(self._in_flight.values()))
            times.append(step.submitted_at + self._timeout_s)
        return min(times, default=None)

    async def _sleep_until(self, due: float) -> None:
        """Sleep until `due`, or until something earlier may be due."""
        self._has_deadline.clear()
        sleep = asyncio.ensure_future(self._clock.sleep(due - self._clock.now()))
        wake = asyncio.ensure_future(self._has_deadline.wait())
        try:
            await asyncio.wait((sleep, wake), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            wake.cancel()

    async def _expire(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            self.post(heapq.heappop(self._delayed)[2])
        late: list[RequestKey] = []
        for key, step in self._in_flight.items():
            if step.submitted_at + self._timeout_s > now:
                break
            late.append(key)
        if not late:
            return
        failure = Failure("timeout", f"no answer within {self._timeout_s:g} s: raise scheduler.request_timeout_s")
        self._hand_over([Completion(*key, failure=failure) for key in late])
        await self.backend.cancel(late)


def _taken(pile: list[T], num: int) -> list[T]:
    """Take the next few of a pile, from its end.

    What lies in one list to the end would be freed in one go: for 10,000 steps or completions that is 10 ms.
    """
    taken = pile[: -num - 1 : -1]
    del pile[-num:]
    return taken
