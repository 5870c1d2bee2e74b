"""Scripted backends: answers from a list, an iterator or a function; for tests of protocols and of the engine itself.

Every request completes exactly once, at once by default. Held, requests stay open until released one by one, so a
race is stepped instead of slept for. Answers are drawn when a request is submitted, in that order. Nothing here knows
of models, clocks or the network, and no task is made for a request unless its answer has to be awaited.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from engine.backend import Completion, Failure, ReplicaGauges, Request, RequestKey
from engine.errors import BackendDown
from engine.steps import Reply, Usage

Answer: TypeAlias = str | Reply | Failure
AnswerFunction: TypeAlias = Callable[[Request], Answer | Awaitable[Answer]]
Script: TypeAlias = Answer | Iterable[Answer] | AnswerFunction

MODEL: Final = "scripted"


class _Replica:
    """Counters of one scripted replica."""

    __slots__ = ("completion_tokens", "is_lost", "name", "prompt_tokens", "restarts", "running")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_lost = False
        self.running = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.restarts = 0


class ScriptedBackend:
    """A `Backend` that answers from a script.

    `answers` is one answer for everything, a sequence or iterator of answers (one per request; when it ends, requests
    are `rejected`), or a function of the request, async or not. A `Failure` fails the attempt. `requests` records all
    that was submitted, `forgotten` the episodes announced as ended. Start with `is_held`, or call `hold`, to step.
    """

    def __init__(
        self,
        answers: Script,
        *,
        replicas: int = 1,
        max_context: int | None = None,
        is_held: bool = False,
        slots: int = 64,
        kv_tokens: int | None = None,
        weights: str = "scripted-0",
    ) -> None:
        self.requests: list[Request] = []
        self.forgotten: list[str] = []
        self.weights = weights
        self._answer = _answer_function(answers)
        self._max_context = max_context
        self._is_held = is_held
        self._slots = slots
        self._kv_tokens = kv_tokens
        self._replicas = {name: _Replica(name) for name in (f"replica-{n}" for n in range(replicas))}
        self._live = list(self._replicas.values())
        self._turn = 0
        self._open: dict[RequestKey, tuple[Request, _Replica, Answer]] = {}
        self._awaiting: dict[RequestKey, asyncio.Future[Answer]] = {}
        self._done: deque[Completion] = deque()
        self._changed = asyncio.Event()
        self._arrived = asyncio.Condition()
        self._broken: BaseException | None = None

    @property
    def max_context(self) -> int | None:
        """The context length given at construction."""
        return self._max_context

    @property
    def open_keys(self) -> tuple[RequestKey, ...]:
        """Keys of the requests held back, oldest first."""
        return tuple(self._open)

    async def start(self) -> None:
        """Do nothing: a script is always up."""

    async def submit(self, batch: Sequence[Request]) -> None:
        """Take requests and draw their answers; an exception of the answering function is raised here."""
        for request in batch:
            self.requests.append(request)
            self._take(request)
        async with self._arrived:
            self._arrived.notify_all()

    async def collect(self) -> list[Completion]:
        """Wait for completions or a change of replicas. Raises `BackendDown` once every replica is lost."""
        if not self._live and not self._done:
            raise BackendDown("every scripted replica was killed: call revive_replica")
        await self._changed.wait()
        # One pass of the loop lets submissions of the same tick share the batch, and never starves other tasks.
        await asyncio.sleep(0)
        self._changed.clear()
        if self._broken is not None:
            raise self._broken
        finished = list(self._done)
        self._done.clear()
        return finished

    async def cancel(self, keys: Sequence[RequestKey]) -> None:
        """Drop requests that are open or not yet collected."""
        dropped = set(keys)
        for key in keys:
            self._forget_open(key)
            future = self._awaiting.pop(key, None)
            if future is not None:
                future.cancel()
        if self._done:
            self._done = deque(done for done in self._done if done.key not in dropped)

    async def forget(self, episode: str) -> None:
        """Record that an episode has ended."""
        self.forgotten.append(episode)

    def replicas(self) -> Sequence[ReplicaGauges]:
        """Return the gauges of all replicas, lost ones included."""
        return [self._gauges(replica) for replica in self._replicas.values()]

    async def close(self) -> None:
        """Cancel answers that are still awaited; a waiting `collect` returns."""
        futures = list(self._awaiting.values())
        self._awaiting.clear()
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)
        self._changed.set()

    def hold(self) -> None:
        """Keep requests submitted from now on open until they are released."""
        self._is_held = True

    def release(self, key: RequestKey, answer: Answer | None = None) -> None:
        """Complete one held request, with `answer` instead of the scripted one if given.

        Raises KeyError when no such request is held.
        """
        request, replica, scripted = self._open[key]
        self._forget_open(key)
        self._finish(request, replica, scripted if answer is None else answer)

    def release_all(self) -> None:
        """Complete every held request and hold no more."""
        self._is_held = False
        for key in self.open_keys:
            self.release(key)

    async def arrived(self, num_requests: int) -> None:
        """Wait until `num_requests` requests have been submitted since construction."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= num_requests)

    def kill_replica(self, name: str) -> None:
        """Lose a replica: its open requests fail with `replica_lost`. Raises KeyError for an unknown name."""
        replica = self._replicas[name]
        replica.is_lost = True
        self._live = [other for other in self._live if other is not replica]
        for key, (request, holder, _) in list(self._open.items()):
            if holder is replica:
                self._forget_open(key)
                self._finish(request, replica, _lost(name))
        self._changed.set()

    def revive_replica(self, name: str) -> None:
        """Bring a lost replica back; `restarts` of its gauges grows by one."""
        replica = self._replicas[name]
        if replica.is_lost:
            replica.is_lost = False
            replica.restarts += 1
            self._live = [other for other in self._replicas.values() if not other.is_lost]
        self._changed.set()

    def _take(self, request: Request) -> None:
        answer = self._answer(request)
        replica = self._route(request)
        if not isinstance(answer, str | Reply | Failure):
            self._await(request, replica, answer)
        elif replica.is_lost:
            self._finish(request, replica, _lost(replica.name))
        elif self._is_held:
            self._open[request.key] = (request, replica, answer)
            replica.running += 1
        else:
            self._finish(request, replica, answer)

    def _route(self, request: Request) -> _Replica:
        """Return the replica asked for, or the next live one in turn."""
        if request.replica:
            return self._replicas[request.replica]
        if not self._live:
            return next(iter(self._replicas.values()))
        self._turn += 1
        return self._live[self._turn % len(self._live)]

    def _await(self, request: Request, replica: _Replica, answer: Awaitable[Answer]) -> None:
        future = asyncio.ensure_future(answer)
        self._awaiting[request.key] = future
        future.add_done_callback(lambda done: self._awaited(request, replica, done))

    def _awaited(self, request: Request, replica: _Replica, future: "asyncio.Future[Answer]") -> None:
        if future.cancelled() or self._awaiting.pop(request.key, None) is None:
            return
        error = future.exception()
        if error is not None:
            self._broken = error
            self._changed.set()
        elif self._is_held and not replica.is_lost:
            self._open[request.key] = (request, replica, future.result())
            replica.running += 1
        else:
            self._finish(request, replica, _lost(replica.name) if replica.is_lost else future.result())

    def _forget_open(self, key: RequestKey) -> None:
        held = self._open.pop(key, None)
        if held is not None:
            held[1].running -= 1

    def _finish(self, request: Request, replica: _Replica, answer: Answer) -> None:
        if isinstance(answer, Failure):
            done = Completion(request.episode, request.path, request.attempt, failure=answer)
        else:
            reply = self._reply(request, replica, answer)
            replica.prompt_tokens += reply.usage.prompt_tokens
            replica.completion_tokens += reply.usage.completion_tokens
            done = Completion(request.episode, request.path, request.attempt, reply)
        self._done.append(done)
        self._changed.set()

    def _reply(self, request: Request, replica: _Replica, answer: str | Reply) -> Reply:
        """Complete an answer with the figures a served model would report."""
        if isinstance(answer, str):
            answer = Reply(answer)
        return msgspec.structs.replace(
            answer,
            usage=answer.usage if answer.usage != Usage() else _usage(request, answer.text),
            model=answer.model or MODEL,
            replica=replica.name,
            weights=answer.weights or self.weights,
            attempt=request.attempt,
        )

    def _gauges(self, replica: _Replica) -> ReplicaGauges:
        return ReplicaGauges(
            replica.name,
            state="lost" if replica.is_lost else "ready",
            running=replica.running,
            slots=self._slots,
            kv_tokens=self._kv_tokens,
            prompt_tokens=replica.prompt_tokens,
            completion_tokens=replica.completion_tokens,
            weights=self.weights,
            restarts=replica.restarts,
        )


class ScriptedEmbedder:
    """An `Embedder` with one similarity for all pairs, or a function of the two texts; `pairs` records all asked."""

    def __init__(self, similarity: float | Callable[[str, str], float], *, identity: str = MODEL) -> None:
        self.pairs: list[tuple[str, str]] = []
        self._similarity = similarity
        self._identity = identity

    @property
    def identity(self) -> str:
        """The name given at construction."""
        return self._identity

    async def start(self) -> None:
        """Do nothing: a script is always up."""

    async def similarities(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, ...]:
        """Return the scripted similarity of each pair; the function may raise `EmbeddingFailed`."""
        self.pairs.extend(pairs)
        similarity = self._similarity
        if callable(similarity):
            return tuple(similarity(one, other) for one, other in pairs)
        return (similarity,) * len(pairs)

    async def close(self) -> None:
        """Do nothing: nothing was started."""


def _answer_function(script: Script) -> AnswerFunction:
    """Turn any form of script into a function of the request."""
    if isinstance(script, str | Reply | Failure):
        constant: Answer = script
        return lambda _: constant
    if callable(script):
        return script
    answers: Iterator[Answer] = iter(script)
    ended = Failure("rejected", "the script must answer every request, got more requests than answers: add answers")
    return lambda _: next(answers, ended)


def _usage(request: Request, text: str) -> Usage:
    """Estimate tokens as bytes / 4."""
    prompt = sum(_num_bytes(message.text) for message in request.messages)
    return Usage(max(1, prompt // 4), max(1, _num_bytes(text) // 4))


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _lost(name: str) -> Failure:
    return Failure("replica_lost", f"replica {name} was killed by the script")
