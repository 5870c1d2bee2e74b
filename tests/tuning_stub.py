"""A stub of the OpenAI file and fine-tuning API: real HTTP on loopback, lists in small pages, faults on demand.

`with serve_tuning(...) as stub` runs it in a thread of its own. It counts what was really made, whatever was answered.
`SteppedClock` goes with it, so that nothing that waits for it takes time.
"""

import asyncio
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from aiohttp import web

PAGE = 2
UPLOAD = "POST /files"
CREATE = "POST /fine_tuning/jobs"
LIST_FILES = "GET /files"
LIST_JOBS = "GET /fine_tuning/jobs"
FILE = "GET /files/ID"
JOB = "GET /fine_tuning/jobs/ID"
EVENTS = "GET /fine_tuning/jobs/ID/events"


class SteppedClock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.at

    def time(self) -> float:
        return 1_700_000_000 + self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Fault:
    """What to do to one call. With `is_late` the call takes effect first: only its answer is lost."""

    status: int = 500
    message: str = "the stub was told to fail"
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: str | None = None
    is_late: bool = False


@dataclass
class TuningStub:
    """A running stub. A job takes one step along the `job_statuses` of its making whenever it is looked at, a file
    along `file_statuses`.
    """

    job_statuses: tuple[str, ...] = ("validating_files", "queued", "running", "succeeded")
    file_statuses: tuple[str | None, ...] = ("processed",)
    error: dict[str, Any] | None = None
    api_key: str | None = None
    keeps_metadata: bool = True
    num_steps: int = 3
    says: str = "Step {step}: training loss={loss}"
    base_url: str = ""
    calls: list[str] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    on: dict[tuple[str, str], Callable[[], None]] = field(default_factory=dict)
    """What is run once when a call has "arrived", or what it makes is "stored", before it is answered."""

    files: list[dict[str, Any]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def count(self, call: str) -> int:
        return self.calls.count(call)

    def fail(self, call: str, *faults: Fault) -> None:
        """Have the next calls of a kind fail, one fault each."""
        self.faults.setdefault(call, deque()).extend(faults)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**24)
        for call, handler in (
            ("GET /models", self._list_models),
            ("GET /models/{id}", self._model),
            (UPLOAD, self._upload),
            (CREATE, self._create),
            (LIST_FILES, self._list_files),
            (LIST_JOBS, self._list_jobs),
            ("GET /files/{id}", self._file),
            ("GET /fine_tuning/jobs/{id}", self._job),
            ("GET /fine_tuning/jobs/{id}/events", self._list_events),
        ):
            method, path = call.split()
            app.router.add_route(method, f"/v1{path}", self._wrapped(call.replace("{id}", "ID"), handler))
        return app

    def _wrapped(self, call: str, handler: Callable[[web.Request, Any], Any]) -> Any:
        async def handle(request: web.Request) -> web.Response:
            self.calls.append(call)
            self.queries.append(dict(request.query))
            if self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}":
                return _error(401, f"Incorrect API key provided: {request.headers.get('Authorization')}")
            body = await _body(request)
            self._run(call, "arrived")
            waiting = self.faults.get(call)
            fault = waiting.popleft() if waiting else None
            if fault is not None and not fault.is_late:
                return _faulty(fault)
            answer = handler(request, body)
            self._run(call, "stored")
            if fault is not None:
                return _faulty(fault)
            return _error(404, "No such thing") if answer is None else web.json_response(answer)

        return handle

    def _run(self, call: str, when: str) -> None:
        if then := self.on.pop((call, when), None):
            then()

    # ---------------------------------------------------------------- calls

    def _list_models(self, _: web.Request, __: Any) -> Any:
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in sorted(self.models)]}

    def _model(self, request: web.Request, _: Any) -> Any:
        name = request.match_info["id"]
        return {"id": name, "object": "model"} if name in self.models else None

    def _upload(self, _: web.Request, body: Any) -> Any:
        file = {
            "id": f"file-{len(self.files) + 1}",
            "object": "file",
            "created_at": len(self.files),
            "looks": 0,
            **body,
        }
        data = file.pop("data")
        self.contents[file["id"]] = data
        self.files.append({**file, "bytes": len(data)})
        return self._shown_file(self.files[-1])

    def _file(self, request: web.Request, _: Any) -> Any:
        file = _named(self.files, request)
        if file is not None:
            file["looks"] += 1
        return file and self._shown_file(file)

    def _list_files(self, request: web.Request, _: Any) -> Any:
        wanted = [self._shown_file(one) for one in self.files if one["purpose"] == request.query.get("purpose")]
        return _page(wanted, request)

    def _shown_file(self, file: dict[str, Any]) -> dict[str, Any]:
        status = self.file_statuses[min(file["looks"], len(self.file_statuses) - 1)]
        shown = {name: value for name, value in file.items() if name != "looks"}
        return shown if status is None else {**shown, "status": status, "status_details": None}

    def _create(self, _: web.Request, body: Any) -> Any:
        self.bodies.append(body)
        job = {
            "id": f"ftjob-{len(self.jobs) + 1}",
            "object": "fine_tuning.job",
            "created_at": len(self.jobs),
            "model": f"{body['model']}-2024-07-18",
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "metadata": body.get("metadata") if self.keeps_metadata else None,
            "suffix": body.get("suffix"),
            "looks": -1,
            "statuses": self.job_statuses,
        }
        self.jobs.append(job)
        self.events[job["id"]] = [_event(0, "Created fine-tuning job")]
        return self._shown_job(job)

    def _list_jobs(self, request: web.Request, _: Any) -> Any:
        return _page([self._shown_job(job) for job in reversed(self.jobs)], request)

    def _job(self, request: web.Request, _: Any) -> Any:
        job = _named(self.jobs, request)
        if job is None:
            return None
        job["looks"] += 1
        shown = self._shown_job(job)
        if shown["status"] == "running":
            self._train(job)
        return shown

    def _shown_job(self, job: dict[str, Any]) -> dict[str, Any]:
        status = job["statuses"][min(max(job["looks"], 0), len(job["statuses"]) - 1)]
        model = f"ft:{job['model']}:org:{job['suffix']}:{job['id']}" if status == "succeeded" else None
        if model is not None and job.get("is_shown") is None:
            job["is_shown"] = True
            self.models.add(model)
        error = self.error if status == "failed" else {"code": None, "message": None, "param": None}
        shown = {name: value for name, value in job.items() if name not in ("looks", "statuses", "is_shown")}
        tokens = 4321 if status == "succeeded" else None
        return {**shown, "status": status, "fine_tuned_model": model, "trained_tokens": tokens, "error": error}

    def _train(self, job: dict[str, Any]) -> None:
        """Add a metrics event for each step, the later ones of one second."""
        events = self.events[job["id"]]
        for step in range(1, self.num_steps + 1):
            loss = round(2 / step, 3)
            data = {"step": step, "train_loss": loss, "total_steps": self.num_steps}
            if step == self.num_steps:
                data["full_valid_loss"] = 0.75
            events.append(_event(len(events), self.says.format(step=step, loss=loss), data))

    def _list_events(self, request: web.Request, _: Any) -> Any:
        events = self.events.get(request.match_info["id"])
        return None if events is None else _page(list(reversed(events)), request)


def _event(number: int, message: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
    kind = "message" if data is None else "metrics"
    # Two events share a second: only the order of the list tells them apart.
    created_at = 1_700_000_000 + number // 2
    common = {"object": "fine_tuning.job.event", "id": f"ftevent-{number}", "created_at": created_at}
    return {**common, "level": "info", "message": message, "type": kind, "data": data}


def _named(things: list[dict[str, Any]], request: web.Request) -> dict[str, Any] | None:
    return next((one for one in things if one["id"] == request.match_info["id"]), None)


def _page(things: list[dict[str, Any]], request: web.Request) -> dict[str, Any]:
    after = request.query.get("after")
    start = next((place + 1 for place, one in enumerate(things) if one["id"] == after), 0)
    page = things[start : start + min(PAGE, int(request.query.get("limit", PAGE)))]
    return {"object": "list", "data": page, "has_more": start + len(page) < len(things)}


async def _body(request: web.Request) -> Any:
    if request.method == "GET":
        return None
    if request.content_type != "multipart/form-data":
        return await request.json()
    form = await request.post()
    file = form["file"]
    assert isinstance(file, web.FileField)
    with file.file as opened:
        return {"filename": file.filename, "purpose": form["purpose"], "data": opened.read()}


def _faulty(fault: Fault) -> web.Response:
    if fault.raw is not None:
        return web.Response(text=fault.raw, content_type="application/json")
    return _error(fault.status, fault.message, fault.code, fault.headers)


def _error(status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "stub_error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


S = TypeVar("S", bound=TuningStub)


@contextmanager
def serve_tuning(kind: type[S] = TuningStub, **settings: Any) -> Iterator[S]:  # type: ignore[assignment]
    """Run a stub in its own thread until the block ends."""
    stub = kind(**settings)
    loop = asyncio.new_event_loop()
    stop, ready = asyncio.Event(), threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_run(stub, ready, stop)), daemon=True)
    thread.start()
    if not ready.wait(20):
        raise TimeoutError("the stub did not start")
    try:
        with tempfile.TemporaryDirectory() as empty, pytest.MonkeyPatch.context() as patched:
            patched.delenv("SSL_CERT_FILE", raising=False)
            patched.setenv("SSL_CERT_DIR", empty)
            yield stub
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


async def _run(stub: TuningStub, ready: threading.Event, stop: asyncio.Event) -> None:
    runner = web.AppRunner(stub.app(), shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    stub.base_url = f"http://{host}:{port}/v1"
    ready.set()
    await stop.wait()
    await runner.cleanup()
