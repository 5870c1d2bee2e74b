"""A pool of replicas as one backend: Ray actors hosting vLLM, watched by their progress, replaced when lost.

Every submitted request ends in exactly one completion unless cancelled: a request is open in one slot until its
completion comes or the slot is lost, and an answer that is not open any more is dropped. A replica is restarted from
(checkpoint, configuration) alone, and only on the version that its slot serves. The fleet knows nothing of dialogues
but which of them live where, and nothing of retries or routing.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from actors import wire
from actors.cluster import join_cluster, leave_cluster
from actors.launch import NoRoom, StartFailed, launch_replica
from actors.processes import ProcessTable
from actors.slot import Slot
from actors.spec import ModelSpec, RaySpec
from actors.swap import FleetSwap, prepare_target
from actors.versions import Found, read_here, version_problems
from engine.backend import Completion, Failure, FailureKind, ReplicaGauges, Request, RequestKey
from engine.errors import BackendDown, InputError
from engine.residents import Residents
from engine.swap import SwapPolicy, SwapReport
from engine.swapping import Swap


class Fleet:
    """`engine.backend.Backend` over the replicas of one model.

    `say` receives a line every few seconds while something is waited for. `processes` is the run's process table; the
    engines' logs go beside its file, into `logs/`.
    """

    def __init__(self, spec: ModelSpec, ray: RaySpec, processes: ProcessTable, say: Callable[[str], None]) -> None:
        self._spec = spec
        self._ray_spec = ray
        self._processes = processes
        self._say = say
        self._slots = {name: Slot(name, spec.target, time.monotonic()) for name in self._names()}
        self._residents = Residents()
        self._done: list[Completion] = []
        self._news = asyncio.Event()
        self._swapping = FleetSwap(spec, self._slots, self._residents, self._spawn, self._news.set)
        self._target = spec.target
        self._is_swapping = False
        self._down = ""
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._has_joined = False
        self._unplaced = set(self._slots)
        self.placed = asyncio.Event()

    def _names(self) -> list[str]:
        first = self._spec.first_replica
        return [f"{self._spec.name}/{i}" for i in range(first, first + self._spec.replicas)]

    @property
    def max_context(self) -> int | None:
        """Longest context in tokens, prompt and completion together."""
        return self._spec.max_model_len

    @property
    def infos(self) -> dict[str, wire.ReplicaInfo]:
        """What the started replicas said of themselves, by name."""
        return {slot.name: slot.launch.info for slot in self._slots.values() if slot.launch is not None}

    # ------------------------------------------------------------ the backend

    async def start(self) -> None:
        """Bring all replicas up side by side. Raises `BackendDown` with the first reason; nothing is left then.

        `placed` is set once all have their places, and when they will not have any.
        """
        try:
            await join_cluster(self._ray_spec.address, self._processes, self._say)
            self._has_joined = True
            async with asyncio.TaskGroup() as group:
                for slot in self._slots.values():
                    group.create_task(self._bring_up(slot))
        except* Exception as failures:  # noqa: BLE001  whatever kept it from starting is the reason
            reason = "; ".join(dict.fromkeys(str(error) or repr(error) for error in _leaves(failures)))
            await self.close()
            raise BackendDown(f"pool {self._spec.name} did not start: {reason}") from None
        finally:
            self.placed.set()
        keeping = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep_all(keeping), name=f"fleet {self._spec.name}")
        await keeping.wait()

    async def submit(self, batch: Sequence[Request]) -> None:
        """Send requests to the replicas they name; one that names none goes to the least busy."""
        tasks = self._tasks
        if tasks is None:
            raise BackendDown(self._down or f"pool {self._spec.name} is not started: await start() first")
        for request in batch:
            slot = self._slots.get(request.replica) or self._least_busy()
            if slot is None or not slot.is_taking:
                name = request.replica or self._spec.name
                self._complete(request.key, "replica_lost", f"{name} is not ready")
                continue
            if not slot.open:
                slot.moved_at = time.monotonic()
            slot.open.add(request.key)
            self._residents.settle(request.episode, slot.name, request.weights or slot.weights)
            slot.outbox.append(request)
            if not slot.is_sending:
                slot.is_sending = True
                tasks.create_task(self._drain(slot))

    async def collect(self) -> list[Completion]:
        """Wait for completions or a change of the replicas."""
        await self._news.wait()
        done, self._done = self._done, []
        if not done and self._down:
            raise BackendDown(self._down)
        if not self._down:
            self._news.clear()
        return done

    async def cancel(self, keys: Sequence[RequestKey]) -> None:
        """Stop working on requests; unknown keys are ignored."""
        for slot in self._slots.values():
            mine = [key for key in keys if key in slot.open]
            slot.open.difference_update(mine)
            self._residents.poke()
            if mine and slot.launch is not None and self._tasks is not None:
                self._tasks.create_task(self._call(slot.launch.actor.cancel.remote(wire.encode(mine))))

    async def forget(self, episode: str) -> None:
        """An episode has ended: it lives nowhere any more."""
        self._residents.forget(episode)

    async def swap(self, checkpoint: Path | None, policy: SwapPolicy, say: Callable[[str], None]) -> SwapReport:
        """Serve a checkpoint directory, or the model itself (None), while dialogues go on.

        The report says what came of it; a failure leaves the old version on every replica. Raises InputError before
        anything is touched: a bad checkpoint, one that this pool cannot serve, or a swap that is still going on.
        """
        if self._tasks is None:
            raise InputError(f"a pool must be up to be swapped, got {self._spec.name}, which is not: start it")
        if self._is_swapping:
            raise InputError(f"one swap at a time may go on, got a second for {self._spec.name}: wait for the first")
        self._is_swapping = True
        try:
            target = await asyncio.to_thread(prepare_target, self._spec, checkpoint)
            await self._swapping.retired()
            report = await Swap(self._swapping, self._target, target, policy, say).run()
        finally:
            self._is_swapping = False
        if report.is_done:
            self._target = target
        return report

    async def forget_prefixes(self) -> bool:
        """Empty every replica's prefix cache; return whether all are empty (not while requests run)."""
        actors = [slot.launch.actor for slot in self._slots.values() if slot.launch is not None]
        return all(await asyncio.gather(*(actor.forget_prefixes.remote() for actor in actors)))

    def replicas(self) -> Sequence[ReplicaGauges]:
        """Return the latest gauges, one per replica."""
        return [slot.gauges for slot in self._slots.values()]

    async def close(self) -> None:
        """End all replicas, and Ray when it was started here and no one else uses it."""
        self._down = self._down or f"pool {self._spec.name} is closed"
        self._news.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        launches = [slot.launch for slot in self._slots.values() if slot.launch is not None]
        await asyncio.gather(*(launch.stop() for launch in launches))
        for slot in self._slots.values():
            slot.launch = None
            slot.live("lost")
            await asyncio.to_thread(self._processes.end, slot.name)
        if self._has_joined:
            self._has_joined = False
            await leave_cluster(self._processes)

    # ------------------------------------------------------------ one slot

    async def _keep_all(self, keeping: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as self._tasks:
                keeping.set()
                for slot in self._slots.values():
                    self._tasks.create_task(self._keep(slot))
        except* Exception as group:  # noqa: BLE001  a bug here must end the run with its text, not leave it waiting
            self._down = f"pool {self._spec.name}: {'; '.join(map(repr, _leaves(group)))}"
        finally:
            self._tasks = None
            self._news.set()

    async def _keep(self, slot: Slot) -> None:
        """Keep one slot filled until its restarts are spent; without room it waits as long as others of the pool work.

        consumes: answers of the long poll. produces: completions. waits for: the replica. unblocked by: an answer, the
        stall timeout, or the replica's death.
        """
        while True:
            reason = await self._watch(slot)
            await self._lose(slot, reason)
            while True:
                if slot.restarts >= self._spec.max_restarts:
                    self._give_up(slot, reason)
                    return
                slot.restarts += 1
                try:
                    await self._bring_up(slot)
                    break
                except NoRoom as error:
                    # The node may be gone for good: with nobody left to answer, the run had better end and be resumed.
                    slot.restarts -= 1
                    if not any(other.is_up for other in self._slots.values()):
                        self._give_up(slot, str(error))
                        return
                except StartFailed as error:
                    reason = str(error)
                    self._say(reason)

    async def _bring_up(self, slot: Slot) -> None:
        slot.live("starting")
        index = self._spec.first_replica + self._names().index(slot.name)
        spec = self._spec.serving(slot.target)
        placed = functools.partial(self._note_place, slot.name)
        launch = await launch_replica(spec, self._ray_spec, index, self._processes, self._say, placed)
        if problems := self._version_problems(slot.name, launch.info.versions):
            await launch.kill()
            raise StartFailed("; ".join(problems))
        found, wanted = launch.info.weights, slot.version
        if wanted and found != wanted:
            await launch.kill()
            rule = f"{slot.name} must come up on {wanted[:12]}, got {found[:12]}"
            raise StartFailed(f"{rule}: restore {slot.target.adapter or slot.target.weights}")
        slot.launch = launch
        slot.fill(launch.info, time.monotonic())
        self._residents.poke()
        self._news.set()

    def _note_place(self, name: str) -> None:
        self._unplaced.discard(name)
        if not self._unplaced:
            self.placed.set()

    def _version_problems(self, name: str, versions: Found) -> list[str]:
        """Return what a new replica runs otherwise than this process and its siblings: its node may be a new one."""
        if self._ray_spec.address is None:
            return []
        siblings = {other: info.versions for other, info in self.infos.items()}
        return version_problems(read_here(), {**siblings, name: versions})

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run something beside the pool, as long as it is up."""
        if self._tasks is not None:
            return self._tasks.create_task(work)
        work.close()
        return None

    async def _watch(self, slot: Slot) -> str:
        """Return why the replica is lost, once it is."""
        launch = slot.launch
        assert launch is not None
        while True:
            try:
                async with asyncio.timeout(self._spec.stall_timeout_s):
                    collected = wire.decode_collected(await launch.actor.collect.remote())
                    self._take(slot, collected)
                    if slot.problem:
                        return slot.problem
                    if not collected.problem and self._needs_canary(slot):
                        slot.asked_at = time.monotonic()
                        await launch.actor.canary.remote()
            except TimeoutError:
                return f"{slot.name} hangs: no answer for {self._spec.stall_timeout_s:g} s"
            except Exception as error:  # noqa: BLE001  Ray raises many kinds, and each means that the actor is gone
                return slot.problem or f"{slot.name} died: {_first_line(error)}"
            if collected.problem:
                return f"{slot.name}: {collected.problem}"
            if slot.open and time.monotonic() - slot.moved_at > self._spec.stall_timeout_s:
                return f"{slot.name} hangs: {len(slot.open)} requests and no token for {self._spec.stall_timeout_s:g} s"

    def _needs_canary(self, slot: Slot) -> bool:
        idle_since = max(slot.moved_at, slot.asked_at)
        is_idle = not slot.open and not slot.is_swapping
        return is_idle and time.monotonic() - idle_since > self._spec.canary_s

    def _take(self, slot: Slot, collected: wire.Collected) -> None:
        mine = slot.take(collected, time.monotonic())
        if mine:
            self._done += mine
            self._news.set()
            self._residents.poke()

    async def _lose(self, slot: Slot, reason: str) -> None:
        self._say(f"{reason}; {len(slot.open)} open requests come back")
        launch, slot.launch = slot.launch, None
        slot.live("lost")
        lost, slot.open, slot.outbox = slot.open, set(), []
        for key in lost:
            self._complete(key, "replica_lost", reason)
        self._news.set()
        self._residents.poke()
        if launch is not None:
            await launch.kill()

    def _give_up(self, slot: Slot, reason: str) -> None:
        slot.is_given_up = True
        self._say(f"{slot.name} is given up after {slot.restarts} restarts")
        if all(other.is_given_up for other in self._slots.values()):
            self._down = f"pool {self._spec.name} has no replica left; the last one: {reason}"
        self._news.set()
        self._residents.poke()

    # ------------------------------------------------------------ sending

    def _least_busy(self) -> Slot | None:
        up = [slot for slot in self._slots.values() if slot.is_taking]
        ready = [slot for slot in up if slot.gauges.state == "ready"] or up
        return min(ready, key=lambda slot: len(slot.open), default=None)

    async def _drain(self, slot: Slot) -> None:
        """Send what is queued for a slot, one message at a time: what comes meanwhile travels together in the next.

        consumes: the slot's outbox. produces: messages. waits for: the replica's word that it has the last one.
        unblocked by: that, or the replica's end.
        """
        try:
            while slot.outbox:
                queued, slot.outbox = slot.outbox, []
                await self._send(slot, [request for request in queued if request.key in slot.open])
        finally:
            slot.is_sending = False

    async def _send(self, slot: Slot, requests: Sequence[Request]) -> None:
        launch = slot.launch
        if launch is None:
            return  # lost meanwhile: its open requests have come back already
        try:
            await launch.actor.submit.remote(wire.encode(requests))
        except Exception as error:  # noqa: BLE001  a dead actor is the watch's business, anything else the requests'
            if slot.launch is launch and _is_task_error(error):
                for request in requests:
                    if request.key in slot.open:
                        slot.open.discard(request.key)
                        self._complete(request.key, "server_error", _first_line(error))

    @staticmethod
    async def _call(reference: Any) -> None:
        with contextlib.suppress(Exception):  # a dead actor has nothing to cancel
            await reference

    def _complete(self, key: RequestKey, kind: FailureKind, message: str) -> None:
        self._done.append(Completion(*key, failure=Failure(kind, message)))
        self._news.set()


def _is_task_error(error: Exception) -> bool:
    from ray.exceptions import RayTaskError

    return isinstance(error, RayTaskError)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _leaves(group: BaseExceptionGroup[Any]) -> Iterable[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
