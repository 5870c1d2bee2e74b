"""A stub of the OpenAI chat and embedding API: real HTTP on loopback, answers by purpose, faults on demand.

In a test: `with serve(...) as stub`, which runs it in a thread of its own. As a process:
`python -m tests.stub --port 8001 --score 9 --embedding equal --log requests.jsonl`.
"""

import argparse
import asyncio
import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from aiohttp import web

NUM_DIMENSIONS = 4096
KEEP = "(the good answer)"
TEXTS = {
    "opening": "Hello. I have been feeling low for some weeks, and I am not sure where to start.",
    "therapist_turn": "Thank you for telling me. What goes through your mind when that happens?",
    "patient_turn": "Mostly I think that I am letting everybody down, so I stay at home.",
    "probe": "The patient believes that nothing they do is ever good enough.",
    "feedback": "Ask what the patient tells themselves just before they withdraw.",
    "diagnosis": "Major depressive disorder, with marked avoidance.",
    "review": "The picture fits a depressive episode of moderate severity.",
    "plan": "Weekly cognitive behavioral sessions with activity scheduling, because avoidance keeps the mood low.",
    "outcome": "After six weeks I go out more often and sleep better.",
}
FIELDS = {
    "treatment": "Cognitive behavioral therapy",
    "explain_t": "It addresses the beliefs that keep the avoidance going.",
    "medicine": "Sertraline",
    "explain_m": "It eases the low mood while therapy takes hold.",
}


@dataclass(frozen=True)
class Call:
    """One request as it arrived; header names are lower-case, Sandplay's own decoded."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def purpose(self) -> str:
        return self.sandplay("purpose")

    def sandplay(self, name: str) -> str:
        return unquote(self.headers.get(f"x-sandplay-{name}", ""))


@dataclass(frozen=True)
class Fault:
    """What to do to one chat or embedding call instead of, or before, answering it well."""

    status: int = 200
    message: str = "the stub was told to fail"
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang_up: bool = False
    cut: str | None = None
    """Begin an answer with this, and hang up in the middle of it."""

    raw: str | None = None
    content: str | None = KEEP
    finish: str | None = None
    usage: dict[str, Any] | None = None


Answer = Callable[[Call], str]
Embed = Callable[[str], list[float]]


@dataclass
class Stub:
    """A running stub: what it was asked, and the faults it still has to commit, one per call, oldest first."""

    answer: Answer
    embed: Embed
    api_key: str | None = None
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "stub", "object": "model"}])
    models_status: int = 200
    refuses_format: str | None = None
    log: IO[str] | None = None
    base_url: str = ""
    calls: list[Call] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    max_open: int = 0
    num_open: int = 0
    num_hung_up: int = 0
    _arrived: threading.Condition = field(default_factory=threading.Condition)
    _gate: threading.Event = field(default_factory=threading.Event)
    _opened: "asyncio.Event | None" = None
    _loop: "asyncio.AbstractEventLoop | None" = None
    _stop: "asyncio.Event | None" = None

    def stop(self) -> None:
        """End the thread that serves."""
        assert self._loop is not None and self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)

    @property
    def chats(self) -> list[Call]:
        return [call for call in self.calls if call.path.endswith("/chat/completions")]

    def hold(self) -> None:
        """Answer nothing more until `release`."""
        self._gate.set()

    def release(self) -> None:
        """Answer what was held."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._open_gate)

    def _open_gate(self) -> None:
        self._gate.clear()
        if self._opened is not None:
            self._opened.set()

    async def arrived(self, num_calls: int) -> None:
        """Wait until that many chat and embedding calls have arrived. Raises TimeoutError after 20 s."""
        if not await asyncio.to_thread(self._wait, lambda: len(self.calls) >= num_calls):
            raise TimeoutError(f"{len(self.calls)} calls arrived, not {num_calls}")

    async def hung_up(self, num_calls: int) -> None:
        """Wait until that many callers have gone before their answer. Raises TimeoutError after 20 s."""
        if not await asyncio.to_thread(self._wait, lambda: self.num_hung_up >= num_calls):
            raise TimeoutError(f"{self.num_hung_up} callers hung up, not {num_calls}")

    def _wait(self, condition: Callable[[], bool]) -> bool:
        with self._arrived:
            return self._arrived.wait_for(condition, timeout=20)

    def app(self) -> web.Application:
        """Build the web application; one per event loop."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        if self._is_refused(request):
            return _error(401, f"Incorrect API key provided: {request.headers.get('Authorization', '')}")
        if self.models_status != 200:
            return _error(self.models_status, "no models here")
        return web.json_response({"object": "list", "data": self.models})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._handle(request, self._chat_body)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        return await self._handle(request, self._embedding_body)

    async def _handle(
        self, request: web.Request, good: Callable[[Call, Fault | None], dict[str, Any]]
    ) -> web.StreamResponse:
        self.num_open += 1
        self.max_open = max(self.max_open, self.num_open)
        try:
            call = await self._record(request)
            fault = self.faults.popleft() if self.faults else None
            await self._hold(fault)
            if fault is not None and fault.hang_up:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            if fault is not None and fault.cut is not None:
                return await _begin(request, fault.cut)
            return self._respond(request, call, fault, good)
        except asyncio.CancelledError:
            with self._arrived:
                self.num_hung_up += 1
                self._arrived.notify_all()
            raise
        finally:
            self.num_open -= 1

    async def _hold(self, fault: Fault | None) -> None:
        if fault is not None and fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        while self._gate.is_set():
            if self._opened is None or self._opened.is_set():
                self._opened = asyncio.Event()
            await self._opened.wait()

    def _respond(
        self,
        request: web.Request,
        call: Call,
        fault: Fault | None,
        good: Callable[[Call, Fault | None], dict[str, Any]],
    ) -> web.StreamResponse:
        if self._is_refused(request):
            return _error(401, f"Incorrect API key provided: {request.headers.get('Authorization', '')}")
        if fault is not None and fault.status != 200:
            return _error(fault.status, fault.message, fault.code, fault.headers)
        if fault is not None and fault.raw is not None:
            return web.Response(text=fault.raw, content_type="application/json")
        if self.refuses_format is not None and "response_format" in call.body:
            return _error(400, self.refuses_format)
        return web.json_response(good(call, fault))

    async def _record(self, request: web.Request) -> Call:
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.path, headers, await request.json())
        if self.log is not None:
            named = {name: call.sandplay(name) for name in ("episode", "step", "attempt", "purpose")}
            self.log.write(json.dumps({"path": call.path, **named, "headers": headers, "body": call.body}) + "\n")
            self.log.flush()
        with self._arrived:
            self.calls.append(call)
            self._arrived.notify_all()
        return call

    def _is_refused(self, request: web.Request) -> bool:
        return self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}"

    def _chat_body(self, call: Call, fault: Fault | None) -> dict[str, Any]:
        content = fault.content if fault is not None and fault.content != KEEP else self.answer(call)
        prompt = sum(len(message["content"]) for message in call.body["messages"]) // 4
        usage = {"prompt_tokens": prompt, "completion_tokens": max(1, len(content or "") // 4)}
        return {
            "id": "chatcmpl-stub",
            "object": "chat.completion",
            "created": 0,
            "model": call.body["model"],
            "system_fingerprint": "fp_stub",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": (fault and fault.finish) or "stop",
                }
            ],
            "usage": fault.usage if fault is not None and fault.usage is not None else usage,
        }

    def _embedding_body(self, call: Call, fault: Fault | None) -> dict[str, Any]:
        texts = call.body["input"]
        data = [
            {"object": "embedding", "index": index, "embedding": self.embed(text)} for index, text in enumerate(texts)
        ]
        return {"object": "list", "model": call.body["model"], "data": data, "usage": {"prompt_tokens": len(texts)}}


async def _begin(request: web.Request, text: str) -> web.StreamResponse:
    """Send the beginning of an answer that was to be longer, and hang up."""
    response = web.StreamResponse()
    response.content_type, response.content_length = "application/json", len(text.encode()) + 1000
    await response.prepare(request)
    await response.write(text.encode())
    assert request.transport is not None
    request.transport.abort()
    return response


def _error(status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "stub_error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


def answer_by_purpose(score: int = 9) -> Answer:
    """Answer every purpose of the shipped protocols well; anything else politely."""
    values = {"principle_choice": "2", "verdict": "1", "score": str(score), "extract": json.dumps(FIELDS)}
    return lambda call: values.get(call.purpose) or TEXTS.get(call.purpose, "I see. Please go on.")


def embed_equal(_: str) -> list[float]:
    """Give every text one vector."""
    return [0.6, 0.8, 0.0]


def embed_orthogonal() -> Embed:
    """Give every distinct text a basis vector of its own, in order of appearance."""
    seen: dict[str, int] = {}

    def embed(text: str) -> list[float]:
        place = seen.setdefault(text, len(seen)) % NUM_DIMENSIONS
        return [1.0 if index == place else 0.0 for index in range(NUM_DIMENSIONS)]

    return embed


@contextmanager
def serve(
    answer: Answer | None = None,
    *,
    embed: Embed | None = None,
    faults: Iterable[Fault] = (),
    score: int = 9,
    **settings: Any,
) -> Iterator[Stub]:
    """Run a stub in its own thread until the block ends."""
    stub = Stub(answer or answer_by_purpose(score), embed or embed_equal, faults=deque(faults), **settings)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_run(stub, ready)), daemon=True)
    thread.start()
    if not ready.wait(20):
        raise TimeoutError("the stub did not start")
    try:
        yield stub
    finally:
        stub.stop()
        thread.join(20)


async def _run(stub: Stub, ready: threading.Event) -> None:
    stub._loop = asyncio.get_running_loop()
    stub._opened = asyncio.Event()
    stop = stub._stop = asyncio.Event()
    runner = web.AppRunner(stub.app(), handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    host, port = runner.addresses[0][:2]
    stub.base_url = f"http://{host}:{port}/v1"
    ready.set()
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    """Run the stub as a process until it is told to end."""
    parser = argparse.ArgumentParser(description="an OpenAI-compatible stub on loopback")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--score", type=int, default=9)
    parser.add_argument("--embedding", choices=("equal", "orthogonal"), default="equal")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    log = options.log.open("a", encoding="utf-8") if options.log else None
    embed = embed_equal if options.embedding == "equal" else embed_orthogonal()
    stub = Stub(answer_by_purpose(options.score), embed, log=log)

    def announce(_: str) -> None:
        sys.stdout.write(f"http://127.0.0.1:{options.port}/v1\n")
        sys.stdout.flush()

    web.run_app(
        stub.app(),
        host="127.0.0.1",
        port=options.port,
        print=announce,
        access_log=None,
        backlog=4096,
        handler_cancellation=True,
        shutdown_timeout=0.1,
    )


if __name__ == "__main__":
    main()
