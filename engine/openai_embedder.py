"""An `Embedder` over an OpenAI-compatible `/embeddings` endpoint.

Texts are embedded once: vectors are cached by content, calls that wait for the same text share it, and texts asked for
in one pass of the loop go out in batches. Decoding and normalizing run in a thread. Invariant: every vector kept has
length 1 or is zero, and all have one dimension. Failures are not retried here.
"""

import asyncio
import hashlib
import math
import operator
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from engine import openai_errors
from engine.backend import EmbeddingFailed, Failure
from engine.errors import InputError
from engine.openai_endpoint import OpenAIEndpoint
from engine.values import well_formed

EMBEDDINGS: Final = "/embeddings"
MAX_CACHED_BYTES: Final = 256 * 2**20
TIMEOUT_S: Final = 60.0

Vector: TypeAlias = Any
"""A float32 numpy array where numpy is installed, else `array('f')`."""


class _Item(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Embeddings(msgspec.Struct):
    data: list[_Item]


class OpenAIEmbedder:
    """Cosine similarities by a served embedding model.

    `max_inflight` calls of at most `batch` texts each are on the wire. `api_key_env` names the environment variable
    with the key (None: the endpoint wants none). Raises InputError for a bad URL or bound.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key_env: str | None,
        max_inflight: int = 8,
        batch: int = 64,
        timeout_s: float = TIMEOUT_S,
        max_cached_bytes: int = MAX_CACHED_BYTES,
    ) -> None:
        bounds = {"max_inflight": max_inflight, "batch": batch}
        problems = [f"{name} must be at least 1, got {value}: raise it" for name, value in bounds.items() if value < 1]
        if problems:
            raise InputError(problems)
        self.model = model
        self._endpoint = OpenAIEndpoint(
            base_url=base_url, model=model, api_key_env=api_key_env, max_connections=max_inflight
        )
        self._max_inflight = max_inflight
        self._batch = batch
        self._timeout_s = timeout_s
        self._max_cached_bytes = max_cached_bytes
        self._num_cached_bytes = 0
        self._num_dimensions = 0
        self._cache: OrderedDict[bytes, Vector] = OrderedDict()
        # Both are bounded by the texts of the calls that wait; `_wanted` keeps the order of asking.
        self._wanted: OrderedDict[bytes, str] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[Vector]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = False

    @property
    def identity(self) -> str:
        """`openai:MODEL@HOST`; the port is left out, since the same server may listen elsewhere tomorrow."""
        return f"openai:{self.model}@{self._endpoint.host}"

    async def start(self) -> None:
        """Reach the endpoint. Raises InputError (no key) and `BackendDown` (unreachable, key refused)."""
        await self._endpoint.open()
        self._is_open = True

    async def similarities(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, ...]:
        """Return the cosine of each pair in [-1, 1]; 0.0 where a text is blank or its vector zero.

        Raises `EmbeddingFailed` with the first failure.
        """
        if not self._is_open:
            raise RuntimeError(f"embedder {self.identity} must be started before use and not be closed: call start()")
        texts = dict.fromkeys(text for pair in pairs for text in pair if text.strip())
        vectors = await self._vectors(texts)
        return tuple(_similarity(one, other, vectors) for one, other in pairs)

    async def close(self) -> None:
        """Cancel every call and close the connections; waiting callers get `EmbeddingFailed`."""
        self._is_open = False
        self._wanted.clear()
        self._fail(list(self._pending), Failure("connection", f"embedder {self.identity} was closed"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._endpoint.close()

    async def _vectors(self, texts: Iterable[str]) -> dict[str, Vector]:
        """Return a vector per text, from the cache or from calls shared with whoever else waits."""
        known: dict[str, Vector] = {}
        waiting: dict[str, asyncio.Future[Vector]] = {}
        for text in texts:
            key = _key(text)
            if key in self._cache:
                self._cache.move_to_end(key)
                known[text] = self._cache[key]
            else:
                waiting[text] = self._want(key, text)
        if waiting:
            # `wait` leaves the futures alone when this caller is cancelled: others may share them.
            await asyncio.wait(waiting.values())
        return known | {text: future.result() for text, future in waiting.items()}

    def _want(self, key: bytes, text: str) -> "asyncio.Future[Vector]":
        future = self._pending.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._pending[key] = loop.create_future()
            # Whoever waited may be gone: an error nobody fetches must not be logged as a bug.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            if not self._wanted:
                loop.call_soon(self._fill)
            self._wanted[key] = text
        return future

    def _fill(self) -> None:
        """Send batches while there is room."""
        while self._is_open and self._wanted and len(self._tasks) < self._max_inflight:
            size = min(self._batch, len(self._wanted))
            batch = dict(self._wanted.popitem(last=False) for _ in range(size))
            task = asyncio.create_task(self._serve(batch))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._fill()

    async def _serve(self, batch: dict[bytes, str]) -> None:
        try:
            await self._embed(batch)
        finally:
            # Only a bug or the end leaves keys pending here; their callers must not wait for ever.
            left = [key for key in batch if key in self._pending]
            self._fail(left, Failure("server_error", f"embedder {self.identity} lost a batch"))

    async def _embed(self, batch: dict[bytes, str]) -> None:
        """Embed a batch; one text too long for the model must not fail the others, so such a batch is halved."""
        try:
            vectors = await self._call(list(batch.values()))
        except EmbeddingFailed as failed:
            if failed.failure.kind != "context_overflow" or len(batch) == 1:
                self._fail(batch, failed.failure)
                return
            items = list(batch.items())
            await self._embed(dict(items[: len(items) // 2]))
            await self._embed(dict(items[len(items) // 2 :]))
            return
        for key, vector in zip(batch, vectors, strict=True):
            self._keep(key, vector)

    async def _call(self, texts: list[str]) -> list[Vector]:
        body = {"model": self.model, "input": [well_formed(text) for text in texts], "encoding_format": "float"}
        try:
            answer = await self._endpoint.post(EMBEDDINGS, body, timeout_s=self._timeout_s)
            vectors = await asyncio.to_thread(_decode, answer, len(texts))
        except TimeoutError:
            raise EmbeddingFailed(openai_errors.timed_out(self._endpoint.about, self._timeout_s)) from None
        except Exception as error:  # noqa: BLE001 - failure_of re-raises whatever is not the endpoint's doing
            failure = openai_errors.failure_of(error, self._endpoint.about, time.time())
            raise EmbeddingFailed(failure) from None
        self._num_dimensions = self._num_dimensions or len(vectors[0])
        if len(vectors[0]) != self._num_dimensions:
            what = f"vectors of {len(vectors[0])} dimensions after {self._num_dimensions}"
            raise EmbeddingFailed(openai_errors.malformed(self._endpoint.about, what))
        return vectors

    def _keep(self, key: bytes, vector: Vector) -> None:
        """Cache a vector, dropping those unused longest, and give it to whoever waits."""
        self._cache[key] = vector
        self._num_cached_bytes += len(vector) * vector.itemsize
        while self._num_cached_bytes > self._max_cached_bytes:
            _, dropped = self._cache.popitem(last=False)
            self._num_cached_bytes -= len(dropped) * dropped.itemsize
        future = self._pending.pop(key, None)
        if future is not None and not future.done():
            future.set_result(vector)

    def _fail(self, keys: Iterable[bytes], failure: Failure) -> None:
        for key in keys:
            future = self._pending.pop(key, None)
            if future is not None and not future.done():
                future.set_exception(EmbeddingFailed(failure))


def _decode(body: bytes, count: int) -> list[Vector]:
    """Return `count` unit vectors in order of `index`. Raises msgspec.ValidationError for any other shape."""
    items = msgspec.json.decode(body, type=_Embeddings).data
    if any(item.index is not None for item in items):
        items.sort(key=lambda item: -1 if item.index is None else item.index)
        if [item.index for item in items] != list(range(len(items))):
            raise msgspec.ValidationError("`index` must count the embeddings from 0")
    if len(items) != count:
        raise msgspec.ValidationError(f"{count} embeddings were asked for, got {len(items)}")
    if not items[0].embedding or len({len(item.embedding) for item in items}) > 1:
        raise msgspec.ValidationError("embeddings must be of one dimension and not empty")
    return [_unit(item.embedding) for item in items]


def _unit(values: list[float]) -> Vector:
    """Return the vector at length 1, or all zeros for a zero vector."""
    norm = math.hypot(*values)
    if not math.isfinite(norm):
        raise msgspec.ValidationError("embeddings must be finite")
    scaled = array("f", [value / norm for value in values] if norm else values)
    try:
        import numpy
    except ImportError:
        return scaled
    return numpy.frombuffer(scaled, dtype=numpy.float32)


def _similarity(one: str, other: str, vectors: dict[str, Vector]) -> float:
    if one not in vectors or other not in vectors:
        return 0.0
    first, second = vectors[one], vectors[other]
    dot = sum(map(operator.mul, first, second)) if isinstance(first, array) else float(first @ second)
    if one == other:
        # A text is like itself, whatever the rounding says; a zero vector is like nothing.
        return 1.0 if dot else 0.0
    return min(1.0, max(-1.0, dot))


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
