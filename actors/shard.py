"""One scheduler shard: a Ray actor that plays its slice of the cases on replicas of its own node.

It is the whole of a run but its driver: scheduler, journal, pools. What the driver must know it asks for (`state`);
nothing that must survive lives here. A shard that dies is started again from its journal.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from actors.crew import LocalCrew, Share
from actors.processes import ProcessRecord, ProcessTable, describe_tree
from engine.memory import share_one_heap
from engine.metrics import Snapshot
from engine.run import Result, Run
from engine.rundir import RunDirectory
from engine.shards import ShardState, ShardTask, slice_roster, thaw_task


class RelayPanel:
    """Implements `engine.panel.Panel`: keeps what is shown until the driver asks for it."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.news: list[str] = []

    def start(self) -> None:
        """Nothing to prepare."""

    def say(self, text: str) -> None:
        """Keep a line of news."""
        self.news.append(text)

    def update(self, snapshot: Snapshot) -> None:
        """Keep the latest state."""
        self.snapshot = snapshot

    def stop(self) -> None:
        """Nothing to end."""


class Shard:
    """The actor class. `play` once, `state` as often as wanted beside it, `stop` to end early."""

    def __init__(self, task: bytes, node: str) -> None:
        self._task = msgspec.msgpack.decode(task, type=ShardTask)
        self._node = node
        self._panel = RelayPanel()
        self._run: Run | None = None
        self._playing: asyncio.Future[Any] | None = None
        self._is_stopped = False

    async def describe(self) -> bytes:
        """Return the records of this process, for the run's process table."""
        name = f"shard/{self._task.index}"
        return msgspec.msgpack.encode([record for record in describe_tree(name) if record.replica == name][:1])

    async def play(self) -> bytes:
        """End what a former shard left on this node, then play until the slice is done; return the encoded Result.

        Raises RunError when the shard cannot go on.
        """
        share_one_heap()
        task = self._task
        rundir = RunDirectory.open(Path(task.directory))
        await asyncio.to_thread(ProcessTable(rundir.processes_of(task.index)).end_left_overs)
        plan = thaw_task(task, rundir)
        roster = slice_roster(plan, task.extra, task.index, task.num_shards)
        share = Share(task.index, task.num_shards, self._node)
        paths = {name: Path(path) for name, path in task.paths.items()}
        crew = LocalCrew(plan.config, paths, needs_embedder=plan.spec.needs_embedder, share=share)
        crew.attach(rundir, self._panel.say)
        run = self._run = Run(plan, rundir, crew, self._panel, roster, task.index)
        self._playing = asyncio.ensure_future(run.play())
        if self._is_stopped:
            run.stop(self._playing)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._playing
        finally:
            await run.close(is_hasty=self._is_stopped)
        return msgspec.msgpack.encode(run.result(None))

    async def state(self, num_told: int) -> bytes:
        """Return the encoded ShardState, with the news after the first `num_told`: an answer may be lost on its way."""
        return msgspec.msgpack.encode(ShardState(self._panel.snapshot, tuple(self._panel.news[num_told:])))

    async def stop(self) -> None:
        """Stop admitting; what is journalled stays."""
        self._is_stopped = True
        if self._run is not None and self._playing is not None:
            self._run.stop(self._playing)


def decode_result(data: bytes) -> Result:
    """Return the result that `Shard.play` encoded."""
    return msgspec.msgpack.decode(data, type=Result)


def decode_state(data: bytes) -> ShardState:
    """Return the state that `Shard.state` encoded."""
    return msgspec.msgpack.decode(data, type=ShardState)


def decode_records(data: bytes) -> list[ProcessRecord]:
    """Return the records that `Shard.describe` encoded."""
    return msgspec.msgpack.decode(data, type=list[ProcessRecord])
