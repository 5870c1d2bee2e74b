"""Play a plan on simulated pools: the unmodified scheduler, in virtual time, with no journal.

The scheduler, the protocol and every policy are the real ones; only the pools, the embedder, the journal and the clock
are not. The same plan and settings give the same prediction, but for the real time it took.
"""

import time
from collections.abc import Callable

import msgspec

from engine.admission import Admission
from engine.dryrun import forecast
from engine.journal_off import JournalOff
from engine.metrics import Metrics
from engine.planning import Plan, RunCast
from engine.record import EpisodeKey, EpisodeRecord
from engine.retry import RetryPolicy
from engine.scheduler import Scheduler
from engine.simulation.embedder import SimulatedEmbedder
from engine.simulation.loop import VirtualClock, run_virtual
from engine.simulation.pools import Pools, Settings, make_pools
from engine.simulation.prediction import Course, Prediction, predict
from engine.token_count import bytes_count


def simulate(plan: Plan, settings: Settings, keep: Callable[[EpisodeRecord], None] | None = None) -> Prediction:
    """Play a plan and return what is to be expected of it; `keep` is given every finished episode.

    Raises InputError when a pool cannot be simulated, RunError when the run cannot go on.
    """
    begun = time.perf_counter()
    made = make_pools(plan, settings)
    prediction = run_virtual(play_virtually(plan, made, keep))
    real_s = time.perf_counter() - begun
    speedup = prediction.elapsed_s / max(real_s, 1e-9)
    return msgspec.structs.replace(prediction, assumptions=made.assumptions, real_s=real_s, speedup=speedup)


async def play_virtually(plan: Plan, made: Pools, keep: Callable[[EpisodeRecord], None] | None = None) -> Prediction:
    """Play a plan on the running virtual loop."""
    clock, pools, chosen = VirtualClock(), made.pools, plan.config.scheduler
    max_live = None if chosen.max_live == "auto" else chosen.max_live
    keys = list(plan.roster())
    prior_tokens = plan.expected_context or forecast(plan, bytes_count).expected_context
    for pool in pools.values():
        await pool.start()
    metrics = Metrics(now=clock.now(), total=len(keys), turns=plan.spec.turns, roles=plan.spec.roles)
    journal = Observer(clock, made, len(keys), keep)
    scheduler = Scheduler(
        cast=RunCast(plan),
        keys=keys,
        pools=pools,
        roles=plan.config.roles,
        embedder=SimulatedEmbedder(made.similarities, clock) if plan.spec.needs_embedder else None,
        journal=journal,
        admission=Admission(max_live, prior_tokens=prior_tokens),
        retry=RetryPolicy(max_attempts=chosen.max_attempts, max_wait_s=chosen.max_wait_s),
        metrics=metrics,
        clock=clock,
        request_timeout_s=chosen.request_timeout_s,
    )
    await scheduler.run()
    return predict(pools, journal.course, metrics.snapshot(clock.now()), len(keys), max_live)


class Observer(JournalOff):
    """A journal that keeps nothing but the course of the run."""

    def __init__(
        self, clock: VirtualClock, made: Pools, total: int, keep: Callable[[EpisodeRecord], None] | None
    ) -> None:
        super().__init__()
        self.course = Course()
        self._clock = clock
        self._left = total
        self._engines = [engine for pool in made.pools.values() for engine in pool.engines]
        self._num_slots = sum(engine.shape.slots for engine in self._engines)
        self._num_live = 0
        self._keep = keep
        self.is_kept = keep is not None

    def admit(self, key: EpisodeKey, seed: int, started_at: float) -> None:
        """Note when an episode began."""
        self.course.began[str(key)] = self._clock.now()
        self._num_live += 1
        self.course.max_live = max(self.course.max_live, self._num_live)

    def end(self, record: EpisodeRecord, done: Callable[[], None] | None = None) -> None:
        """Note how an episode ended, and whether the tail has begun."""
        super().end(record, done)
        self._num_live -= 1
        self._left -= 1
        course, now = self.course, self._clock.now()
        course.ended.append((now, record.episode, record.status))
        if course.tail_from is None and self._left < self._num_slots:
            free = self._num_slots - sum(engine.num_running for engine in self._engines)
            if free > self._left:
                course.tail_from = now
        if self._keep is not None:
            self._keep(record)
