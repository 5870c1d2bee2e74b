"""Row: turns per second through the batched wire, from the fleet to fake replicas in Ray actors and back.

The fleet, its watch, the envelopes and Ray are the real ones; a replica decodes each request and answers at once. A
closed loop keeps `WINDOW` requests open per replica, sent in the scheduler's batches.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from actors import wire
from actors.cluster import actor_environment
from actors.fleet import Fleet
from actors.launch import Launch
from actors.processes import ProcessTable, describe_tree
from actors.slot import Slot
from actors.spec import ModelSpec, RaySpec
from benchmarks.figures import Figure, figure
from benchmarks.instant import words
from engine.backend import Completion, ReplicaGauges, Request
from engine.mailroom import CHUNK
from engine.steps import Reply, Sampling, Usage
from engine.views import Message

ITEM_BYTES = 4096
REPLICAS = 2
WINDOW = 1024
NOTE = "Messages of 32 items exceed Ray's inline limit of 100 kB: 1.8 ms of the driver each, through the object store."
TURNS = 100_000


class FakeReplica:
    """The wire side of a replica: takes batches, answers each request at once, long-polls."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._done: list[Completion] = []
        self._news = asyncio.Event()
        self._num_steps = 0

    async def start(self) -> bytes:
        """Return `ReplicaInfo`."""
        info = wire.ReplicaInfo(self._name, describe_tree(self._name), 1 << 30, 1 << 20, 1 << 16, "fake", "fake")
        return wire.encode(info)

    async def submit(self, batch: bytes) -> None:
        """Answer a batch."""
        for request in wire.decode_requests(batch):
            reply = Reply(request.messages[-1].text[:400], usage=Usage(1000, 100, 900), replica=self._name)
            self._done.append(Completion(*request.key, reply=reply))
        self._num_steps += 1
        self._news.set()

    async def collect(self) -> bytes:
        """Return what is done, once something is."""
        try:
            async with asyncio.timeout(0.5):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()
        done, self._done = self._done, []
        gauges = ReplicaGauges(self._name, slots=1 << 16)
        return wire.encode(wire.Collected(done, gauges, self._num_steps))

    async def stop(self) -> None:
        """Nothing to end."""

    async def canary(self) -> None:
        """Nothing to show."""


class FakeFleet(Fleet):
    """The fleet over fake replicas: only the start of a replica differs."""

    _table: ProcessTable

    async def _bring_up(self, slot: Slot) -> None:
        import ray

        slot.live("starting")
        options = {"num_cpus": 0.5, "runtime_env": {"env_vars": actor_environment({})}}
        place = ray.util.placement_group([{"CPU": 0.5}], strategy="PACK")
        strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(place)
        actor: Any = ray.remote(FakeReplica).options(**options, scheduling_strategy=strategy).remote(slot.name)
        launch = Launch(slot.name, actor, place, self._table)
        launch.info = wire.decode_info(await actor.start.remote())
        slot.launch = launch
        slot.fill(launch.info, time.monotonic())


def make_request(number: int, replica: str, text: str) -> Request:
    """Return a request of a mid-dialogue view whose wire form has about `ITEM_BYTES`."""
    messages = (Message("system", text[:1200]), Message("user", text[1200:2500]), Message("user", text[2500:]))
    sampling = Sampling(256)
    return Request(
        f"case-{number % 5000}.0", f"{number}/patient", 0, "patient", "turn", messages, sampling, replica=replica
    )


def make_text() -> str:
    """Return a text with which a request takes `ITEM_BYTES` on the wire."""
    text = words(2000)
    spare = len(wire.encode([make_request(12345, "base/0", text[:3000])])) - 3000
    return text[: ITEM_BYTES - spare]


async def pump(fleet: Fleet, turns: int) -> float:
    """Return turns per second of a closed loop."""
    text, names = make_text(), itertools.cycle([gauges.replica for gauges in fleet.replicas()])
    requests = (make_request(number, next(names), text) for number in range(turns))
    begun = time.perf_counter()
    await _send(fleet, list(itertools.islice(requests, WINDOW * REPLICAS)))
    num_done = 0
    while num_done < turns:
        done = await fleet.collect()
        assert all(one.reply is not None for one in done), "a fake replica must answer everything"
        num_done += len(done)
        await _send(fleet, list(itertools.islice(requests, len(done))))
    return turns / (time.perf_counter() - begun)


async def _send(fleet: Fleet, batch: Sequence[Request]) -> None:
    for start in range(0, len(batch), CHUNK):
        await fleet.submit(batch[start : start + CHUNK])


async def _measure(repeats: int, turns: int) -> tuple[list[float], dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="sandplay-wire-") as scratch:
        processes = ProcessTable(Path(scratch) / "processes.json")
        spec = ModelSpec(name="base", path=scratch, replicas=REPLICAS, canary_s=1e6)
        fleet = FakeFleet(spec, RaySpec(), processes, lambda _: None)
        fleet._table = processes
        await fleet.start()
        try:
            await pump(fleet, turns // 10)
            rates = [await pump(fleet, turns) for _ in range(repeats)]
        finally:
            await fleet.close()
    request = make_request(12345, "base/0", make_text())
    reply = Completion(*request.key, reply=Reply(request.messages[-1].text[:400], usage=Usage(1000, 100, 900)))
    about = {
        "request_bytes": len(wire.encode([request])),
        "completion_bytes": len(msgspec.msgpack.encode(reply)),
        "replicas": REPLICAS,
        "open_per_replica": WINDOW,
        "turns": turns,
    }
    return rates, about


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return turns per second, with the bytes of an item either way."""
    rates, about = uvloop.run(_measure(repeats, TURNS // 20 if brief else TURNS))
    return [figure("ray_wire_turns_per_s", "turns/s", rates, goal=20_000.0, configuration=about, note=NOTE)]
