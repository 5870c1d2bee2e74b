"""The loop: the only place that awaits on behalf of dialogues.

    cases -> admission -> live dialogues -> batches per replica -> completions -> journal -> corpus

One task group owns every task. Decisions are made by pure policies (admission, routing, retry); state is touched only
between awaits, on one loop, so there are no locks. Invariants: an admitted episode ends in exactly one terminal record
or stays live in the journal; its permit is held until that record is durable; a late answer to an old attempt is
dropped; the loop never waits for a commit, it only pauses while the journal's queue is full.
"""

import asyncio
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from msgspec.structs import replace

from engine.admission import Admission, Pool
from engine.backend import Backend, Embedder, EmbeddingFailed, Failure
from engine.clock import Clock
from engine.collector import Collector, calm
from engine.dialogue import Answer, Dialogue
from engine.errors import BackendDown, ProtocolDrift, StepFailed, first_cause
from engine.journal import Journal
from engine.journal import LiveEpisode as LiveRow
from engine.journal_off import JournalOff
from engine.limits import Meter
from engine.live import SPENT, LiveEpisode, OpenStep
from engine.mailroom import Arrival, Mailroom
from engine.metrics import Metrics
from engine.ordering import Order
from engine.protocol import EMBEDDER
from engine.record import AttemptRecord, EpisodeKey
from engine.recording import Identity, build_record, build_stub
from engine.retry import RetryPolicy
from engine.returning import Returning
from engine.routing import Router
from engine.steps import Generate, Leaf, Reply
from engine.steps import Protocol as Play

WAVE: Final = 16
"""Dialogues started, or similarity steps answered, between two passes of the loop."""

MAX_TEXT_STEPS: Final = 256
"""Similarity steps put to the embedder in one call."""


class Cast(Protocol):
    """Who is played: turns an episode key into its identity and a fresh protocol generator."""

    def identity(self, key: EpisodeKey, started_at: float) -> Identity:
        """Return what the record says of the episode."""

    def play(self, key: EpisodeKey) -> Play[Any]:
        """Return a fresh generator."""


class Scheduler:
    """Plays episodes until every key has a terminal record, until stopped, or until a limit of `meter` is reached.

    Then nothing more is sent; what is in flight is waited for and journalled.
    """

    def __init__(
        self,
        *,
        cast: Cast,
        keys: Iterable[EpisodeKey],
        pools: Mapping[str, Backend],
        roles: Mapping[str, str],
        embedder: Embedder | None,
        journal: Journal | JournalOff,
        admission: Admission,
        retry: RetryPolicy,
        metrics: Metrics,
        clock: Clock,
        request_timeout_s: float = 1800.0,
        router: Callable[[], Router] = Router,
        meter: Meter | None = None,
    ) -> None:
        self.cast = cast
        self.pools = pools
        self.roles = roles
        self.embedder = embedder
        self.journal = journal
        self.admission = admission
        self.retry = retry
        self.metrics = metrics
        self.clock = clock
        self.meter = meter
        self._num_live = 0
        # Steps of shed dialogues, with their pools.
        self._withheld: dict[str, list[tuple[str, OpenStep]]] = {}
        self._collector = Collector()
        # Read once per batch: what happens between two awaits happens at one moment.
        self._now = clock.now()
        # Hashes and records that nobody keeps would be a quarter of a turn's cost.
        self._is_kept = journal.is_kept
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._returning = Returning(journal)
        self._keys = self._fresh(keys)
        self._next: EpisodeKey | LiveRow | None = None
        self._order = Order()
        self._mailrooms = {
            name: Mailroom(backend, router(), clock, request_timeout_s, self._order, self._take, meter)
            for name, backend in pools.items()
        }
        self._texts: asyncio.Queue[OpenStep] = asyncio.Queue(maxsize=0)  # bounded by the open steps of live dialogues
        self._is_embedding = False
        self._roles_per_pool = {name: sum(pool == name for pool in roles.values()) for name in pools}

    @property
    def num_live(self) -> int:
        """Episodes that hold a permit: being played, or ended and not yet durable."""
        return self._num_live

    def stop(self) -> None:
        """Stop admitting and return from `run`; live episodes stay live in the journal."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Play until all keys are terminal, `stop` is called, or a limit is reached and nothing is in flight.

        Consumes: keys, completions. Produces: journal rows. Waits for: room in the journal, completions, commits.
        Unblocked by: `_wake`. Raises RunError (BackendDown, JournalError, ProtocolDrift) when the run cannot go on.
        """
        try:
            with calm():
                await self._run()
        except BaseExceptionGroup as failed:
            raise first_cause(failed) from failed
        await self.journal.flush()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._deliver_texts(), name="similarities"),
                group.create_task(self.journal.watch(), name="journal"),
            ]
            for name, mailroom in self._mailrooms.items():
                tasks += [
                    group.create_task(mailroom.send(), name=f"send {name}"),
                    group.create_task(mailroom.receive(self.journal.room), name=f"receive {name}"),
                    group.create_task(mailroom.watch(), name=f"watch {name}"),
                ]
            await self._play()
            for task in tasks:
                task.cancel()
            for mailroom in self._mailrooms.values():
                await mailroom.announce()

    async def _play(self) -> None:
        while not self._is_stopping:
            await self.journal.room()
            self._resume()
            await self._admit()
            self._order.is_tail = self._next is None and self.admission.holds_all(self.num_live, self._pool_figures())
            if (self._next is None and not self.num_live) or (self._is_spent and self._is_idle):
                return
            await self._wake.wait()
            self._wake.clear()

    @property
    def _is_spent(self) -> bool:
        """Whether a limit is reached."""
        return self.meter is not None and not self.meter.room(self.clock.now())

    @property
    def _is_idle(self) -> bool:
        """Whether no answer is being waited for."""
        return self._texts.empty() and not self._is_embedding and all(room.is_idle for room in self._mailrooms.values())

    async def _admit(self) -> None:
        """Start dialogues while admission has room; those the journal holds live come first."""
        while not (self._is_stopping or self._is_spent) and (self._next is not None or self._advance()):
            room = self.admission.room(self.num_live, self._pool_figures())
            if room <= 0:
                return
            self._now = self.clock.now()
            for _ in range(min(room, WAVE)):
                chosen, self._next = self._next, None
                assert chosen is not None
                self._start(chosen)
                if not self._advance():
                    return
            await self.journal.room()
            await asyncio.sleep(0)

    def _resume(self) -> None:
        """Ask what was withheld of dialogues that may go on again."""
        for name in self.admission.balance(self._pool_figures()):
            for pool, step in self._withheld.pop(name, ()):
                self._mailrooms[pool].post(step)
        self.metrics.shed(self.admission.num_shed)

    def _advance(self) -> bool:
        """Look one episode ahead; return whether there is one."""
        self._next = self._returning.take() or next(self._keys, None)
        return self._next is not None

    def _fresh(self, keys: Iterable[EpisodeKey]) -> Iterator[EpisodeKey]:
        ended, live = self.journal.ended(), {row.key for row in self.journal.live()}
        return (key for key in keys if key not in ended and key not in live)

    def _pool_figures(self) -> dict[str, Pool]:
        return {
            name: Pool(backend.replicas(), self._roles_per_pool[name])
            for name, backend in self.pools.items()
            if self._roles_per_pool[name]
        }

    def _start(self, chosen: EpisodeKey | LiveRow) -> None:
        """Admit a fresh episode, or replay a live one from its journalled replies."""
        if isinstance(chosen, LiveRow):
            identity = self.cast.identity(chosen.key, chosen.started_at)
            rows = self._returning.steps(chosen)
        else:
            identity = self.cast.identity(chosen, self.clock.time())
            self.journal.admit(chosen, identity.seed, identity.started_at)
            rows = {}
        answers: dict[str, tuple[bytes, Answer]] = {}
        for path, row in rows.items():
            answer = row.reply if row.reply is not None else row.floats
            if answer:
                answers[path] = (row.hash, answer)
        dialogue: Dialogue[Any] = Dialogue(self.cast.play(identity.key), answers)
        live = LiveEpisode(identity, dialogue, {path: row.attempts for path, row in rows.items() if row.attempts})
        self._num_live += 1
        self.admission.start(live.name)
        self.metrics.admitted(1)
        try:
            opened = dialogue.start()
        except ProtocolDrift as drift:
            raise _located(drift, live) from None
        self._go_on(live, opened)

    def _go_on(self, live: LiveEpisode, opened: list[Leaf]) -> None:
        """Send out what opened in a dialogue; end it when it is done."""
        dialogue = live.dialogue
        while opened:
            more: list[Leaf] = []
            for leaf in opened:
                if (error := self._open(live, leaf)) is not None:
                    more += dialogue.fail(leaf.path, error)
            opened = more
        if live.phase != dialogue.phase:
            self.metrics.phase(live.phase, dialogue.phase)
            live.phase = dialogue.phase
        if dialogue.is_done:
            self._end(live)

    def _open(self, live: LiveEpisode, leaf: Leaf) -> StepFailed | None:
        """Send an open leaf on its way; a step whose budget was spent before a restart fails again instead."""
        if live.attempts and (error := live.spent(leaf)) is not None:
            return error
        if not isinstance(leaf, Generate):
            self._texts.put_nowait(live.opened(leaf, self._now))
            return None
        pool = self.roles.get(leaf.role)
        if pool is None:
            return StepFailed("protocol_error", f"role {leaf.role!r} has no model", leaf.path)
        step = live.opened(leaf, self._now)
        if self.admission.is_shed(live.name):
            self._withheld.setdefault(live.name, []).append((pool, step))
        else:
            self._mailrooms[pool].post(step)
        return None

    def _take(self, mailroom: Mailroom, batch: list[Arrival]) -> None:
        """Handle completions of one pool. What came together ended at one moment: now."""
        now = self._now = self.clock.now()
        unix_now = self.clock.time()
        for step, completion in batch:
            if completion.reply is not None:
                sent = step.submitted_at
                # To microseconds, at a fifth of the cost of `round`.
                reply = replace(
                    completion.reply,
                    attempt=step.attempt,
                    started_at=int((unix_now - now + sent) * 1e6 + 0.5) / 1e6,
                    queue_s=int((sent - step.opened_at) * 1e6 + 0.5) / 1e6,
                    latency_s=int((now - sent) * 1e6 + 0.5) / 1e6,
                )
                self._answer(step, reply, mailroom)
            elif completion.failure is not None:
                self._attempt_failed(step, completion.failure, mailroom)
        self._wake.set()

    def _answer(self, step: OpenStep, reply: Reply, mailroom: Mailroom) -> None:
        live, leaf = step.live, step.leaf
        assert isinstance(leaf, Generate)
        usage = reply.usage
        tokens = usage.prompt_tokens + usage.completion_tokens
        mailroom.router.observe(live.name, tokens)
        self.admission.observe(self.roles[leaf.role], live.name, leaf.role, tokens)
        self.metrics.answered(reply, leaf.purpose, leaf.role)
        if self.meter is not None:
            self.meter.answered(self.roles[leaf.role], usage)
        live.num_turns += 1
        self._journal_and_deliver(live, leaf, reply)

    def _journal_and_deliver(self, live: LiveEpisode, leaf: Leaf, answer: Answer) -> None:
        path = leaf.path
        digest = b""
        if self._is_kept:
            digest = leaf.hash
            self.journal.reply(live.name, path, digest, answer)
        try:
            opened = live.dialogue.deliver(path, answer, digest)
        except ProtocolDrift as drift:
            raise _located(drift, live) from None
        self._go_on(live, opened)

    def _attempt_failed(self, step: OpenStep, failure: Failure, mailroom: Mailroom | None, replica: str = "") -> None:
        """Journal a failed attempt; try again, or let the step fail."""
        if failure.kind == "unauthorized":
            raise BackendDown(failure.message)
        live, path = step.live, step.leaf.path
        record = step.note(failure, replica or step.replica)
        self.journal.attempt(live.name, path, record)
        self.metrics.failed_attempt(failure.kind)
        jitter = (zlib.crc32(f"{live.name} {path} {step.attempt}".encode()) & 0xFFFF) / 0xFFFF
        delay_s = self.retry.delay(failure, step.failures, step.waited_s, jitter)
        if delay_s is None:
            self._spend(step, failure)
            return
        if failure.kind == "rate_limited":
            step.waited_s += delay_s
        if mailroom is None:
            self._texts.put_nowait(step)
        else:
            mailroom.post(step, delay_s)

    def _spend(self, step: OpenStep, failure: Failure) -> None:
        live, path = step.live, step.leaf.path
        message = f"{failure.message} (after {len(step.failures)} attempts)"
        self.journal.attempt(live.name, path, AttemptRecord(SPENT, failure.kind, message))
        self._go_on(live, live.dialogue.fail(path, StepFailed(failure.kind, message, path)))

    def _end(self, live: LiveEpisode) -> None:
        """Write the terminal record; the permit is returned once it is durable."""
        attempts = {
            path: [past for past in failures if past.attempt != SPENT]
            for path, failures in (live.attempts or {}).items()
        }
        build = build_record if self._is_kept else build_stub
        record = build(live.identity, live.dialogue, attempts)
        self.admission.forget(live.name, self.roles)
        for mailroom in self._mailrooms.values():
            mailroom.forget(live.name)
        self.metrics.phase(live.phase, "")

        def settled() -> None:
            self._num_live -= 1
            self.metrics.ended(record.status)
            self._collector.ended(self.num_live)
            self._wake.set()

        self.journal.end(record, settled)

    async def _deliver_texts(self) -> None:
        """Answer similarity steps in batches.

        Consumes: open similarity steps. Produces: answers. Waits for: the embedder. Unblocked by: the queue.
        """
        while True:
            steps = [await self._texts.get()]
            while not self._texts.empty() and len(steps) < MAX_TEXT_STEPS:
                steps.append(self._texts.get_nowait())
            self._is_embedding = True
            await self._embed(steps)
            self._is_embedding = False
            self._wake.set()

    async def _embed(self, steps: list[OpenStep]) -> None:
        pairs = [pair for step in steps for pair in step.leaf.pairs]  # type: ignore[union-attr]
        try:
            if self.embedder is None:
                raise EmbeddingFailed(Failure("rejected", "the run has no embedder: add [embedder]"))
            floats = iter(await self.embedder.similarities(pairs))
        except EmbeddingFailed as failed:
            for step in steps:
                self._attempt_failed(step, failed.failure, None, EMBEDDER)
            await self.clock.sleep(1.0)
            return
        for number, step in enumerate(steps, start=1):
            answer = tuple(itertools.islice(floats, len(step.leaf.pairs)))  # type: ignore[union-attr]
            self._now = self.clock.now()
            self._journal_and_deliver(step.live, step.leaf, answer)
            if number % WAVE == 0:
                await self.journal.room()
                await asyncio.sleep(0)


def _located(drift: ProtocolDrift, live: LiveEpisode) -> ProtocolDrift:
    return ProtocolDrift(f"episode {live.name}: {drift}: the protocol or its inputs changed")
