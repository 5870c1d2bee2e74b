"""Requests of clients who wait, put to a pool: each gets its one reply, or the failure that it came to.

Where a request goes is the router's choice, and whether it is tried again elsewhere the retry policy's; both are those
of runs. Requests with a common beginning prefer the replica that saw it last, for its prefix cache. Invariant: what is
open is bounded, and whatever is no longer waited for is cancelled in the pool. Knows nothing of HTTP.

A desk must run (`run`, one task) for requests to be answered.
"""

import asyncio
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from engine.backend import Backend, Completion, Failure, Request, RequestKey
from engine.errors import BackendDown
from engine.record import AttemptRecord
from engine.retry import RetryPolicy
from engine.routing import Router, Stay
from engine.steps import Reply

BEGINNING_CHARS: Final = 512
NUM_BEGINNINGS: Final = 4096
"""Beginnings are told apart by so many numbers, so that the router's memory of them stays bounded."""


class Unanswered(Exception):
    """A request came to nothing, with all its attempts; carries the last failure."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(f"{failure.kind}: {failure.message}")


class Full(Exception):
    """As much is open as may be."""


class Desk:
    """One pool's counter. At most `max_open` requests are open; an attempt has `timeout_s`."""

    def __init__(
        self,
        backend: Backend,
        *,
        retry: RetryPolicy | None = None,
        timeout_s: float = 1800.0,
        max_open: int = 1024,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.max_open = max_open
        self.num_open = 0
        self._backend = backend
        self._retry = retry or RetryPolicy()
        self._timeout_s = timeout_s
        self._draw = draw
        self._router = Router()
        self._waiting: dict[RequestKey, asyncio.Future[Completion]] = {}
        self._changed = asyncio.Event()
        self._down = ""

    @property
    def max_context(self) -> int | None:
        """Longest context in tokens, None when unknown."""
        return self._backend.max_context

    @property
    def is_ready(self) -> bool:
        """Whether any replica takes requests."""
        return not self._down and any(gauges.state == "ready" for gauges in self._backend.replicas())

    async def run(self) -> None:
        """Hand completions to who waits for them, until cancelled. Raises `BackendDown` when the pool is beyond help.

        consumes: completions. waits for: the pool. unblocked by: a completion, or a change of the replicas.
        """
        try:
            while True:
                for completion in await self._backend.collect():
                    waiting = self._waiting.pop(completion.key, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(completion)
                self._stir()
        except BackendDown as down:
            self._down = str(down)
            raise
        finally:
            self._down = self._down or "the endpoint is closed"
            for key, waiting in self._waiting.items():
                if not waiting.done():
                    waiting.set_result(Completion(*key, failure=Failure("replica_lost", self._down)))
            self._stir()

    @contextmanager
    def room(self, num_requests: int) -> Iterator[None]:
        """Keep room for requests while they are open. Raises `Full`."""
        if self.num_open + num_requests > self.max_open:
            raise Full
        self.num_open += num_requests
        try:
            yield
        finally:
            self.num_open -= num_requests

    async def ask_all(self, requests: Sequence[Request]) -> list[Reply]:
        """Return the replies in order. Raises `Unanswered` with the first failure; the others are cancelled then."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.ask(request)) for request in requests]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def ask(self, request: Request) -> Reply:
        """Return the reply to a request; its episode is its own. Raises `Unanswered`; cancelling it cancels it."""
        past: list[AttemptRecord] = []
        waited_s, avoid = 0.0, ""
        try:
            while True:
                completion, replica = await self._attempt(request, avoid)
                if completion.reply is not None:
                    used = completion.reply.usage
                    self._router.observe(request.episode, used.prompt_tokens + used.completion_tokens)
                    return completion.reply
                assert completion.failure is not None
                failure, avoid = completion.failure, replica
                past.append(AttemptRecord(request.attempt, failure.kind, failure.message, replica))
                delay_s = None if self._down else self._retry.delay(failure, past, waited_s, self._draw())
                if delay_s is None:
                    raise Unanswered(failure)
                waited_s += delay_s if failure.kind == "rate_limited" else 0.0
                await asyncio.sleep(delay_s)
                request = msgspec.structs.replace(request, attempt=request.attempt + 1)
        finally:
            self._router.forget(request.episode)
            await self._backend.forget(request.episode)

    async def _attempt(self, request: Request, avoid: str) -> tuple[Completion, str]:
        """Return what one attempt came to, and the replica it was put to ("" for none)."""
        replica = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                stay = await self._place(request, avoid)
                replica = stay.replica
                return await self._put(request, stay), replica
        except TimeoutError:
            failure = Failure("timeout", f"no answer within {self._timeout_s:g} s: raise scheduler.request_timeout_s")
        except BackendDown as down:
            self._down = self._down or str(down)
            failure = Failure("replica_lost", self._down)
        return Completion(*request.key, failure=failure), replica

    async def _place(self, request: Request, avoid: str) -> Stay:
        """Return where the request goes, once a replica is ready. Raises `BackendDown` when none will be."""
        while True:
            changed = self._changed
            if self._down:
                raise BackendDown(self._down)
            self._router.refresh(self._backend.replicas())
            stay = self._router.place(request.episode, beginning_of(request), avoid)
            if stay is not None:
                return stay
            await changed.wait()

    async def _put(self, request: Request, stay: Stay) -> Completion:
        waiting: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting[request.key] = waiting
        self._router.sent(stay.replica)
        try:
            routed = msgspec.structs.replace(
                request, replica=stay.replica, weights=stay.weights, timeout_s=self._timeout_s
            )
            await self._backend.submit([routed])
            return await waiting
        finally:
            self._router.returned(stay.replica)
            if self._waiting.pop(request.key, None) is not None:
                await self._backend.cancel([request.key])

    def _stir(self) -> None:
        """Wake who waits for a replica."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def beginning_of(request: Request) -> str:
    """Return a word that requests with the same beginning share (and a few others)."""
    prompt = request.options.prompt if request.options is not None else None
    if prompt is None:
        text = "\0".join(f"{message.role}\0{message.text[:BEGINNING_CHARS]}" for message in request.messages[:4])
    else:
        text = prompt if isinstance(prompt, str) else " ".join(map(str, prompt[:BEGINNING_CHARS]))
    return str(zlib.crc32(text[:BEGINNING_CHARS].encode("utf-8", "replace")) % NUM_BEGINNINGS)
