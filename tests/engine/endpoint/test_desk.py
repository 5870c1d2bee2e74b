"""The desk by itself: one reply per request, retries, room, and what is left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.backend import Failure, Request, RequestOptions
from engine.endpoint.desk import Desk, Full, Unanswered, beginning_of
from engine.errors import BackendDown
from engine.retry import RetryPolicy
from engine.scripted import ScriptedBackend
from engine.steps import Sampling
from engine.views import Message


def make_request(number: int = 0, text: str = "Hello", **more: Any) -> Request:
    return Request(f"r{number}", "reply", 0, "assistant", "chat", (Message("user", text),), Sampling(5), **more)


@asynccontextmanager
async def running(backend: ScriptedBackend, **settings: Any) -> AsyncIterator[Desk]:
    desk = Desk(backend, draw=lambda: 0.0, **settings)
    task = asyncio.create_task(desk.run())
    yield desk
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_every_request_gets_its_own_reply_whatever_the_order() -> None:
    backend = ScriptedBackend(lambda request: request.episode, is_held=True, replicas=3)
    async with running(backend) as desk:
        asking = asyncio.create_task(desk.ask_all([make_request(number) for number in range(20)]))
        await backend.arrived(20)
        for key in reversed(backend.open_keys):
            backend.release(key)
        replies = await asking
    assert [reply.text for reply in replies] == [f"r{number}" for number in range(20)]
    assert {request.replica for request in backend.requests} == {f"replica-{n}" for n in range(3)}
    assert sorted(backend.forgotten) == sorted(request.episode for request in backend.requests)
    assert not desk._waiting and not desk._router._stays


@pytest.mark.parametrize("kind, attempts", [("server_error", 3), ("timeout", 3), ("rejected", 1)])
async def test_a_failure_is_tried_again_as_the_policy_says(kind: Any, attempts: int) -> None:
    backend = ScriptedBackend(Failure(kind, "no"), replicas=2)
    async with running(backend, retry=RetryPolicy(max_attempts=3, base_s=0.001)) as desk:
        with pytest.raises(Unanswered) as failed:
            await desk.ask(make_request())
    assert failed.value.failure == Failure(kind, "no")
    assert [request.attempt for request in backend.requests] == list(range(attempts))
    replicas = [request.replica for request in backend.requests]
    assert all(one != next_one for one, next_one in zip(replicas, replicas[1:], strict=False))


async def test_waiting_that_is_asked_for_is_bounded() -> None:
    backend = ScriptedBackend(Failure("rate_limited", "slow down", retry_after_s=0.01))
    async with running(backend, retry=RetryPolicy(max_attempts=1, max_wait_s=0.025)) as desk:
        with pytest.raises(Unanswered, match="rate_limited: slow down"):
            await desk.ask(make_request())
    assert len(backend.requests) == 3


async def test_room_is_given_back() -> None:
    desk = Desk(ScriptedBackend("yes"), max_open=3)
    with desk.room(2):
        with pytest.raises(Full), desk.room(2):
            pass
        with desk.room(1):
            assert desk.num_open == 3
    assert desk.num_open == 0


async def test_a_pool_beyond_help_ends_the_desk_with_its_reason() -> None:
    backend = ScriptedBackend("yes", is_held=True)
    desk = Desk(backend)
    task = asyncio.create_task(desk.run())
    asking = asyncio.create_task(desk.ask(make_request()))
    await backend.arrived(1)
    backend.kill_replica("replica-0")
    with pytest.raises(BackendDown, match="every scripted replica was killed"):
        await task
    assert not desk.is_ready
    for request in (asking, desk.ask(make_request(1))):
        with pytest.raises(Unanswered) as failed:
            await request
        assert failed.value.failure.kind == "replica_lost"


def test_requests_are_told_apart_by_their_beginning() -> None:
    long = "x" * 600
    assert beginning_of(make_request(text=long + "a")) == beginning_of(make_request(text=long + "b"))
    assert beginning_of(make_request(text="a")) != beginning_of(make_request(text="b"))
    raw = [beginning_of(make_request(options=RequestOptions(prompt))) for prompt in ("ab", (1, 2), (1, 3))]
    assert len(set(raw)) == 3
    assert int(beginning_of(make_request(text="\ud800"))) >= 0
