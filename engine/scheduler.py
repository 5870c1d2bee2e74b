"""The loop: the only place that awaits on behalf of dialogues.

    cases -> admission -> live dialogues -> batches per replica -> completions -> journal -> corpus

One task group owns every task. Decisions are made by pure policies (admission, routing, retry); state is touched only
between awaits, on one loop, so there are no locks. Invariants: an admitted episode ends in exactly one terminal record
or stays live in the journal; its permit is held until that record is durable; a late answer to an old attempt is
dropped; the loop never waits for a commit, it only pauses while the journal's queue is full.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from engine.admission import Admission, Pool
from engine.backend import Backend, Completion, Embedder, EmbeddingFailed, Failure
from engine.clock import Clock
from engine.dialogue import Answer, Dialogue
from engine.errors import BackendDown, ProtocolDrift, SandplayError, StepFailed
from engine.journal import Journal
from engine.journal import LiveEpisode as LiveRow
from engine.live import SPENT, LiveEpisode, OpenStep, spent
from engine.mailroom import Mailroom
from engine.metrics import Metrics
from engine.record import AttemptRecord, EpisodeKey
from engine.recording import Identity, build_record
from engine.retry import RetryPolicy
from engine.steps import Generate, Leaf, Reply
from engine.steps import Protocol as Play


class Cast(Protocol):
    """Who is played: turns an episode key into its identity and a fresh protocol generator."""

    def identity(self, key: EpisodeKey, started_at: float) -> Identity:
        """Return what the record says of the episode."""

    def play(self, key: EpisodeKey) -> Play[Any]:
        """Return a fresh generator."""


class Scheduler:
    """Plays episodes until every key has a terminal record, or until stopped."""

    def __init__(
        self,
        *,
        cast: Cast,
        keys: Iterable[EpisodeKey],
        pools: Mapping[str, Backend],
        roles: Mapping[str, str],
        embedder: Embedder | None,
        journal: Journal,
        admission: Admission,
        retry: RetryPolicy,
        metrics: Metrics,
        clock: Clock,
        request_timeout_s: float = 600.0,
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
        self._live: dict[str, LiveEpisode] = {}
        self._num_settling = 0
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._returning: Iterator[LiveRow] = iter(journal.live())
        self._keys = self._fresh(keys)
        self._next: EpisodeKey | LiveRow | None = None
        self._mailrooms = {
            name: Mailroom(backend, clock, request_timeout_s, self._take) for name, backend in pools.items()
        }
        self._texts: asyncio.Queue[OpenStep] = asyncio.Queue(maxsize=0)  # bounded by the open steps of live dialogues
        self._roles_per_pool = {name: sum(pool == name for pool in roles.values()) for name in pools}

    @property
    def num_live(self) -> int:
        """Episodes that hold a permit: being played, or ended and not yet durable."""
        return len(self._live) + self._num_settling

    def stop(self) -> None:
        """Stop admitting and return from `run`; live episodes stay live in the journal."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Play until all keys are terminal or `stop` is called.

        Consumes: keys, completions. Produces: journal rows. Waits for: room in the journal, completions, commits.
        Unblocked by: `_wake`. Raises RunError (BackendDown, JournalError, ProtocolDrift) when the run cannot go on.
        """
        try:
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
        except BaseExceptionGroup as failed:
            raise _first_cause(failed) from failed
        await self.journal.flush()

    async def _play(self) -> None:
        while not self._is_stopping:
            await self.journal.room()
            await self._admit()
            if self._next is None and not self.num_live:
                return
            await self._wake.wait()
            self._wake.clear()

    async def _admit(self) -> None:
        """Start dialogues while admission has room; those the journal holds live come first."""
        started = 0
        while not self._is_stopping and (self._next is not None or self._advance()):
            if self.admission.room(self.num_live, self._pool_figures()) <= 0:
                return
            chosen, self._next = self._next, None
            assert chosen is not None
            self._start(chosen)
            started += 1
            if started % 64 == 0:
                await self.journal.room()
                await asyncio.sleep(0)

    def _advance(self) -> bool:
        """Look one episode ahead; return whether there is one."""
        self._next = next(self._returning, None) or next(self._keys, None)
        return self._next is not None

    def _fresh(self, keys: Iterable[EpisodeKey]) -> Iterator[EpisodeKey]:
        known = self.journal.ended().keys() | {row.key for row in self.journal.live()}
        return (key for key in keys if key not in known)

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
            rows = self.journal.stored(str(chosen.key))
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
        self._live[live.name] = live
        self.metrics.admitted(1)
        self._advance_dialogue(live, dialogue.start)

    def _advance_dialogue(self, live: LiveEpisode, run: Callable[[], list[Leaf]]) -> None:
        """Resume a dialogue and send out what opened; end it when it is done."""
        try:
            opened = run()
        except ProtocolDrift as drift:
            raise ProtocolDrift(f"episode {live.name}: {drift}: the protocol or its inputs changed") from None
        while opened:
            failed = [step for step in [self._open(live, leaf) for leaf in opened] if step is not None]
            opened = []
            for step, error in failed:
                del live.open[step.leaf.path]
                opened += live.dialogue.fail(step.leaf.path, error)
        if live.phase != live.dialogue.phase:
            self.metrics.phase(live.phase, live.dialogue.phase)
            live.phase = live.dialogue.phase
        if live.dialogue.is_done:
            self._end(live)

    def _open(self, live: LiveEpisode, leaf: Leaf) -> tuple[OpenStep, StepFailed] | None:
        """Send an open leaf on its way; a step whose budget was spent before a restart fails again instead."""
        step = live.opened(leaf, self.clock.now())
        if (error := spent(step)) is not None:
            return step, error
        if not isinstance(leaf, Generate):
            self._texts.put_nowait(step)
            return None
        pool = self.roles.get(leaf.role)
        if pool is None:
            return step, StepFailed("protocol_error", f"role {leaf.role!r} has no model", leaf.path)
        self._mailrooms[pool].post(step)
        return None

    def _take(self, mailroom: Mailroom, batch: list[Completion]) -> None:
        """Handle completions of one pool; late ones are dropped."""
        for completion in batch:
            live = self._live.get(completion.episode)
            step = live.current(completion) if live is not None else None
            if live is None or step is None:
                continue
            if completion.reply is not None:
                self._answer(live, step, self._timed(step, completion.reply), mailroom)
            elif completion.failure is not None:
                self._attempt_failed(live, step, completion.failure, mailroom)
        self._wake.set()

    def _timed(self, step: OpenStep, reply: Reply) -> Reply:
        now = self.clock.now()
        latency_s = now - step.submitted_at
        return msgspec.structs.replace(
            reply,
            attempt=step.attempt,
            started_at=round(self.clock.time() - latency_s, 6),
            queue_s=round(step.submitted_at - step.opened_at, 6),
            latency_s=round(latency_s, 6),
        )

    def _answer(self, live: LiveEpisode, step: OpenStep, reply: Reply, mailroom: Mailroom) -> None:
        leaf = step.leaf
        assert isinstance(leaf, Generate)
        tokens = reply.usage.prompt_tokens + reply.usage.completion_tokens
        mailroom.router.observe(live.name, tokens)
        self.admission.observe(self.roles[leaf.role], live.name, leaf.role, tokens)
        self.metrics.answered(reply, leaf.purpose, leaf.role)
        live.num_turns += 1
        self._journal_and_deliver(live, step, reply)

    def _journal_and_deliver(self, live: LiveEpisode, step: OpenStep, answer: Answer) -> None:
        leaf = step.leaf
        self.journal.reply(live.name, leaf.path, leaf.hash, answer)
        del live.open[leaf.path]
        self._advance_dialogue(live, lambda: live.dialogue.deliver(leaf.path, answer))

    def _attempt_failed(
        self, live: LiveEpisode, step: OpenStep, failure: Failure, mailroom: Mailroom | None, replica: str = ""
    ) -> None:
        """Journal a failed attempt; try again, or let the step fail."""
        if failure.kind == "unauthorized":
            raise BackendDown(failure.message)
        path = step.leaf.path
        record = step.note(failure, replica or (mailroom.replica_of(step) if mailroom else ""))
        self.journal.attempt(live.name, path, record)
        self.metrics.failed_attempt(failure.kind)
        jitter = (zlib.crc32(f"{live.name} {path} {step.attempt}".encode()) & 0xFFFF) / 0xFFFF
        delay_s = self.retry.delay(failure, step.failures, step.waited_s, jitter)
        if delay_s is None:
            self._spend(live, step, failure)
            return
        if failure.kind == "rate_limited":
            step.waited_s += delay_s
        if mailroom is None:
            self._texts.put_nowait(step)
        else:
            mailroom.post(step, delay_s)

    def _spend(self, live: LiveEpisode, step: OpenStep, failure: Failure) -> None:
        path = step.leaf.path
        message = f"{failure.message} (after {len(step.failures)} attempts)"
        self.journal.attempt(live.name, path, AttemptRecord(SPENT, failure.kind, message))
        del live.open[path]
        error = StepFailed(failure.kind, message, path)
        self._advance_dialogue(live, lambda: live.dialogue.fail(path, error))

    def _end(self, live: LiveEpisode) -> None:
        """Write the terminal record; the permit is returned once it is durable."""
        del self._live[live.name]
        self._num_settling += 1
        attempts = {
            path: [past for past in failures if past.attempt != SPENT] for path, failures in live.attempts.items()
        }
        record = build_record(live.identity, live.dialogue, attempts)
        self.admission.forget(live.name, self.roles)
        for mailroom in self._mailrooms.values():
            mailroom.forget(live.name)
        self.metrics.phase(live.phase, "")

        def settled() -> None:
            self._num_settling -= 1
            self.metrics.ended(record.status)
            self._wake.set()

        self.journal.end(record, settled)

    async def _deliver_texts(self) -> None:
        """Answer similarity steps in batches.

        Consumes: open similarity steps. Produces: answers. Waits for: the embedder. Unblocked by: the queue.
        """
        while True:
            steps = [await self._texts.get()]
            while not self._texts.empty():
                steps.append(self._texts.get_nowait())
            await self._embed(steps)
            self._wake.set()

    async def _embed(self, steps: list[OpenStep]) -> None:
        pairs = [pair for step in steps for pair in step.leaf.pairs]  # type: ignore[union-attr]
        try:
            if self.embedder is None:
                raise EmbeddingFailed(Failure("rejected", "the run has no embedder: add [embedder]"))
            floats = iter(await self.embedder.similarities(pairs))
        except EmbeddingFailed as failed:
            for step in steps:
                self._attempt_failed(step.live, step, failed.failure, None, "embedder")
            await self.clock.sleep(1.0)
            return
        for step in steps:
            answer = tuple(next(floats) for _ in step.leaf.pairs)  # type: ignore[union-attr]
            self._journal_and_deliver(step.live, step, answer)


def _first_cause(group: BaseExceptionGroup) -> BaseException:
    """Return the failure that ended the task group: one of ours if there is any, else the first."""
    ours = group.subgroup(SandplayError)
    chosen: BaseException = ours if ours is not None else group
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen
