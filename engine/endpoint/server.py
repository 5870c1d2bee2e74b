"""The HTTP side of the endpoint: routes, the key, limits, and errors in OpenAI's form.

A bearer key is asked for on every path under /v1. What a client sends is bounded before it is read, and what it hung
up on is cancelled. Invariant: neither key nor prompt is ever written or logged.
"""

import hashlib
import hmac
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from aiohttp import web

from engine.backend import Failure, Request, RequestOptions
from engine.endpoint.answering import Heading, chat_answer, chunks, completion_answer
from engine.endpoint.desk import Desk, Full, Unanswered
from engine.endpoint.reading import quoted, read_chat, read_completion, read_format
from engine.endpoint.wire import (
    NO_LIMIT,
    Answer,
    Asked,
    ChatAsked,
    ChatMessage,
    CompletionAsked,
    ErrorBody,
    ErrorDetail,
    ModelBody,
    ModelsBody,
    Refusal,
)
from engine.errors import InputError
from engine.steps import Reply, Sampling
from engine.views import Message, MessageRole

MAX_BODY: Final = 16 << 20
"""Bytes of a request: some thousand prompts of a thousand tokens."""
MAX_TOKEN_CHARS: Final = 128
"""No text has longer tokens than this on average: one that must overflow the window is not tokenized to find out."""
RETRY_AFTER_S: Final = 2
IGNORED_HEADER: Final = "X-Sandplay-Ignored"
CLOSE_S: Final = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ENCODER: Final = msgspec.json.Encoder()
_STATUS: Final[dict[str, tuple[int, str, str | None]]] = {
    "rejected": (400, "invalid_request_error", None),
    "context_overflow": (400, "invalid_request_error", "context_length_exceeded"),
    "rate_limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "timeout": (504, "server_error", "timeout"),
    "unauthorized": (502, "server_error", None),
}
"""Failures as HTTP statuses; all others are 503: the replicas are at fault, and may be back soon."""


class Endpoint:
    """One served model. `names` are what clients may call it, the first is what answers say."""

    def __init__(self, desk: Desk, names: Sequence[str], key: str) -> None:
        self._desk = desk
        self._names = tuple(names)
        self._key = _digest(key)
        self._started_at = int(time.time())

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{name:.+}", self._model)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._complete)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Ask for the key, and turn everything that goes wrong into an error of the API."""
        try:
            if request.path != "/health":
                self._check_key(request)
            return await handler(request)
        except Refusal as refused:
            return _refused(refused)
        except Unanswered as failed:
            return _refused(_refusal_of(failed.failure))
        except Full:
            problem = f"at most {self._desk.max_open} replies may be under way, got more: come back later"
            return _refused(
                Refusal(problem, status=429, type="rate_limit_error", code="busy", retry_after_s=RETRY_AFTER_S)
            )
        except web.HTTPRequestEntityTooLarge:
            return _refused(Refusal(f"a body must be at most {MAX_BODY} bytes, got more: send less", status=413))
        except web.HTTPException as error:
            rule = "a request must name a path and method that exist here"
            found = f"{quoted(request.method)} {quoted(request.path)}"
            return _refused(Refusal(f"{rule}, got {found}: see /v1/models", status=error.status))

    def _check_key(self, request: web.Request) -> None:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        # Digests, so that neither content nor length can be told from the time that the comparison takes.
        if kind.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), self._key):
            problem = "a request must bring the endpoint's key as a bearer token, got none or another: set the API key"
            raise Refusal(problem, status=401, type="authentication_error", code="invalid_api_key")

    # ------------------------------------------------------------ what is served

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self._desk.is_ready else 503)

    async def _models(self, _: web.Request) -> web.Response:
        return _json(ModelsBody([self._described(name) for name in self._names]))

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self._check_model(name)
        return _json(self._described(name))

    def _described(self, name: str) -> ModelBody:
        return ModelBody(id=name, created=self._started_at, max_model_len=self._desk.max_context)

    def _check_model(self, name: str) -> None:
        if name and name not in self._names:
            problem = f"model must be one that is served, got {quoted(name)}: ask for {self._names[0]}"
            raise Refusal(problem, status=404, param="model", code="model_not_found")

    # ------------------------------------------------------------ replies

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked, ignored = read_chat(await request.read())
        self._check_model(asked.model)
        template = _chat_request(asked)
        heading = self._heading("chatcmpl")
        replies = await self._ask(heading, [template] * asked.n)
        return await self._send(request, asked, chat_answer(heading, replies, asked.top_logprobs), ignored)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked, ignored = read_completion(await request.read())
        self._check_model(asked.model)
        templates = [_raw_request(asked, prompt) for prompt in asked.prompts for _ in range(asked.n)]
        heading = self._heading("cmpl")
        replies = await self._ask(heading, templates)
        answer = completion_answer(heading, replies, asked.n, has_logprobs=asked.logprobs is not None)
        return await self._send(request, asked, answer, ignored)

    async def _ask(self, heading: Heading, templates: Sequence[Request]) -> list[Reply]:
        self._check_length(templates)
        limit = self._desk.max_open
        if len(templates) > limit:
            raise Refusal(f"a request must ask for at most {limit} replies, got {len(templates)}: split it")
        with self._desk.room(len(templates)):
            return await self._desk.ask_all(
                [
                    msgspec.structs.replace(template, episode=f"{heading.id}/{index}")
                    for index, template in enumerate(templates)
                ]
            )

    def _check_length(self, templates: Sequence[Request]) -> None:
        window, longest = self._desk.max_context, max(map(_least_tokens, templates))
        if window is not None and longest > window:
            problem = f"a prompt must fit the window of {window} tokens, got one of at least {longest}: shorten it"
            raise Refusal(problem, code="context_length_exceeded")

    def _heading(self, prefix: str) -> Heading:
        return Heading(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), self._names[0])

    @staticmethod
    async def _send(request: web.Request, asked: Asked, answer: Answer, ignored: Sequence[str]) -> web.StreamResponse:
        headers = {IGNORED_HEADER: ", ".join(sorted(ignored))} if ignored else {}
        if not asked.stream:
            return _json(answer, headers=headers)
        response = web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for chunk in chunks(answer, has_usage=asked.stream_options.include_usage):
            await response.write(chunk)
        await response.write_eof()
        return response


def _chat_request(asked: ChatAsked) -> Request:
    limit = asked.max_completion_tokens or asked.max_tokens
    options = RequestOptions(
        stop=asked.stops, num_tops=asked.top_logprobs if asked.logprobs else None, fills_window=limit is None
    )
    return Request(
        "", "reply", 0, "assistant", "chat", tuple(map(_message, asked.messages)),
        Sampling(limit or NO_LIMIT, asked.temperature, asked.top_p), read_format(asked.response_format),
        options=options if options != RequestOptions() else None,
    )  # fmt: skip


def _message(message: ChatMessage) -> Message:
    role: MessageRole = "system" if message.role == "developer" else message.role
    return Message(role, message.text)


def _raw_request(asked: CompletionAsked, prompt: str | tuple[int, ...]) -> Request:
    options = RequestOptions(prompt=prompt, stop=asked.stops, num_tops=asked.logprobs, is_echoed=asked.echo)
    sampling = Sampling(asked.max_tokens, asked.temperature, asked.top_p)
    return Request("", "reply", 0, "assistant", "completion", (), sampling, options=options)


def _least_tokens(request: Request) -> int:
    """Return how many tokens a prompt has at least."""
    prompt = request.options.prompt if request.options is not None else None
    if isinstance(prompt, tuple):
        return len(prompt)
    texts = (message.text for message in request.messages) if prompt is None else (prompt,)
    return sum(map(len, texts)) // MAX_TOKEN_CHARS


# ---------------------------------------------------------------- answers that are errors


def _refusal_of(failure: Failure) -> Refusal:
    status, kind, code = _STATUS.get(failure.kind, (503, "server_error", failure.kind))
    after_s = RETRY_AFTER_S if status in (429, 503) else None
    return Refusal(failure.message, status=status, type=kind, code=code, retry_after_s=after_s)


def _refused(refusal: Refusal) -> web.Response:
    detail = msgspec.structs.replace(refusal.detail, message=_one_line(refusal.detail))
    headers = {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s is not None else {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _json(ErrorBody(detail), status=refusal.status, headers=headers)


def _one_line(detail: ErrorDetail) -> str:
    return " ".join(detail.message.split())[:2000]


def _json(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=_ENCODER.encode(body), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


# ---------------------------------------------------------------- life


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, which refuses connections until it is served. Raises InputError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError) as error:
        rule = "the endpoint must be bound to a free address of this machine"
        raise InputError(f"{rule}, got {host}:{port}: {error}: choose another --port or --host") from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the base URL of a bound socket, as clients want it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


@asynccontextmanager
async def listening(endpoint: Endpoint, bound: socket.socket) -> AsyncIterator[None]:
    """Answer requests on a bound socket; replies under way in the end are cancelled."""
    # Requests go as soon as their client has: nothing is generated for nobody.
    runner = web.AppRunner(endpoint.app(), handler_cancellation=True, access_log=None, shutdown_timeout=CLOSE_S)
    await runner.setup()
    try:
        await web.SockSite(runner, bound).start()
        yield
    finally:
        await runner.cleanup()
