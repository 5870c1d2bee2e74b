"""The product as a contender: real scheduler, real journal on disk, any backend; answers forced to the recorded ids.

Nothing of the product is replaced. A thin backend changes the requests on their way out: when a run is recorded it
draws how long each reply may be, when it is replayed it adds the recorded ids.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from actors import wire
from actors.rendering import PromptRenderer
from actors.replica import Replica
from benchmarks.instant import InstantEmbedder
from benchmarks.real.outcome import Finish, Outcome
from benchmarks.real.recording import calls_of_all
from benchmarks.real.workload import POOL, Workload
from benchmarks.trace import Call, digest
from engine.admission import Admission
from engine.backend import Backend, Completion, ReplicaGauges, Request, RequestKey
from engine.clock import SystemClock
from engine.dryrun import forecast
from engine.journal import Journal
from engine.metrics import Metrics
from engine.planning import RunCast
from engine.record import EpisodeKey, EpisodeRecord
from engine.retry import RetryPolicy
from engine.rundir import RunDirectory
from engine.scheduler import Scheduler
from engine.token_count import bytes_count

Change = Callable[[Request], Request]


class Adapted:
    """A backend that changes each request on its way to another one, and leaves that one's life to its owner."""

    def __init__(self, inner: Backend, change: Change) -> None:
        self._inner = inner
        self._change = change

    @property
    def max_context(self) -> int | None:
        """The inner backend's."""
        return self._inner.max_context

    async def start(self) -> None:
        """Do nothing: the inner backend is started."""

    async def submit(self, batch: Sequence[Request]) -> None:
        """Change and pass on."""
        await self._inner.submit([self._change(request) for request in batch])

    async def collect(self) -> list[Completion]:
        """Pass on."""
        return await self._inner.collect()

    async def cancel(self, keys: Sequence[RequestKey]) -> None:
        """Pass on."""
        await self._inner.cancel(keys)

    async def forget(self, episode: str) -> None:
        """Pass on."""
        await self._inner.forget(episode)

    def replicas(self) -> Sequence[ReplicaGauges]:
        """Pass on."""
        return self._inner.replicas()

    async def close(self) -> None:
        """Do nothing: the inner backend is played on again."""


def limiting(workload: Workload) -> Change:
    """Return what a recording changes: each call may say as many tokens as the workload draws for it."""

    def change(request: Request) -> Request:
        length = workload.length(request.episode, request.path)
        sampling = msgspec.structs.replace(request.sampling, max_tokens=length)
        return msgspec.structs.replace(request, sampling=sampling)

    return change


def forcing(calls: Sequence[Call]) -> Change:
    """Return what a replay changes: each call gets its recorded ids."""
    recorded: Mapping[tuple[str, str], tuple[int, ...]] = {call.key: call.completion_ids for call in calls}

    def change(request: Request) -> Request:
        ids = recorded[request.episode, request.path]
        sampling = msgspec.structs.replace(request.sampling, max_tokens=len(ids))
        return msgspec.structs.replace(request, sampling=sampling, forced_ids=ids)

    return change


class InProcess:
    """A replica object in this process as a backend: the same wire and the same code as the Ray actor, without Ray."""

    def __init__(self, replica: Replica, info: wire.ReplicaInfo) -> None:
        self._replica = replica
        self._gauges = ReplicaGauges(info.replica, slots=info.slots, kv_tokens=info.kv_tokens, weights=info.weights)
        self.max_context: int | None = info.max_context

    async def start(self) -> None:
        """Do nothing: the replica is started."""

    async def submit(self, batch: Sequence[Request]) -> None:
        """Hand over a batch."""
        await self._replica.submit(wire.encode(batch))

    async def collect(self) -> list[Completion]:
        """Wait for completions."""
        collected = wire.decode_collected(await self._replica.collect())
        self._gauges = collected.gauges
        return collected.completions

    async def cancel(self, keys: Sequence[RequestKey]) -> None:
        """Stop working on requests."""
        await self._replica.cancel(wire.encode(keys))

    async def forget(self, episode: str) -> None:
        """Nothing to do: replicas keep no dialogue state."""

    async def forget_prefixes(self) -> bool:
        """Empty the prefix cache."""
        return await self._replica.forget_prefixes()

    def replicas(self) -> Sequence[ReplicaGauges]:
        """Return the one replica's gauges."""
        return [self._gauges]

    async def close(self) -> None:
        """Do nothing: the replica is its owner's."""


class Played(msgspec.Struct, frozen=True):
    """One run: when it began (Unix time), seconds from there to its last episode, the completed records."""

    begun: float
    wall_s: float
    records: list[EpisodeRecord]

    @property
    def episodes_per_s(self) -> float:
        """Episodes over the whole run."""
        return len(self.records) / self.wall_s


class Player:
    """Plays a workload through the product. `renderer` is the served model's."""

    def __init__(self, workload: Workload, renderer: PromptRenderer) -> None:
        self._workload = workload
        self._plan = workload.plan()
        self._keys = workload.keys(self._plan)
        self._renderer = renderer

    @property
    def episodes(self) -> list[str]:
        """The names of all episodes, in the order in which they are admitted."""
        return [str(key) for key in self._keys]

    async def record(self, backend: Backend) -> list[Call]:
        """Play everything once, all dialogues live, and return the calls."""
        return self._calls((await self._play(backend, len(self._keys), self._keys)).records)

    async def measure(
        self, backend: Any, calls: Sequence[Call], max_live: int | None, num_episodes: int | None = None
    ) -> Outcome:
        """Replay from an empty prefix cache and time it; all episodes, or the first few.

        `max_live` None leaves admission to the KV cache. Raises RuntimeError when the cache cannot be emptied.
        """
        preempted = _preemptions(backend)
        played = await self.replay(backend, calls, max_live, num_episodes)
        return Outcome(played.wall_s, self._finishes(played), _preemptions(backend) - preempted)

    async def replay(
        self, backend: Any, calls: Sequence[Call], max_live: int | None, num_episodes: int | None = None
    ) -> Played:
        """As `measure`, but return the records."""
        if not await backend.forget_prefixes():
            raise RuntimeError("the prefix cache must be empty at the start, got blocks in use: end all requests first")
        return await self._play(Adapted(backend, forcing(calls)), max_live, self._keys[:num_episodes])

    async def _play(self, backend: Backend, max_live: int | None, keys: Sequence[EpisodeKey]) -> Played:
        """Raises RuntimeError when an episode did not complete."""
        with tempfile.TemporaryDirectory(prefix="sandplay-bench-") as scratch:
            journal = Journal.open(RunDirectory.create(Path(scratch) / "run"))
            clock = SystemClock()
            scheduler = Scheduler(
                cast=RunCast(self._plan),
                keys=keys,
                pools={POOL: backend},
                roles=self._plan.config.roles,
                embedder=InstantEmbedder() if self._plan.spec.needs_embedder else None,
                journal=journal,
                admission=Admission(max_live, prior_tokens=forecast(self._plan, bytes_count).expected_context),
                retry=RetryPolicy(),
                metrics=Metrics(now=clock.now(), total=len(keys)),
                clock=clock,
            )
            begun, started = time.time(), time.perf_counter()
            try:
                await scheduler.run()
                wall_s = time.perf_counter() - started
                return Played(begun, wall_s, _completed(journal.episodes(limit=len(keys)), len(keys)))
            finally:
                await asyncio.shield(journal.close())

    def _calls(self, records: Sequence[EpisodeRecord]) -> list[Call]:
        cast = RunCast(self._plan)
        return calls_of_all(records, lambda record: lambda: cast.play(record.key), self._renderer)

    def _finishes(self, played: Played) -> tuple[Finish, ...]:
        replies = {(r.episode, s.path): s.reply for r in played.records for s in r.steps if s.reply is not None}
        finishes = []
        for call in self._calls(played.records):
            reply = replies[call.key]
            work = digest(call.episode, call.path, call.prompt_ids, call.completion_ids)
            finishes.append(Finish(reply.started_at + reply.latency_s - played.begun, reply.usage, work))
        return tuple(finishes)


def _completed(records: list[EpisodeRecord], wanted: int) -> list[EpisodeRecord]:
    failed = [f"{record.episode}: {record.error}" for record in records if record.status != "completed"]
    if failed or len(records) != wanted:
        raise RuntimeError(f"all {wanted} episodes must complete, got {len(records) - len(failed)}: {failed[:3]}")
    return records


def _preemptions(backend: Backend) -> int:
    return sum(replica.preemptions for replica in backend.replicas())
