"""A `Backend` over any OpenAI-compatible chat endpoint: hosted models, or a remote `vllm serve`.

Requests wait in a heap, lowest priority first, and at most `max_inflight` are on the wire, one task each; a waiting
request costs no task. Invariant: every request submitted and not cancelled completes exactly once. Values are asked
for with a JSON-schema response format where the endpoint takes one: the first such request is the probe, the others
wait for it, and a refusal costs one call in the backend's life. Nothing here retries, or knows of dialogues.
"""

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from engine import openai_errors, values
from engine.backend import Completion, Failure, ReplicaGauges, Request, RequestKey
from engine.checkpoints import hosted_model
from engine.errors import InputError
from engine.openai_endpoint import OPENAI_HOST, OpenAIEndpoint
from engine.steps import Reply, Usage
from engine.swap import SwapPolicy, SwapReport, Target
from engine.token_count import bytes_count
from engine.transcript import one_line

CHAT: Final = "/chat/completions"
LIMIT: Final = "max_tokens"
OPENAI_LIMIT: Final = "max_completion_tokens"


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
    model: str | None = None
    system_fingerprint: str | None = None


class _Queued(NamedTuple):
    """A request in the heap; `number` breaks ties in order of submission, so requests are never compared."""

    priority: int
    number: int
    submitted_s: float
    request: Request


class OpenAIBackend:
    """One endpoint serving one model, as a pool of one replica called `name`.

    `api_key_env` names the environment variable with the key (None: the endpoint wants none). `max_context` in tokens
    defaults to what the endpoint states, if it does. `structured`: send response formats always (True), never (False)
    or as long as the endpoint takes them (None). Raises InputError for a bad URL or bound.
    """

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        model: str,
        api_key_env: str | None,
        max_inflight: int = 64,
        max_context: int | None = None,
        structured: bool | None = None,
    ) -> None:
        if max_inflight < 1:
            raise InputError(f"max_inflight must be at least 1, got {max_inflight}: set it to what the endpoint bears")
        self.name = name
        self.model = model
        self._configured = model
        # Episodes go on with the model that they began with.
        self._models: dict[str, str] = {}
        self.max_inflight = max_inflight
        self._endpoint = OpenAIEndpoint(
            base_url=base_url, model=model, api_key_env=api_key_env, max_connections=max_inflight
        )
        self._max_context = max_context
        self._is_structured = structured
        self._is_format_fixed = structured is not None
        self._limit_name = OPENAI_LIMIT if self._endpoint.host == OPENAI_HOST else LIMIT
        self._probe = asyncio.Lock()
        self._heap: list[_Queued] = []
        self._waiting: dict[RequestKey, int] = {}
        self._running: dict[RequestKey, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: deque[Completion] = deque()
        self._changed = asyncio.Event()
        self._broken: BaseException | None = None
        self._num_submitted = 0
        self._prompt_tokens = 0
        self._completion_tokens = 0
        self._cached_tokens = 0
        self._is_open = False

    @property
    def max_context(self) -> int | None:
        """The window given, else the one the endpoint states, else None."""
        return self._max_context

    async def start(self) -> None:
        """Reach the endpoint. Raises InputError (no key) and `BackendDown` (unreachable, key refused)."""
        window = await self._endpoint.open()
        self._max_context = self._max_context or window
        self._is_open = True

    async def submit(self, batch: Sequence[Request]) -> None:
        """Queue requests and send as many as there is room for."""
        if not self._is_open:
            raise RuntimeError(f"backend {self.name} must be started before use and not be closed: call start()")
        now_s = time.monotonic()
        for request in batch:
            if request.options is not None:
                self._reject(request.key)
                continue
            self._models.setdefault(request.episode, self.model)
            self._num_submitted += 1
            self._waiting[request.key] = self._num_submitted
            heapq.heappush(self._heap, _Queued(request.priority, self._num_submitted, now_s, request))
        self._fill()

    async def collect(self) -> list[Completion]:
        """Wait for completions; empty only once closed."""
        await self._changed.wait()
        self._changed.clear()
        if self._broken is not None:
            raise self._broken
        finished = list(self._done)
        self._done.clear()
        return finished

    async def cancel(self, keys: Sequence[RequestKey]) -> None:
        """End running calls and drop waiting or uncollected ones."""
        dropped = set(keys)
        for key in dropped:
            self._waiting.pop(key, None)
            task = self._running.pop(key, None)
            if task is not None:
                task.cancel()
        if self._done:
            self._done = deque(done for done in self._done if done.key not in dropped)

    async def forget(self, episode: str) -> None:
        """Let go of which model the episode is asked of: the endpoint keeps no dialogue."""
        self._models.pop(episode, None)

    async def swap(self, checkpoint: Path | None, policy: SwapPolicy, say: Callable[[str], None]) -> SwapReport:
        """Ask a hosted checkpoint from now on, None: the configured model. Nothing pauses.

        Under `mix` live episodes are asked of it too, else they keep what they began with. Raises CheckpointError.
        """
        before, self.model = self.model, self._configured if checkpoint is None else hosted_model(checkpoint)
        if policy == "mix":
            self._models = dict.fromkeys(self._models, self.model)
        say(f"{self.name}: asks {one_line(self.model)}")
        return SwapReport(policy=policy, target=Target(self.model), before=before, after=self.model, elapsed_s=0.0)

    def replicas(self) -> Sequence[ReplicaGauges]:
        """Return the gauges of the one replica; prefix figures count prompt tokens, as the endpoint reports them."""
        return [
            ReplicaGauges(
                self.name,
                state="ready" if self._is_open else "starting",
                running=len(self._running),
                waiting=len(self._waiting),
                slots=self.max_inflight,
                prefix_queries=self._prompt_tokens,
                prefix_hits=self._cached_tokens,
                prompt_tokens=self._prompt_tokens,
                completion_tokens=self._completion_tokens,
            )
        ]

    async def close(self) -> None:
        """Cancel every call and close the connections; a waiting `collect` returns."""
        self._is_open = False
        self._heap.clear()
        self._waiting.clear()
        self._running.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._endpoint.close()
        self._changed.set()

    def _reject(self, key: RequestKey) -> None:
        message = f"{self.name} must be served here to take these options, got an endpoint: ask that one itself"
        self._done.append(Completion(*key, failure=Failure("rejected", message)))
        self._changed.set()

    def _fill(self) -> None:
        """Send waiting requests, best first, while there is room; heap entries of cancelled ones are dropped."""
        # `_tasks` and not `_running` is the bound: a cancelled call holds its connection until its task has ended.
        while self._is_open and self._heap and len(self._tasks) < self.max_inflight:
            queued = heapq.heappop(self._heap)
            key = queued.request.key
            if self._waiting.get(key) != queued.number:
                continue
            del self._waiting[key]
            task = asyncio.create_task(self._serve(queued))
            self._running[key] = task
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
            self._changed.set()
        self._fill()

    async def _serve(self, queued: _Queued) -> None:
        request = queued.request
        outcome = await self._attempt(queued)
        if self._running.pop(request.key, None) is None:
            return
        reply, failure = (outcome, None) if isinstance(outcome, Reply) else (None, outcome)
        self._done.append(Completion(request.episode, request.path, request.attempt, reply, failure))
        self._changed.set()

    async def _attempt(self, queued: _Queued) -> Reply | Failure:
        try:
            async with asyncio.timeout(queued.request.timeout_s):
                body = await self._send(queued.request)
            return self._reply(queued, body)
        except TimeoutError:
            return openai_errors.timed_out(self._endpoint.about, queued.request.timeout_s)
        except Exception as error:  # noqa: BLE001 - failure_of re-raises whatever is not the endpoint's doing
            return openai_errors.failure_of(error, self._endpoint.about, time.time())

    async def _send(self, request: Request) -> bytes:
        """Send in the form the endpoint takes, finding that out with the first request that has a value."""
        if request.value is not None and self._is_structured is None:
            async with self._probe:
                if self._is_structured is None:
                    body = await self._send_structured(request)
                    if body is not None:
                        return body
        if request.value is not None and self._is_structured:
            body = await self._send_structured(request)
            if body is not None:
                return body
        return await self._post(request, is_structured=False)

    async def _send_structured(self, request: Request) -> bytes | None:
        """Send with a response format; None when the endpoint refuses formats, which is remembered."""
        from openai import BadRequestError, UnprocessableEntityError

        try:
            body = await self._post(request, is_structured=True)
        except (BadRequestError, UnprocessableEntityError) as refusal:
            if self._is_format_fixed or openai_errors.is_context_overflow(refusal):
                raise
            # Before anything was accepted any refusal counts: not every server names what it does not know.
            if self._is_structured is not None and not openai_errors.is_format_named(refusal):
                raise
            self._is_structured = False
            return None
        if self._is_structured is None:
            self._is_structured = True
        return body

    async def _post(self, request: Request, *, is_structured: bool) -> bytes:
        """Make one call; a model that wants its limit named `max_completion_tokens` is asked again, once for all."""
        from openai import BadRequestError

        try:
            return await self._call(request, is_structured)
        except BadRequestError as refusal:
            is_other_limit = OPENAI_LIMIT in openai_errors.said_by(refusal) and self._limit_name == LIMIT
            if not is_other_limit or openai_errors.is_context_overflow(refusal):
                raise
        self._limit_name = OPENAI_LIMIT
        return await self._call(request, is_structured)

    async def _call(self, request: Request, is_structured: bool) -> bytes:
        body: dict[str, Any] = {
            "model": self._models.get(request.episode, self.model),
            "messages": [{"role": m.role, "content": values.well_formed(m.text)} for m in request.messages],
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            self._limit_name: request.sampling.max_tokens,
        }
        if is_structured:
            body["response_format"] = _response_format(request)
        return await self._endpoint.post(CHAT, body, headers=_headers(request), timeout_s=request.timeout_s)

    def _reply(self, queued: _Queued, body: bytes) -> Reply:
        """Decode an answer. Raises msgspec.DecodeError; an answer without choices is malformed, not empty."""
        chat = msgspec.json.decode(body, type=_Chat)
        if not chat.choices:
            raise msgspec.ValidationError("`choices` must not be empty")
        choice = chat.choices[0]
        is_filtered = choice.finish_reason == "content_filter"
        text = "" if is_filtered else choice.message.content or ""
        usage = _usage(chat.usage, queued.request, text)
        self._prompt_tokens += usage.prompt_tokens
        self._completion_tokens += usage.completion_tokens
        self._cached_tokens += usage.cached_tokens
        latency_s = time.monotonic() - queued.submitted_s
        asked = self._models.get(queued.request.episode, self.model)
        return Reply(
            text,
            finish="length" if choice.finish_reason == "length" else "stop",
            usage=usage,
            model=chat.model or self.model,
            replica=self.name,
            # What was swapped in is told apart by its name: one fingerprint may stand for several models.
            weights=(chat.system_fingerprint or "") if asked == self._configured else asked,
            attempt=queued.request.attempt,
            started_at=time.time() - latency_s,
            latency_s=latency_s,
        )


def _headers(request: Request) -> dict[str, str]:
    """Name the request on the wire, percent-encoded: header values are ASCII, ids need not be."""
    named = {
        "Episode": request.episode,
        "Step": request.path,
        "Attempt": str(request.attempt),
        "Purpose": request.purpose,
    }
    return {f"X-Sandplay-{key}": quote(value, safe="/", errors="replace") for key, value in named.items()}


def _response_format(request: Request) -> dict[str, Any] | None:
    if request.value is None:
        return None
    # Length bounds are left out: hosted endpoints refuse them in strict schemas.
    schema = values.json_schema(request.value, is_bounded=False)
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _usage(stated: _Usage | None, request: Request, text: str) -> Usage:
    """Return the counts the endpoint states; what it leaves out is estimated as bytes / 4."""
    stated = stated or _Usage()
    details = stated.prompt_tokens_details or _Details()
    prompt = stated.prompt_tokens
    if prompt is None:
        prompt = sum(bytes_count(message.text) for message in request.messages)
    completion = bytes_count(text) if stated.completion_tokens is None else stated.completion_tokens
    return Usage(prompt, completion, details.cached_tokens or 0)
