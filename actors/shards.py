"""The driver of a run on several shards: starts one per part, sums what they report, starts a lost one again.

The driver plays nothing itself. A shard that dies loses no answer: its journal is on disk, and a new actor goes on from
it, at most `MAX_RESTARTS` times.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.cluster import actor_environment, join_cluster, leave_cluster
from actors.processes import ProcessTable
from actors.shard import Shard, decode_records, decode_result, decode_state
from engine.errors import RunError
from engine.interrupt import COPY_GRACE_S, GRACE_S, Interrupt
from engine.metrics import Snapshot
from engine.panel import Panel
from engine.planning import Plan
from engine.record import EpisodeKey
from engine.run import Result
from engine.rundir import RunDirectory
from engine.shards import ShardTask, sum_results, sum_snapshots

MAX_RESTARTS: Final = 3
ASK_EVERY_S: Final = 1.0


async def play_shards(
    plan: Plan, rundir: RunDirectory, paths: Mapping[str, Path], panel: Panel, extra: Sequence[EpisodeKey]
) -> Result:
    """Play the plan on `plan.config.shards` shards. The caller holds the directory's lock.

    Raises RunError when a shard cannot go on. An interrupt returns a result with its exit code instead.
    """
    driver = _Driver(plan, rundir, paths, panel, tuple(extra))
    playing = asyncio.ensure_future(driver.play())
    grace_s = COPY_GRACE_S if plan.config.journal.local_dir else GRACE_S
    with Interrupt(driver.stop, driver.abort, grace_s) as interrupt:
        try:
            results = await playing
        finally:
            panel.stop()
            await driver.close()
        return sum_results(results, interrupt.code)


class _Driver:
    def __init__(
        self,
        plan: Plan,
        rundir: RunDirectory,
        paths: Mapping[str, Path],
        panel: Panel,
        extra: tuple[EpisodeKey, ...],
    ) -> None:
        self._plan = plan
        self._rundir = rundir
        self._panel = panel
        self._processes = ProcessTable(rundir.processes)
        self._num_shards = plan.config.shards
        self._actors: dict[int, Any] = {}
        self._snapshots: dict[int, Snapshot] = {}
        self._num_told: dict[int, int] = {}
        self._has_joined = False
        self._is_stopping = False
        self._stopping: set[asyncio.Future[Any]] = set()
        self._tasks = [
            ShardTask(
                directory=str(rundir.path),
                table=msgspec.msgpack.encode(plan.table),
                paths={name: str(path) for name, path in paths.items()},
                index=index,
                num_shards=self._num_shards,
                expected_context=plan.expected_context,
                extra=extra,
            )
            for index in range(self._num_shards)
        ]

    async def play(self) -> list[Result]:
        """Start every shard and wait for all of them."""
        self._panel.start()
        ray = await join_cluster(self._plan.config.ray.address, self._processes, self._panel.say)
        self._has_joined = True
        alive = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])
        nodes = itertools.cycle(alive)
        reporter = asyncio.ensure_future(self._report())
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(self._keep(ray, task, next(nodes))) for task in self._tasks]
        except* Exception as failed:  # noqa: BLE001 - the first reason is the run's
            reason = failed.exceptions[0]
            raise reason if isinstance(reason, RunError) else RunError(f"a shard failed: {reason}") from None
        finally:
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)
        return [part.result() for part in parts]

    async def _keep(self, ray: Any, task: ShardTask, node: str) -> Result:
        """Play one shard to its end, starting it again when its actor dies."""
        name = f"shard/{task.index}"
        for restarts in itertools.count():
            actor = self._actors[task.index] = self._start(ray, task, node)
            self._num_told[task.index] = 0
            try:
                self._processes.put(name, decode_records(await actor.describe.remote()))
                if self._is_stopping:
                    await actor.stop.remote()
                return decode_result(await actor.play.remote())
            except ray.exceptions.RayActorError as died:
                if restarts >= MAX_RESTARTS or self._is_stopping:
                    raise RunError(f"{name} died {restarts + 1} times: {str(died).splitlines()[0]}") from None
                self._panel.say(f"{name}: died; it is started again from its journal")
                await asyncio.to_thread(self._processes.end, name)
            except ray.exceptions.RayTaskError as failed:
                raise RunError(f"{name}: {failed.cause}") from None
        raise AssertionError("unreachable: the loop returns or raises")

    def _start(self, ray: Any, task: ShardTask, node: str) -> Any:
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=True)
        options = {
            "num_cpus": 0,  # the engines are what needs room
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": strategy,
            "runtime_env": {"env_vars": actor_environment({})},
        }
        return ray.remote(Shard).options(**options).remote(msgspec.msgpack.encode(task), node)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            for index, actor in list(self._actors.items()):
                with contextlib.suppress(Exception):  # a shard that is gone is somebody else's task
                    async with asyncio.timeout(ASK_EVERY_S):
                        state = decode_state(await actor.state.remote(self._num_told[index]))
                    self._snapshots[index] = state.snapshot
                    if self._actors[index] is actor:
                        self._num_told[index] += len(state.news)
                    for line in state.news:
                        self._panel.say(f"shard {index}: {line}")
            if self._snapshots:
                self._panel.update(sum_snapshots([*self._snapshots.values()]))

    def stop(self) -> None:
        """Tell every shard to stop; what is journalled stays."""
        self._panel.say("stopping: what is journalled stays")
        self._is_stopping = True
        self._stopping |= {asyncio.ensure_future(_quietly(actor.stop.remote())) for actor in self._actors.values()}

    def abort(self) -> None:
        """End every recorded process at once, the shards first."""
        self._processes.end_left_overs()
        for index in range(self._num_shards):
            ProcessTable(self._rundir.processes_of(index)).end_left_overs()

    async def close(self) -> None:
        """End the shards' actors and leave the cluster."""
        for index, actor in self._actors.items():
            await asyncio.to_thread(self._processes.end, f"shard/{index}")
            with contextlib.suppress(Exception):  # it may be gone, and Ray too
                import ray

                await asyncio.to_thread(ray.kill, actor)
        for index in range(self._num_shards):
            await asyncio.to_thread(ProcessTable(self._rundir.processes_of(index)).end_left_overs)
        if self._has_joined:
            await leave_cluster(self._processes)


async def _quietly(call: Any) -> None:
    with contextlib.suppress(Exception):  # a shard that is gone has stopped
        await call
