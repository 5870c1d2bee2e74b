"""The OpenAI embedder against a real HTTP stub."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.backend import Embedder, EmbeddingFailed
from engine.errors import BackendDown, InputError
from engine.openai_embedder import OpenAIEmbedder
from tests.stub import Fault, Stub, embed_orthogonal, serve


@asynccontextmanager
async def started(stub: Stub, **settings: Any) -> AsyncIterator[OpenAIEmbedder]:
    embedder = OpenAIEmbedder(**{"base_url": stub.base_url, "model": "mini", "api_key_env": None, **settings})
    await embedder.start()
    try:
        yield embedder
    finally:
        await embedder.close()


def embed_angle(text: str) -> list[float]:
    """Read the text as an angle in degrees; the vector's length must not matter."""
    return [5 * math.cos(math.radians(float(text))), 5 * math.sin(math.radians(float(text)))]


def texts_sent(stub: Stub) -> list[str]:
    return [text for call in stub.calls for text in call.body["input"]]


async def test_cosines() -> None:
    with serve(embed=embed_angle) as stub:
        async with started(stub) as embedder:
            protocol: Embedder = embedder
            found = await protocol.similarities([("0", "0"), ("0", "60"), ("0", "90"), ("0", "180")])
            assert await embedder.similarities([]) == ()
    assert found == pytest.approx((1.0, 0.5, 0.0, -1.0), abs=1e-6)
    assert found[0] == 1.0 and all(type(value) is float for value in found)
    assert stub.calls[0].body["encoding_format"] == "float" and stub.calls[0].body["model"] == "mini"


async def test_cosines_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with serve(embed=embed_angle) as stub:
        async with started(stub) as embedder:
            assert await embedder.similarities([("0", "60"), ("30", "30")]) == pytest.approx((0.5, 1.0), abs=1e-6)


async def test_blank_texts_and_zero_vectors_are_like_nothing() -> None:
    with serve(embed=lambda _: [0.0, 0.0]) as stub:
        async with started(stub) as embedder:
            assert await embedder.similarities([("a", "a"), ("a", "b"), ("", "a"), (" ", " ")]) == (0.0,) * 4
    assert texts_sent(stub) == ["a", "b"]


async def test_orthogonal_texts() -> None:
    with serve(embed=embed_orthogonal()) as stub:
        async with started(stub) as embedder:
            assert await embedder.similarities([("a", "b"), ("b", "b"), ("c", "a")]) == (0.0, 1.0, 0.0)


async def test_calls_of_one_moment_share_a_batch_and_the_cache() -> None:
    with serve(embed=embed_orthogonal()) as stub:
        async with started(stub) as embedder:
            await asyncio.gather(*(embedder.similarities([("gold", f"guess {n % 9}")]) for n in range(50)))
            await embedder.similarities([("gold", "guess 3"), ("guess 4", "guess 5")])
    assert len(stub.calls) == 1
    assert sorted(texts_sent(stub)) == ["gold", *(f"guess {n}" for n in range(9))]


async def test_batches_and_calls_are_bounded() -> None:
    with serve() as stub:
        async with started(stub, batch=10, max_inflight=2) as embedder:
            stub.hold()
            asking = asyncio.ensure_future(embedder.similarities([(f"a{n}", f"b{n}") for n in range(50)]))
            await stub.arrived(2)
            stub.release()
            assert await asking == pytest.approx((1.0,) * 50)
    assert [len(call.body["input"]) for call in stub.calls] == [10] * 10 and stub.max_open == 2


async def test_the_cache_is_bounded() -> None:
    with serve(embed=embed_angle) as stub:
        async with started(stub, max_cached_bytes=3 * 2 * 4) as embedder:
            await embedder.similarities([(str(n), str(n + 1)) for n in range(0, 10, 2)])
            await embedder.similarities([("9", "8")])
            assert len(stub.calls) == 1
            await embedder.similarities([("0", "9")])
    assert texts_sent(stub)[10:] == ["0"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(500), "server_error"),
        (Fault(429, headers={"Retry-After": "3"}), "rate_limited"),
        (Fault(401), "unauthorized"),
        (Fault(400), "rejected"),
        (Fault(hang_up=True), "connection"),
        (Fault(raw="nonsense"), "server_error"),
        (Fault(raw='{"data": []}'), "server_error"),
        (Fault(raw='{"data": [{"embedding": [1.0]}]}'), "server_error"),
        (Fault(raw='{"data": [{"embedding": []}, {"embedding": []}]}'), "server_error"),
        (Fault(raw='{"data": [{"embedding": [1]}, {"embedding": [1, 2]}]}'), "server_error"),
        (Fault(raw='{"data": [{"embedding": [1], "index": 1}, {"embedding": [1], "index": 1}]}'), "server_error"),
        (Fault(raw='{"data": [{"embedding": [1.7e308, 1.7e308]}, {"embedding": [1, 2]}]}'), "server_error"),
        (Fault(raw='{"data": [{"embedding": ["x"]}, {"embedding": [1]}]}'), "server_error"),
    ],
)
async def test_a_failed_batch_is_told_and_can_be_asked_again(fault: Fault, kind: str) -> None:
    with serve(faults=[fault]) as stub:
        async with started(stub) as embedder:
            with pytest.raises(EmbeddingFailed) as caught:
                await embedder.similarities([("a", "b")])
            assert caught.value.failure.kind == kind
            assert caught.value.failure.retry_after_s == (3.0 if kind == "rate_limited" else None)
            assert await embedder.similarities([("a", "b")]) == pytest.approx((1.0,))
    assert len(stub.calls) == 2


async def test_items_are_put_in_order_of_their_index() -> None:
    swapped = '{"data": [{"embedding": [0, 1], "index": 1}, {"embedding": [1, 0], "index": 0}]}'
    third = '{"data": [{"embedding": [1, 0], "index": 0}]}'
    with serve(faults=[Fault(raw=swapped), Fault(raw=third)]) as stub:
        async with started(stub) as embedder:
            await embedder.similarities([("a", "b")])
            assert await embedder.similarities([("a", "c"), ("b", "c")]) == (1.0, 0.0)


async def test_another_dimension_is_malformed() -> None:
    with serve(faults=[Fault(), Fault(raw='{"data": [{"embedding": [1, 0]}]}')]) as stub:
        async with started(stub) as embedder:
            await embedder.similarities([("a", "b")])
            with pytest.raises(EmbeddingFailed, match="2 dimensions after 3"):
                await embedder.similarities([("a", "c")])


async def test_one_text_too_long_fails_alone() -> None:
    too_long = Fault(400, code="context_length_exceeded")
    # The order of calls: all four, the first half, the second half, then each of the second half.
    with serve(faults=[too_long, Fault(), too_long, Fault(), too_long]) as stub:
        async with started(stub) as embedder:
            fine = embedder.similarities([("a", "b"), ("a", "c")])
            bad = embedder.similarities([("c", "very long")])
            first, second = await asyncio.gather(fine, bad, return_exceptions=True)
    assert first == pytest.approx((1.0, 1.0))
    assert isinstance(second, EmbeddingFailed) and second.failure.kind == "context_overflow"
    assert [call.body["input"] for call in stub.calls][3:] == [["c"], ["very long"]]


async def test_a_slow_answer_is_a_timeout() -> None:
    with serve() as stub:
        async with started(stub, timeout_s=0.05) as embedder:
            stub.hold()
            with pytest.raises(EmbeddingFailed, match="timeout"):
                await embedder.similarities([("a", "b")])
            stub.release()


async def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    with serve() as stub:
        async with started(stub) as embedder:
            stub.hold()
            leaving, staying = (asyncio.ensure_future(embedder.similarities([("a", "b")])) for _ in range(2))
            await stub.arrived(1)
            leaving.cancel()
            stub.release()
            assert await staying == pytest.approx((1.0,))
            assert leaving.cancelled()
    assert len(stub.calls) == 1


async def test_close_fails_those_who_wait() -> None:
    with serve() as stub:
        async with started(stub) as embedder:
            stub.hold()
            asking = asyncio.ensure_future(embedder.similarities([("a", "b")]))
            await stub.arrived(1)
            await embedder.close()
            with pytest.raises(EmbeddingFailed, match="was closed"):
                await asking
            with pytest.raises(RuntimeError, match="must be started"):
                await embedder.similarities([("a", "b")])
            stub.release()


async def test_identity_and_settings() -> None:
    embedder = OpenAIEmbedder(base_url="https://models.example:8443/v1", model="mini", api_key_env=None)
    assert embedder.identity == "openai:mini@models.example"
    with pytest.raises(InputError, match="max_inflight.*\n.*batch"):
        OpenAIEmbedder(base_url="https://x/v1", model="m", api_key_env=None, max_inflight=0, batch=0)
    with serve(api_key="k") as stub, pytest.raises(BackendDown, match="api_key_env"):
        async with started(stub):
            pass
