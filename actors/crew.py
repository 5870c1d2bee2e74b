"""The served side of one run, built from its configuration: one backend per model in use, and the embedder."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from actors.leftovers import LOST
from actors.processes import ProcessTable
from actors.spec import ModelSpec, RaySpec
from engine.backend import Backend, Embedder
from engine.checkpoints import hosted_model
from engine.config import Config
from engine.config_sections import EmbedderConfig, OpenAIConfig, RayConfig, VllmConfig
from engine.errors import InputError
from engine.openai_backend import OpenAIBackend
from engine.openai_embedder import OpenAIEmbedder
from engine.rundir import RunDirectory
from engine.shards import share_of
from engine.swap import SwapFailed, SwapPolicy, SwapPool, SwapReport

if TYPE_CHECKING:
    from actors.fleet import Fleet


class Share(msgspec.Struct, frozen=True):
    """The part of a run that one shard plays: shard `index` of `num_shards`, on the node with that id."""

    index: int
    num_shards: int
    node: str


class LocalCrew:
    """Implements `engine.run.Crew`. `attach` must be called before `start`. With a `share`, only that part comes up.

    `serving` maps models to the checkpoint directories that are served in their place, or upon them, from the start.
    `places` maps models to the ids of the nodes that their replicas were planned for, where there is such a plan.
    """

    def __init__(
        self,
        config: Config,
        paths: Mapping[str, Path],
        *,
        needs_embedder: bool,
        share: Share | None = None,
        serving: Mapping[str, Path] | None = None,
        places: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._config = config
        self._places = places or {}
        self._serving = serving or {}
        self._share = share
        self._paths = paths
        self._needs_embedder = needs_embedder
        self._processes: ProcessTable | None = None
        self._started: set[int] = set()
        self._say: Callable[[str], None] = lambda _text: None
        self.pools: dict[str, Backend] = {
            name: _endpoint(name, model, self._serving.get(name))
            for name, model in config.models.items()
            if isinstance(model, OpenAIConfig) and name in config.roles.values()
        }
        self.embedder: Embedder | None = None
        if needs_embedder and config.embedder.kind == "openai":
            self.embedder = _remote_embedder(config.embedder)

    async def check(self) -> None:
        """Reach the endpoints, so that an unreachable one is refused before anything is written."""
        async with self._closed_on_failure():
            await self.start()

    def attach(self, rundir: RunDirectory, say: Callable[[str], None]) -> None:
        """Build what runs on this cluster; its processes are recorded in the run directory.

        Raises CheckpointError when what is to be served is not fit for it.
        """
        share = self._share
        self._say = say
        path = rundir.processes if share is None else rundir.processes_of(share.index)
        self._processes = processes = ProcessTable(path)
        where = ray_spec(self._config.ray, share.node if share is not None else "")
        for name, model in self._config.models.items():
            if isinstance(model, VllmConfig) and name in self._paths:
                from actors.fleet import Fleet
                from actors.swap import prepare_target

                total = model.replicas
                first, count = share_of(total, share.index, share.num_shards) if share is not None else (0, total)
                spec = spec_of(name, model, self._paths[name], first, count, self._places.get(name, ()))
                if name in self._serving:
                    spec = spec.serving(prepare_target(spec, self._serving[name]))
                self.pools[name] = Fleet(spec, where, processes, say)
        if self._needs_embedder and self._config.embedder.kind == "local":
            from actors.embedder import LocalEmbedder

            self.embedder = LocalEmbedder(self._config.embedder.model, where, processes, say)

    async def start(self) -> None:
        """Bring up what is not up yet, side by side; pools that take a part of a GPU find their places in turn."""
        everything: list[Backend | Embedder] = [*self.pools.values()]
        everything += [self.embedder] if self.embedder is not None else []
        waiting = [part for part in everything if id(part) not in self._started]
        self._started |= {id(part) for part in waiting}
        before = self._before()
        done = await asyncio.gather(
            *(_start_after(before.get(id(part)), part) for part in waiting), return_exceptions=True
        )
        for failed in done:
            if isinstance(failed, BaseException):
                raise failed

    def _before(self) -> "dict[int, Fleet]":
        """Return which pool finds its places before another one, by identity.

        Ray fills each GPU in the order in which it is asked. The largest part first, as the plan did it: two of 0.6 and
        two of 0.4 fit on two GPUs, but not once both of 0.4 lie on one.
        """
        parts = {name: _part(self._config, name) for name in self.pools}
        turns = [name for name in sorted(parts, key=lambda name: -parts[name]) if parts[name]]
        found: dict[int, Any] = {id(self.pools[name]): self.pools[first] for first, name in pairwise(turns)}
        return found

    async def swap(
        self, model: str, checkpoint: Path | None, policy: SwapPolicy, say: Callable[[str], None]
    ) -> SwapReport:
        """Serve a checkpoint, or the model itself (None), in a pool that is up; also while nothing is played.

        Raises CheckpointError when the checkpoint is refused, SwapFailed when the pool went back to the one before.
        """
        pool = self.pools.get(model)
        if not isinstance(pool, SwapPool):
            raise InputError(f"a model must be served here to be swapped, got {model!r}: name one of {[*self.pools]}")
        report = await pool.swap(checkpoint, policy, say)
        if not report.is_done:
            raise SwapFailed(report)
        return report

    @asynccontextmanager
    async def _closed_on_failure(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:  # also when cancelled: what was started must not outlive the refusal
            await self.close()
            raise

    async def close(self) -> None:
        """End everything that was started."""
        closing = [pool.close() for pool in self.pools.values()]
        if self.embedder is not None:
            closing.append(self.embedder.close())
        await asyncio.gather(*closing)
        if self._processes is not None and (hosts := sorted({record.host for record in self._processes.of(LOST)})):
            self._say(f"lost with what ran there: {', '.join(hosts)}; {self._processes.path} names the processes")

    async def hang_up(self) -> None:
        """Close the connections to endpoints, which nothing else does after `abort`; safe to call twice."""
        parts = (*self.pools.values(), self.embedder)
        await asyncio.gather(*(part.close() for part in parts if isinstance(part, OpenAIBackend | OpenAIEmbedder)))

    def abort(self) -> None:
        """End every recorded process at once."""
        if self._processes is not None:
            self._processes.end_left_overs()


def _part(config: Config, name: str) -> float:
    """Return the part of a GPU that a replica of a model takes, 0 for none and for whole ones."""
    model = config.models[name]
    if not isinstance(model, VllmConfig):
        return 0.0
    gpus = model.gpus if model.gpus is not None else config.ray.gpus_per_replica or 0.0
    return gpus if gpus < 1 else 0.0


async def _start_after(before: "Fleet | None", part: Backend | Embedder) -> None:
    if before is not None:
        await before.placed.wait()
    await part.start()


def _endpoint(name: str, model: OpenAIConfig, serving: Path | None) -> OpenAIBackend:
    backend = OpenAIBackend(
        name=name,
        base_url=model.base_url,
        model=model.model,
        api_key_env=model.api_key_env,
        max_inflight=model.max_inflight,
        max_context=model.max_model_len,
        structured=model.structured,
    )
    if serving is not None:
        backend.model = hosted_model(serving)
    return backend


def _remote_embedder(chosen: EmbedderConfig) -> OpenAIEmbedder:
    return OpenAIEmbedder(base_url=chosen.base_url, model=chosen.model, api_key_env=chosen.api_key_env)


def ray_spec(ray: RayConfig, node: str = "") -> RaySpec:
    """Return where replicas run: on the cluster, and on one node of it if one is named."""
    return RaySpec(
        address=ray.address, node=node, cpus_per_replica=ray.cpus_per_replica, gpus_per_replica=ray.gpus_per_replica
    )


def spec_of(name: str, model: VllmConfig, path: Path, first: int, count: int, nodes: tuple[str, ...] = ()) -> ModelSpec:
    """Return what `count` replicas of a model are made of, numbered from `first` on."""
    return ModelSpec(
        name=name,
        path=str(path),
        replicas=count,
        first_replica=first,
        gpus=model.gpus,
        tensor_parallel=model.tensor_parallel,
        max_model_len=model.max_model_len,
        max_num_seqs=model.max_num_seqs,
        block_size=model.block_size,
        kv_cache_gib=model.kv_cache_gib,
        gpu_memory_utilization=model.gpu_memory_utilization,
        num_gpu_blocks_override=model.num_gpu_blocks_override,
        dtype=model.dtype,
        start_timeout_s=model.start_timeout_s,
        stall_timeout_s=model.stall_timeout_s,
        max_restarts=model.max_restarts,
        max_lora_rank=model.max_lora_rank,
        engine=model.engine,
        nodes=nodes,
    )


@asynccontextmanager
async def open_embedder(chosen: EmbedderConfig) -> AsyncIterator[Embedder]:
    """Open just the embedder, outside any run."""
    with TemporaryDirectory(prefix="sandplay-") as scratch:
        embedder: Embedder
        if chosen.kind == "openai":
            embedder = _remote_embedder(chosen)
        else:
            from actors.embedder import LocalEmbedder

            table = ProcessTable(Path(scratch) / "processes.json")
            embedder = LocalEmbedder(chosen.model, RaySpec(), table, lambda text: None)
        await embedder.start()
        try:
            yield embedder
        finally:
            await embedder.close()
