"""The scripted backend: exactly one completion per request, stepped races, lost replicas."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from engine.backend import Backend, Completion, Embedder, EmbeddingFailed, Failure, Request
from engine.errors import BackendDown
from engine.scripted import ScriptedBackend, ScriptedEmbedder
from engine.steps import Reply, Sampling, Usage
from engine.views import Message


def make_request(number: int = 0, replica: str = "") -> Request:
    messages = (Message("system", "You are a patient."), Message("user", "Hello, how are you?"))
    return Request(f"e{number}", "talk/0", 0, "patient", "patient_turn", messages, Sampling(50), replica=replica)


async def collect(backend: ScriptedBackend, count: int) -> list[Completion]:
    done: list[Completion] = []
    while len(done) < count:
        done += await backend.collect()
    return done


def texts(done: Sequence[Completion]) -> list[str]:
    return [c.reply.text if c.reply else f"!{c.failure.kind if c.failure else ''}" for c in done]


async def test_a_list_answers_in_order_and_then_rejects() -> None:
    backend: Backend = ScriptedBackend(["one", Failure("timeout", "late"), Reply("two", finish="length")])
    assert isinstance(backend, ScriptedBackend)
    await backend.submit([make_request(n) for n in range(4)])
    done = await collect(backend, 4)
    assert texts(done) == ["one", "!timeout", "two", "!rejected"]
    assert [c.episode for c in done] == ["e0", "e1", "e2", "e3"] == [r.episode for r in backend.requests]
    assert done[2].reply is not None and done[2].reply.is_cut_off


async def test_replies_look_served() -> None:
    backend = ScriptedBackend("hello there", weights="w1")
    await backend.submit([make_request()])
    (done,) = await backend.collect()
    assert done.reply is not None
    assert (done.reply.weights, done.reply.replica, done.reply.model) == ("w1", "replica-0", "scripted")
    assert done.reply.usage == Usage(9, 2)
    gauges = backend.replicas()[0]
    assert (gauges.prompt_tokens, gauges.completion_tokens, gauges.running) == (9, 2, 0)


async def test_functions_may_be_async() -> None:
    gate = asyncio.Event()

    async def answer(request: Request) -> str:
        await gate.wait()
        return request.episode

    backend = ScriptedBackend(answer)
    await backend.submit([make_request(1), make_request(2), make_request(3)])
    await backend.cancel([make_request(2).key])
    gate.set()
    assert sorted(texts(await collect(backend, 2))) == ["e1", "e3"]
    await backend.close()


async def test_a_bug_in_the_function_surfaces() -> None:
    async def later(_: Request) -> str:
        raise ZeroDivisionError

    def now(_: Request) -> str:
        raise ZeroDivisionError

    backend = ScriptedBackend(later)
    await backend.submit([make_request()])
    with pytest.raises(ZeroDivisionError):
        await backend.collect()
    with pytest.raises(ZeroDivisionError):
        await ScriptedBackend(now).submit([make_request()])


async def test_held_requests_are_released_in_any_order() -> None:
    backend = ScriptedBackend(["a", "b", "c"], is_held=True)
    requests = [make_request(n) for n in range(3)]
    await backend.submit(requests)
    await backend.arrived(3)
    assert backend.replicas()[0].running == 3
    backend.release(requests[2].key)
    backend.release(requests[0].key, Failure("server_error", "no"))
    assert texts(await collect(backend, 2)) == ["c", "!server_error"]
    backend.release_all()
    assert texts(await collect(backend, 1)) == ["b"] and backend.open_keys == ()


async def test_arrived_wakes_a_waiter() -> None:
    backend = ScriptedBackend("x")
    waiter = asyncio.ensure_future(backend.arrived(1))
    await asyncio.sleep(0)
    assert not waiter.done()
    await backend.submit([make_request()])
    await waiter


async def test_cancelled_requests_are_not_reported() -> None:
    backend = ScriptedBackend("x")
    backend.hold()
    await backend.submit([make_request(0), make_request(1)])
    await backend.cancel([make_request(0).key, ("unknown", "", 0)])
    backend.release_all()
    await backend.submit([make_request(2)])
    await backend.cancel([make_request(2).key])
    assert [c.episode for c in await backend.collect()] == ["e1"]


async def test_a_killed_replica_fails_its_open_requests() -> None:
    backend = ScriptedBackend("x", replicas=2, is_held=True)
    await backend.submit([make_request(0, "replica-0"), make_request(1, "replica-1")])
    backend.kill_replica("replica-0")
    assert texts(await backend.collect()) == ["!replica_lost"]
    assert [g.state for g in backend.replicas()] == ["lost", "ready"]
    await backend.submit([make_request(2, "replica-0"), make_request(3)])
    assert texts(await backend.collect()) == ["!replica_lost"]
    assert [g.running for g in backend.replicas()] == [0, 2]
    backend.revive_replica("replica-0")
    assert await backend.collect() == []
    assert backend.replicas()[0].restarts == 1


async def test_no_replica_left_is_backend_down() -> None:
    backend = ScriptedBackend("x")
    backend.kill_replica("replica-0")
    await backend.submit([make_request()])
    assert texts(await backend.collect()) == ["!replica_lost"]
    with pytest.raises(BackendDown):
        await backend.collect()


async def test_requests_go_round_the_live_replicas() -> None:
    backend = ScriptedBackend("x", replicas=2)
    await backend.submit([make_request(n) for n in range(4)])
    served = [c.reply.replica for c in await backend.collect() if c.reply]
    assert sorted(served) == ["replica-0"] * 2 + ["replica-1"] * 2


async def test_close_wakes_a_collector() -> None:
    backend = ScriptedBackend("x")
    waiter = asyncio.ensure_future(backend.collect())
    await asyncio.sleep(0)
    await backend.close()
    await backend.close()
    assert await waiter == []


async def test_a_hundred_thousand_requests_are_quick() -> None:
    backend = ScriptedBackend("fine")
    batches = [[make_request(n) for n in range(start, start + 1000)] for start in range(0, 100_000, 1000)]
    started_s = time.process_time()
    for batch in batches:
        await backend.submit(batch)
    done = await collect(backend, 100_000)
    assert len({c.key for c in done}) == 100_000
    assert time.process_time() - started_s < 10


async def test_the_embedder() -> None:
    embedder: Embedder = ScriptedEmbedder(0.5)
    await embedder.start()
    assert await embedder.similarities([("a", "b"), ("c", "d")]) == (0.5, 0.5)
    assert isinstance(embedder, ScriptedEmbedder) and embedder.pairs == [("a", "b"), ("c", "d")]
    await embedder.close()

    def failing(one: str, other: str) -> float:
        raise EmbeddingFailed(Failure("timeout", "late"))

    same = ScriptedEmbedder(lambda one, other: float(one == other))
    assert await same.similarities([("a", "a"), ("a", "b")]) == (1.0, 0.0)
    with pytest.raises(EmbeddingFailed):
        await ScriptedEmbedder(failing).similarities([("a", "b")])
