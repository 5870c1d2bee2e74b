"""The product in virtual time: the unmodified scheduler over simulated replicas, and what came of one run.

A policy is switched off where it acts: admission by another bound, routing by another router, order by the priority on
the wire.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from benchmarks.real.outcome import Finish, Outcome
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.workload import POOL, Workload
from engine.admission import Admission
from engine.backend import Completion, Request
from engine.journal_off import JournalOff
from engine.metrics import Metrics
from engine.planning import RunCast
from engine.record import EpisodeRecord
from engine.retry import RetryPolicy
from engine.routing import Router
from engine.scheduler import Scheduler
from engine.simulation.backend import Demand, SimulatedBackend
from engine.simulation.embedder import SimulatedEmbedder
from engine.simulation.faults import Fault
from engine.simulation.jobs import Tally
from engine.simulation.loop import VirtualClock, run_virtual

Change: TypeAlias = Callable[[Request], Request]


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated run. `real_s` is what simulating it took, `ended_s` when each episode ended (virtual)."""

    outcome: Outcome
    demand: Demand
    tallies: list[Tally]
    real_s: float
    ended_s: list[float]
    moves: int

    @property
    def episodes_per_s(self) -> float:
        """Episodes per virtual second, ramp and tail included."""
        return len(self.ended_s) / self.outcome.wall_s

    @property
    def steady_episodes_per_s(self) -> float:
        """Episodes per virtual second in the steady state: the whole run's, in proportion to the tokens' rate."""
        return self.episodes_per_s * self.outcome.steady_rate / self.outcome.rate

    @property
    def preemptions_per_1k(self) -> float:
        """Preemptions per 1,000 calls."""
        return 1000 * self.outcome.preemptions / len(self.outcome.finishes)

    @property
    def hit_ratio(self) -> float:
        """Cached prompt tokens over those that a cache that forgets nothing would have held."""
        return self.demand.cached_tokens / max(self.demand.possible_tokens, 1)


class _Pool(SimulatedBackend):
    """A simulated pool that notes when completions came, and may change requests on their way."""

    change: Change | None = None
    recorder: Recorder
    finishes: list[Finish]

    async def submit(self, batch: Sequence[Request]) -> None:
        """Put requests on the wire, changed."""
        change = self.change
        await super().submit(batch if change is None else [change(request) for request in batch])

    async def collect(self) -> list[Completion]:
        """Wait for completions and note them."""
        done = await super().collect()
        now, works = asyncio.get_running_loop().time(), self.recorder.works
        for one in done:
            if one.reply is not None:
                self.finishes.append(Finish(now, one.reply.usage, works[one.episode, one.path]))
        return done


class _Ends(JournalOff):
    """Notes when episodes end."""

    def __init__(self) -> None:
        super().__init__()
        self.at_s: list[float] = []

    def end(self, record: EpisodeRecord, done: Callable[[], None] | None = None) -> None:
        """Note the end."""
        assert record.status == "completed", f"{record.episode} must complete, got {record.status}: {record.error}"
        self.at_s.append(asyncio.get_running_loop().time())
        super().end(record, done)


def play(
    workload: Workload,
    *,
    replicas: int = 1,
    admission: Admission | None = None,
    router: Callable[[], Router] = Router,
    change: Change | None = None,
    recorder: Recorder | None = None,
    faults: Sequence[Fault] = (),
) -> Played:
    """Play a workload once. `admission` None leaves it to the KV cache; `change` alters requests on the wire."""
    plan = workload.plan()
    keys = workload.keys(plan)
    journal = _Ends()
    recorder = recorder or Recorder(workload.answers())
    routing = router()

    async def run() -> tuple[_Pool, float]:
        clock = VirtualClock()
        pool = _Pool(
            answers=recorder,
            tokens=workload.make_tokens(),
            shape=workload.shape,
            coefficients=workload.coefficients,
            replicas=replicas,
            faults=faults,
        )
        pool.change, pool.recorder, pool.finishes = change, recorder, []
        scheduler = Scheduler(
            cast=RunCast(plan),
            keys=keys,
            pools={POOL: pool},
            roles=plan.config.roles,
            embedder=SimulatedEmbedder(workload.similarities(), clock),
            journal=journal,
            admission=admission or Admission(None),
            retry=RetryPolicy(),
            metrics=Metrics(now=0.0, total=len(keys)),
            clock=clock,
            request_timeout_s=1e7,
            router=lambda: routing,
        )
        await scheduler.run()
        return pool, clock.now()

    begun = time.perf_counter()
    pool, wall_s = run_virtual(run())
    tallies = [engine.tally for engine in pool.engines]
    return Played(
        outcome=Outcome(wall_s, tuple(pool.finishes), sum(tally.preemptions for tally in tallies)),
        demand=pool.demand,
        tallies=tallies,
        real_s=time.perf_counter() - begun,
        ended_s=journal.at_s,
        moves=routing.num_moves,
    )
