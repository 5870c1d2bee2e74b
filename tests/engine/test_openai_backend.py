"""The OpenAI backend against a real HTTP stub."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.backend import Backend, Completion, Failure, Request
from engine.errors import BackendDown, InputError
from engine.openai_backend import OpenAIBackend
from engine.steps import Choice, Fields, Reply, Sampling, Usage, ValueSchema
from engine.views import Message
from tests.stub import Fault, Stub, serve

SCORE = Choice(("1", "2", "3"))
SECRET = "sk-test-0123456789"


def make_request(
    path: str = "talk/0", *, value: ValueSchema | None = None, purpose: str = "patient_turn", **changes: Any
) -> Request:
    messages = (Message("system", "You are a patient."), Message("user", "Grüß Gott, how are you?"))
    request = Request("e1", path, 0, "patient", purpose, messages, Sampling(50, 0.5, 0.9), value)
    return msgspec.structs.replace(request, **changes)


@asynccontextmanager
async def started(stub: Stub, **settings: Any) -> AsyncIterator[OpenAIBackend]:
    backend = OpenAIBackend(
        **{"name": "hosted", "base_url": stub.base_url, "model": "stub", "api_key_env": None, **settings}
    )
    await backend.start()
    try:
        yield backend
    finally:
        await backend.close()


async def play(backend: Backend, requests: Sequence[Request]) -> list[Completion]:
    await backend.submit(requests)
    done: list[Completion] = []
    while len(done) < len(requests):
        done += await backend.collect()
    return done


async def play_one(backend: Backend, request: Request) -> Reply:
    (done,) = await play(backend, [request])
    assert done.reply is not None, done.failure
    return done.reply


async def fail_one(backend: Backend, request: Request) -> Failure:
    (done,) = await play(backend, [request])
    assert done.failure is not None and done.reply is None
    return done.failure


async def test_a_request_and_its_reply() -> None:
    with serve() as stub:
        async with started(stub) as backend:
            reply = await play_one(backend, make_request("decode/1/prüfung 3", episode="e/ä"))
            gauges = backend.replicas()[0]
    call = stub.chats[0]
    assert call.body["messages"][1] == {"role": "user", "content": "Grüß Gott, how are you?"}
    assert (call.body["max_tokens"], call.body["temperature"], call.body["top_p"]) == (50, 0.5, 0.9)
    assert "response_format" not in call.body and "seed" not in call.body
    assert call.headers["x-sandplay-step"] == "decode/1/pr%C3%BCfung%203"
    assert [call.sandplay(name) for name in ("episode", "step", "attempt", "purpose")] == [
        *("e/ä", "decode/1/prüfung 3", "0", "patient_turn"),
    ]
    assert reply.text.startswith("Mostly") and reply.finish == "stop"
    assert (reply.model, reply.weights, reply.replica) == ("stub", "fp_stub", "hosted")
    assert reply.usage.prompt_tokens > 5 and reply.latency_s > 0 and reply.started_at > 1e9
    assert (gauges.prompt_tokens, gauges.completion_tokens) == (
        reply.usage.prompt_tokens,
        reply.usage.completion_tokens,
    )


async def test_key_is_sent_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    with serve(api_key=SECRET) as stub:
        async with started(stub, api_key_env="STUB_KEY") as backend:
            await play_one(backend, make_request())
    with serve() as stub:
        async with started(stub) as backend:
            await play_one(backend, make_request())
    assert stub.chats[0].headers["authorization"] == "Bearer unused"


async def test_a_refused_key_is_backend_down_and_stays_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", SECRET)
    with serve() as stub:
        async with started(stub, api_key_env="STUB_KEY") as backend:
            stub.api_key = "another"
            failure = await fail_one(backend, make_request())
        assert failure.kind == "unauthorized" and "STUB_KEY" in failure.message
        assert SECRET not in failure.message and "***" in failure.message
        with pytest.raises(BackendDown, match="STUB_KEY") as caught:
            async with started(stub, api_key_env="STUB_KEY"):
                pass
        assert SECRET not in str(caught.value)


async def test_bad_settings_are_input_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STUB_KEY", raising=False)
    with serve() as stub, pytest.raises(InputError, match="STUB_KEY"):
        async with started(stub, api_key_env="STUB_KEY"):
            pass
    with pytest.raises(InputError, match="got 'localhost:1'"):
        OpenAIBackend(name="x", base_url="localhost:1", model="m", api_key_env=None)
    with pytest.raises(InputError, match="no credentials") as caught:
        OpenAIBackend(name="x", base_url="http://user:pw@localhost/v1", model="m", api_key_env=None)
    assert "pw" not in str(caught.value)
    with pytest.raises(InputError, match="port below 65536"):
        OpenAIBackend(name="x", base_url="http://localhost:99999/v1", model="m", api_key_env=None)
    with pytest.raises(InputError, match="got 0"):
        OpenAIBackend(name="x", base_url="http://localhost:1", model="m", api_key_env=None, max_inflight=0)


async def test_an_unreachable_endpoint_is_backend_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    backend = OpenAIBackend(name="x", base_url=f"http://127.0.0.1:{port}/v1", model="m", api_key_env=None)
    with pytest.raises(BackendDown, match=f"http://127.0.0.1:{port}/v1 must be reachable, got .*onnect"):
        await backend.start()
    with pytest.raises(RuntimeError, match="must be started"):
        await backend.submit([make_request()])
    await backend.close()


async def test_any_other_answer_to_the_preflight_is_fine() -> None:
    for settings in ({"models_status": 404}, {"models_status": 500}, {"models": ["nonsense"]}):
        with serve(**settings) as stub:
            async with started(stub) as backend:
                assert backend.max_context is None


async def test_the_window_an_endpoint_states_is_taken() -> None:
    with serve(models=[{"id": "other"}, {"id": "stub", "max_model_len": 2048}]) as stub:
        async with started(stub) as backend:
            assert backend.max_context == 2048
        async with started(stub, max_context=512) as backend:
            assert backend.max_context == 512


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (Fault(403), "unauthorized", "403"),
        (Fault(404), "rejected", "check base_url and model"),
        (Fault(400), "rejected", "told to fail"),
        (Fault(418), "rejected", "418"),
        (Fault(408), "server_error", "408"),
        (Fault(409), "server_error", "409"),
        (Fault(500), "server_error", "500"),
        (Fault(400, code="context_length_exceeded"), "context_overflow", "serve a longer context"),
        (Fault(400, "This model's maximum context length is 9 tokens"), "context_overflow", "9 tokens"),
        (Fault(429, code="insufficient_quota"), "rate_limited", "quota"),
        (Fault(raw="{"), "server_error", "malformed"),
        (Fault(raw="[]"), "server_error", "malformed"),
        (Fault(raw='{"choices": []}'), "server_error", "malformed"),
        (Fault(raw='{"choices": [{"message": {"content": 7}}]}'), "server_error", "malformed"),
        (Fault(content="a\ud800b"), "server_error", "malformed"),
        (Fault(hang_up=True), "connection", "broke the connection"),
        (Fault(500, "x\x1b[31m <|im_end|>\n" + "y" * 5000), "server_error", "x[31m < |im_end|> yyy"),
    ],
)
async def test_faults_become_failures(fault: Fault, kind: str, said: str) -> None:
    with serve(faults=[fault]) as stub:
        async with started(stub) as backend:
            failure = await fail_one(backend, make_request())
            assert failure.kind == kind and said in failure.message and stub.base_url in failure.message
            assert len(failure.message) < 600 and failure.message.isprintable()
            assert (await play_one(backend, make_request(attempt=1))).attempt == 1
    assert len(stub.chats) == 2, "a backend never retries"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": formatdate(0, usegmt=True)}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(status: int, headers: dict[str, str], expected: float | None) -> None:
    with serve(faults=[Fault(status, headers=headers)]) as stub:
        async with started(stub) as backend:
            failure = await fail_one(backend, make_request())
    assert failure.kind == ("rate_limited" if status == 429 else "server_error")
    assert failure.retry_after_s == expected


async def test_a_slow_answer_is_a_timeout() -> None:
    with serve() as stub:
        async with started(stub) as backend:
            stub.hold()
            failure = await fail_one(backend, make_request(timeout_s=0.05))
            await stub.hung_up(1)
            stub.release()
    assert failure.kind == "timeout" and "0.05 s" in failure.message


async def test_odd_replies() -> None:
    odd = [
        Fault(content=None),
        Fault(content="forbidden", finish="content_filter"),
        Fault(content="half", finish="length"),
        Fault(content="a b", usage={}),
        Fault(usage={"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}),
    ]
    with serve(faults=odd) as stub:
        async with started(stub) as backend:
            replies = [await play_one(backend, make_request(f"talk/{n}")) for n in range(len(odd))]
    assert [(reply.text, reply.finish) for reply in replies[:4]] == [
        *(("", "stop"), ("", "stop"), ("half", "length"), ("a b", "stop")),
    ]
    assert replies[3].usage == Usage(12, 1)
    assert replies[4].usage == Usage(9, 3, 4)


async def test_values_ask_for_a_format() -> None:
    with serve() as stub:
        async with started(stub) as backend:
            await play(backend, [make_request(f"s/{n}", value=SCORE, purpose="score") for n in range(5)])
            await play_one(backend, make_request("x", value=Fields(("a", "b"))))
    formats = [call.body["response_format"]["json_schema"] for call in stub.chats]
    assert len(stub.chats) == 6 and all(form["strict"] for form in formats)
    assert formats[0]["schema"]["properties"]["value"]["enum"] == ["1", "2", "3"]
    assert list(formats[5]["schema"]["properties"]) == ["a", "b"]


@pytest.mark.parametrize("refusal", ["response_format is not supported here", "bad request"])
async def test_a_refused_format_costs_one_call(refusal: str) -> None:
    with serve(refuses_format=refusal) as stub:
        async with started(stub) as backend:
            done = await play(backend, [make_request(f"s/{n}", value=SCORE) for n in range(20)])
            done += await play(backend, [make_request("s/20", value=SCORE)])
    assert all(completion.reply for completion in done)
    assert len(stub.chats) == 22
    assert sum("response_format" in call.body for call in stub.chats) == 1


async def test_an_inconclusive_probe_is_tried_again() -> None:
    faults = [Fault(500), Fault(429), Fault(400, code="context_length_exceeded")]
    with serve(faults=faults) as stub:
        async with started(stub) as backend:
            done = await play(backend, [make_request(f"s/{n}", value=SCORE) for n in range(5)])
    assert sorted(c.failure.kind for c in done if c.failure) == ["context_overflow", "rate_limited", "server_error"]
    assert all("response_format" in call.body for call in stub.chats) and len(stub.chats) == 5


async def test_formats_may_be_fixed() -> None:
    with serve(refuses_format="response_format") as stub:
        async with started(stub, structured=False) as backend:
            await play_one(backend, make_request(value=SCORE))
        async with started(stub, structured=True) as backend:
            assert (await fail_one(backend, make_request(value=SCORE))).kind == "rejected"
    assert ["response_format" in call.body for call in stub.chats] == [False, True]


async def test_a_model_may_want_its_limit_named_otherwise() -> None:
    unsupported = Fault(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    with serve(faults=[unsupported]) as stub:
        async with started(stub) as backend:
            await play_one(backend, make_request("a", value=SCORE))
            await play_one(backend, make_request("b", value=SCORE))
    assert [call.body.get("max_completion_tokens") for call in stub.chats] == [None, 50, 50]
    assert "max_tokens" not in stub.chats[2].body and "response_format" in stub.chats[2].body


async def test_the_best_priority_goes_first() -> None:
    with serve() as stub:
        async with started(stub, max_inflight=1) as backend:
            stub.hold()
            await backend.submit([make_request("first")])
            await stub.arrived(1)
            await backend.submit([make_request(f"p/{n}", priority=n) for n in (3, 1, -2, 2, 0, -1)])
            gauges = backend.replicas()[0]
            assert (gauges.running, gauges.waiting, gauges.slots) == (1, 6, 1)
            stub.release()
            done: list[Completion] = []
            while len(done) < 7:
                done += await backend.collect()
    assert [call.sandplay("step") for call in stub.chats[1:]] == ["p/-2", "p/-1", "p/0", "p/1", "p/2", "p/3"]


async def test_calls_on_the_wire_are_bounded() -> None:
    with serve() as stub:
        async with started(stub, max_inflight=3) as backend:
            await play(backend, [make_request(f"s/{n}") for n in range(30)])
    assert 1 <= stub.max_open <= 3 and len(stub.chats) == 30


async def test_cancelled_calls_end_and_are_not_reported() -> None:
    with serve() as stub:
        async with started(stub, max_inflight=1) as backend:
            stub.hold()
            running, waiting, kept = (make_request(name) for name in ("running", "waiting", "kept"))
            await backend.submit([running, waiting, kept])
            await stub.arrived(1)
            await backend.cancel([running.key, waiting.key, ("unknown", "", 0)])
            await stub.hung_up(1)
            await stub.arrived(2)
            stub.release()
            assert [c.path for c in await backend.collect()] == ["kept"]
            await backend.submit([make_request("last")])
            assert [c.path for c in await backend.collect()] == ["last"]
    assert [call.sandplay("step") for call in stub.chats] == ["running", "kept", "last"]


async def test_a_cancelled_probe_lets_the_next_one_probe() -> None:
    with serve() as stub:
        async with started(stub) as backend:
            stub.hold()
            await backend.submit([make_request("a", value=SCORE), make_request("b", value=SCORE)])
            await stub.arrived(1)
            await backend.cancel([make_request("a").key])
            await stub.arrived(2)
            stub.release()
            assert [c.path for c in await backend.collect()] == ["b"]


async def test_close_ends_calls_and_wakes_the_collector() -> None:
    with serve() as stub:
        async with started(stub) as backend:
            stub.hold()
            await backend.submit([make_request(f"s/{n}") for n in range(3)])
            await stub.arrived(3)
            collector = asyncio.ensure_future(backend.collect())
            await asyncio.sleep(0)
            await backend.close()
            assert await collector == []
            await stub.hung_up(3)
            await backend.close()
            with pytest.raises(RuntimeError, match="must be started"):
                await backend.submit([make_request()])
            stub.release()


async def test_a_thousand_calls_at_once() -> None:
    with serve() as stub:
        async with started(stub, max_inflight=1000) as backend:
            stub.hold()
            await backend.submit([make_request(f"s/{n}") for n in range(1000)])
            await stub.arrived(1000)
            stub.release()
            done: list[Completion] = []
            while len(done) < 1000:
                done += await backend.collect()
    assert stub.max_open == 1000
    assert len({c.key for c in done}) == 1000 and all(c.reply for c in done)


async def test_the_package_is_imported_late() -> None:
    code = "import sys, engine.openai_backend, engine.openai_embedder; sys.exit('openai' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_the_stub_runs_as_a_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    log = tmp_path / "log.jsonl"
    command = ("-m", "tests.stub", "--port", str(port), "--score", "7", "--embedding", "orthogonal", "--log", str(log))
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        stub_url = (await process.stdout.readline()).decode().strip()
        backend = OpenAIBackend(name="x", base_url=stub_url, model="m", api_key_env=None)
        await backend.start()
        reply = await play_one(backend, make_request("score", purpose="score", value=SCORE))
        await backend.close()
    finally:
        process.terminate()
        assert await process.wait() in (0, -15)
    assert reply.text == "7"
    logged = json.loads(log.read_text())
    assert (logged["step"], logged["purpose"], logged["body"]["model"]) == ("score", "score", "m")
