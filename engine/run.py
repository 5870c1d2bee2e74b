"""One run from start to end: pools up, cases played, journal closed, pools down.

Knows the order of things and nothing of what is behind a pool. Whatever happens, processes it started are ended and
what is journalled stays.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from engine.admission import PRIOR_TOKENS, Admission
from engine.backend import Backend, Embedder
from engine.caches import cache_directory
from engine.clock import Clock, SystemClock
from engine.config_sections import prices_of
from engine.egress_log import note_run
from engine.elapsed import played_s
from engine.errors import RunError
from engine.files import write_atomic
from engine.interrupt import COPY_GRACE_S, GRACE_S, Interrupt
from engine.journal import Journal, Totals
from engine.journal_place import place_of, take_up
from engine.limits import Meter, Reached, Spent, share_limits, used_before
from engine.memory import resident_bytes, share_one_heap
from engine.metrics import Metrics, MetricsLog
from engine.panel import Panel
from engine.planning import FITTED, Fitted, Plan, RunCast
from engine.record import EpisodeKey, Status
from engine.retry import RetryPolicy
from engine.roster import Ledger, Roster, latest_counts
from engine.run_control import RunControl
from engine.rundir import RunDirectory
from engine.scheduler import Scheduler
from engine.uploader import Uploader

PANEL_INTERVAL_S = 0.5
LATE_S = 15.0
"""What a copy of the journal may take before people are told that the loss bound does not hold."""


class Crew(Protocol):
    """The served side of a run."""

    @property
    def pools(self) -> Mapping[str, Backend]:
        """Model name to backend."""

    @property
    def embedder(self) -> Embedder | None:
        """The embedder, None when the protocol needs none."""

    async def start(self) -> None:
        """Bring everything up, side by side. Raises BackendDown with a reason."""

    async def close(self) -> None:
        """End everything that was started."""

    def abort(self) -> None:
        """End every process at once, without awaiting."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What this invocation did.

    `before` and `after` are the run's totals, `episodes` counts each (case, repeat) once, by the status of its latest
    try; times are seconds.
    """

    before: Totals
    after: Totals
    episodes: dict[str, int]
    startup_s: float
    elapsed_s: float
    num_unplayed: int
    interrupted: int | None = None
    spent: Spent | None = None
    reached: tuple[Reached, ...] = ()


async def play(plan: Plan, rundir: RunDirectory, crew: Crew, panel: Panel, extra: Iterable[EpisodeKey] = ()) -> Result:
    """Play every episode of the plan, and `extra` tries, that has no terminal record yet.

    The caller holds the directory's lock.

    Raises RunError when the run cannot go on. An interrupt returns a result with its exit code instead.
    """
    share_one_heap()
    try:
        run = Run(plan, rundir, crew, panel, plan.roster(extra))
    except BaseException:
        await crew.close()
        raise
    control = RunControl(run, panel.say)
    task = asyncio.ensure_future(run.play())
    grace_s = GRACE_S if run.journal.copy_age_s is None else COPY_GRACE_S
    with Interrupt(lambda: run.stop(task), crew.abort, grace_s) as interrupt:
        try:
            if run.num_open:
                await control.open()
            await task
        except asyncio.CancelledError:
            if interrupt.code is None:
                raise
        finally:
            await control.close()
            await run.close(is_hasty=interrupt.code is not None)
        return run.result(interrupt.code)


class Run:
    """One scheduler with its journal and its crew; `journal` is the index of the journal that its episodes go to."""

    def __init__(
        self, plan: Plan, rundir: RunDirectory, crew: Crew, panel: Panel, roster: Roster, journal: int = 0
    ) -> None:
        self.plan = plan
        self.rundir = rundir
        self.crew = crew
        self.panel = panel
        self.roster = roster
        self.clock: Clock = SystemClock()
        self.index = journal
        self.uploader = Uploader(rundir, plan.config.corpus, journal, panel.say) if plan.config.corpus.target else None
        place = place_of(plan.config.journal, rundir)
        local, news = take_up(place, rundir, journal)
        self._news = [*place.lines(), *news]
        self.journal = Journal.open(
            rundir,
            index=journal,
            seal_every=plan.config.scheduler.seal_every,
            exclusive=place.is_exclusive,
            ended=Ledger(roster),
            named=self.uploader.wake if self.uploader is not None else None,
            local=local,
        )
        self._metrics_path = rundir.metrics_of(journal)
        self.before = self.journal.totals()
        if self.uploader is not None and self.before.episodes:
            self.uploader.wake()
        self.scheduler: Scheduler | None = None
        self.meter: Meter | None = None
        self._is_late = False
        self.begun_at = self.clock.now()
        self.started_at: float | None = None
        self.ended_at: float | None = None

    def stop(self, task: "asyncio.Future[Any]") -> None:
        """Stop admitting; before the scheduler plays, give up starting."""
        self.panel.say("stopping: what is journalled stays")
        if self.scheduler is not None:
            self.scheduler.stop()
        else:
            task.cancel()

    @property
    def pools(self) -> Mapping[str, Backend]:
        """Model name to backend."""
        return self.crew.pools

    @property
    def num_live(self) -> int | None:
        """Live episodes, None while nothing is played yet."""
        return None if self.scheduler is None else self.scheduler.num_live

    @property
    def num_open(self) -> int:
        """Keys without a terminal record."""
        ended = self.journal.ended()
        others = sum(row.key not in self.roster for row in self.journal.live())
        return others + sum(key not in ended for key in self.roster)

    async def play(self) -> None:
        """Bring the pools up and play; where a limit is reached already, nothing is brought up."""
        if not self.num_open:
            return
        self.meter = self._make_meter()
        if self._reached():
            return
        self.panel.start()
        for line in self._news:
            self.panel.say(line)
        if self.plan.config.shards == 1:
            note_run(self.plan, self.rundir.path, self.clock.time())
        await self.crew.start()
        await self._fit()
        metrics = self._metrics()
        self.scheduler = self._scheduler(metrics)
        self.started_at = self.clock.now()
        if self.meter is not None:
            self.meter.begin(self.started_at)
        reporter = asyncio.ensure_future(self._report(metrics))
        try:
            await self.scheduler.run()
        finally:
            self.ended_at = self.clock.now()
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)

    async def close(self, *, is_hasty: bool) -> None:
        """Close the journal (sealing what has ended) and end everything that was started."""
        self.panel.stop()
        try:
            await self.journal.close()
        finally:
            if self.uploader is not None:
                await self.uploader.close(is_hasty=is_hasty)
            if is_hasty:
                self.crew.abort()
            else:
                await self.crew.close()

    def result(self, interrupted: int | None) -> Result:
        """Return what happened."""
        now = self.clock.now()
        started_at = self.started_at if self.started_at is not None else now
        ended_at = self.ended_at if self.ended_at is not None else now
        return Result(
            before=self.before,
            after=self.journal.totals(),
            episodes=latest_counts(self.journal.ended()),
            startup_s=started_at - self.begun_at,
            elapsed_s=ended_at - started_at,
            num_unplayed=self.num_open,
            interrupted=interrupted,
            spent=self.meter.spent(ended_at) if self.meter is not None else None,
            reached=tuple(self._reached()) if self.num_open else (),
        )

    def _reached(self) -> list[Reached]:
        return [] if self.meter is None else self.meter.reached(self.ended_at or self.clock.now())

    def _make_meter(self) -> Meter | None:
        """Return what counts against this scheduler's share of the limits, None without limits; from disk alone."""
        config = self.plan.config
        if not config.limits.is_set:
            return None
        return Meter(
            share_limits(config.limits, self.index, config.shards),
            prices={name: prices_of(config.models[name]) for name in config.roles.values()},
            before=used_before(config, self.before, self.journal.live_calls()),
            played_s=played_s(self._metrics_path),
        )

    async def _fit(self) -> None:
        """Fit the protocol to the embedder once per run; a resumed run must meet the same embedder."""
        plan, embedder = self.plan, self.crew.embedder
        if embedder is None or not plan.spec.needs_embedder:
            return
        for caution in plan.spec.cautions(plan.rules, embedder.identity) if plan.spec.cautions else ():
            self.panel.say(f"warning: {caution}")
        kept = plan.fitted.embedder
        if kept:
            if kept != embedder.identity:
                raise RunError(f"the embedder must stay the same: it was {kept}, got {embedder.identity}")
            return
        cut = await plan.spec.fit(plan.rules, embedder, cache_directory()) if plan.spec.fit else None
        plan.fitted = Fitted(cut=cut, embedder=embedder.identity)
        write_atomic(self.rundir.path / FITTED, msgspec.json.encode(plan.fitted))

    def _metrics(self) -> Metrics:
        return Metrics(
            now=self.clock.now(),
            total=len(self.roster),
            ended=self._ended_counts(),
            turns=self.plan.spec.turns,
            roles=self.plan.spec.roles,
        )

    def _ended_counts(self) -> dict[Status, int]:
        counts: dict[Status, int] = {}
        for key, status in self.journal.ended().items():
            if key in self.roster:
                counts[status] = counts.get(status, 0) + 1
        return counts

    def _scheduler(self, metrics: Metrics) -> Scheduler:
        chosen = self.plan.config.scheduler
        return Scheduler(
            cast=RunCast(self.plan),
            keys=self.roster,
            pools=self.crew.pools,
            roles=self.plan.config.roles,
            embedder=self.crew.embedder,
            journal=self.journal,
            admission=Admission(
                None if chosen.max_live == "auto" else chosen.max_live,
                prior_tokens=self.plan.expected_context or PRIOR_TOKENS,
            ),
            retry=RetryPolicy(max_attempts=chosen.max_attempts, max_wait_s=chosen.max_wait_s),
            metrics=metrics,
            clock=self.clock,
            request_timeout_s=chosen.request_timeout_s,
            meter=self.meter,
        )

    async def _report(self, metrics: Metrics) -> None:
        """Feed the panel and `metrics.jsonl`; its own oversleeping is the loop's lag."""
        log = MetricsLog(self._metrics_path, self.plan.config.scheduler.metrics_interval_s)
        try:
            while True:
                due = self.clock.now() + PANEL_INTERVAL_S
                await self.clock.sleep(PANEL_INTERVAL_S)
                now = self.clock.now()
                metrics.lag(max(now - due, 0.0))
                self._observe(metrics, now)
                if log.is_due(now):
                    self._log(log, metrics, now)
        finally:
            now = self.clock.now()
            self._observe(metrics, now)
            self._log(log, metrics, now)

    def _log(self, log: MetricsLog, metrics: Metrics, now: float) -> None:
        copied = self.uploader.gauges() if self.uploader is not None else {}
        driver = {"driver/resident_bytes": resident_bytes(), **self.journal.gauges().named}
        log.write(now, self.clock.time(), metrics.drain(now) | driver | copied)

    def _observe(self, metrics: Metrics, now: float) -> None:
        for name, backend in self.crew.pools.items():
            metrics.replicas(name, backend.replicas())
        self.panel.update(metrics.snapshot(now))
        for reached in self._reached():
            self.panel.say(f"{reached}: what is in flight is waited for")
        self._observe_copy()

    def _observe_copy(self) -> None:
        """Say once when the bound on what a lost node costs does not hold, as when a file server hangs."""
        age_s, every_s = self.journal.copy_age_s or 0.0, self.plan.config.journal.copy_every_s
        is_late = age_s > every_s + max(every_s, LATE_S)
        if is_late and not self._is_late:
            self.panel.say(f"warning: the journal's copy is {age_s:.0f} s old, and {every_s:g} s were asked for")
        self._is_late = is_late
