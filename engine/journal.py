"""The journal: everything that happened to live episodes, durable, and the way of ended ones into the corpus.

Invariant: what `flush` has returned for survives any crash, each episode ends exactly once, and `seq` strictly
increases in order of terminal commits. Recording only enqueues; one thread writes (`journal_writer`). Call it from one
thread, the scheduler's; the reading methods may be called from any. Knows nothing of protocols or models.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Container, Mapping, Sequence

import msgspec

from engine.corpus_parts import Manifest, own_manifest, read_manifest, read_sealed, sealed_keys
from engine.errors import JournalError
from engine.journal_local import LocalJournal
from engine.journal_store import (
    ATTEMPT,
    FLOATS,
    REPLY,
    LiveEpisode,
    Store,
    StoredStep,
    decode,
    encode,
    journal_error,
)
from engine.journal_writer import Admit, End, Gauges, Step, Writer
from engine.record import AttemptRecord, EpisodeHead, EpisodeKey, EpisodeRecord, Status
from engine.roster import Ledger
from engine.rundir import RunDirectory
from engine.steps import Reply
from engine.totals import CallTotals, Totals

__all__ = ["Journal", "LiveEpisode", "StoredStep", "Totals"]

# What a queued row weighs beside its payload.
ROW_BYTES = 128


class _Live(msgspec.Struct):
    """A live episode's row id, and the paths that are answered."""

    id: int
    episode: LiveEpisode
    answered: dict[str, None]


class Journal:
    """One journal of a run; `open` is the way to get one."""

    is_kept = True

    def __init__(
        self,
        rundir: RunDirectory,
        store: Store,
        manifest: Manifest,
        seal_every: int,
        ended: Ledger,
        named: Callable[[], None] | None = None,
        local: LocalJournal | None = None,
    ) -> None:
        self.rundir = rundir
        self._local = local
        self._store = store
        self._index = manifest.journal
        self._ended = ended
        for key, status in sealed_keys(rundir, manifest):
            ended.put(key, status)
        self._totals = manifest.totals
        store.prune_ids(_sealed_ids(store, ended))
        unsealed = store.bodies()
        for _, body in unsealed:
            record = decode(body, EpisodeRecord)
            ended.put(record.key, record.status)
            self._totals += Totals.of(record)
        self._live = _live_rows(store)
        self._next_id = store.last_id() + 1
        self._next_seq = max([manifest.last_seq, *(seq for seq, _ in unsealed)]) + 1
        require_ours = None if local is None else local.require_ours
        self._writer = Writer(
            store,
            rundir,
            manifest.extent,
            seal_every=seal_every,
            unsealed=unsealed,
            named=named,
            require_ours=require_ours,
        )
        if local is not None:
            local.start(self._writer.show, self._writer.fail)

    @classmethod
    def open(
        cls,
        rundir: RunDirectory,
        *,
        index: int = 0,
        seal_every: int = 256,
        exclusive: bool = False,
        ended: Ledger | None = None,
        named: Callable[[], None] | None = None,
        local: LocalJournal | None = None,
    ) -> "Journal":
        """Open or begin the journal with that index; blocking. The caller holds the directory's lock.

        `seal_every` terminal episodes become one part. `exclusive` does without shared memory, for network file
        systems; `local` is one that lives outside of the run directory. `ended` is where it is noted how episodes
        ended; `named` is called on another thread whenever a part has been named. Rows of sealed episodes and left-over
        parts are removed. Raises JournalError when the database is damaged, locked by another process for 10 s, or not
        writable.
        """
        path = rundir.journal(index) if local is None else local.path
        store: Store | None = None
        try:
            manifest = own_manifest(rundir, index)
            store = Store(path, exclusive=exclusive)
            return cls(rundir, store, manifest, seal_every, Ledger() if ended is None else ended, named, local)
        except (sqlite3.Error, OSError, msgspec.MsgspecError, JournalError) as error:
            if store is not None:
                store.close()
            raise journal_error(path, error, rundir.path) from error

    def admit(self, key: EpisodeKey, seed: int, started_at: float) -> None:
        """Record that an episode starts. `seed` fits 64 bits, signed; `started_at` is Unix time.

        Raises JournalError for an episode that is live or has ended.
        """
        name = str(key)
        if name in self._live or key in self._ended:
            state = "live" if name in self._live else "ended"
            raise JournalError(f"an episode must be admitted once, got {name}, which is {state}: this is a bug")
        id_ = self._next_id
        self._writer.put(Admit((id_, key.case, key.repeat, key.attempt, seed, started_at), ROW_BYTES))
        self._next_id += 1
        self._live[name] = _Live(id_, LiveEpisode(key, seed, started_at), {})

    def reply(self, episode: str, path: str, hash: bytes, answer: Reply | tuple[float, ...]) -> None:
        """Record a step's answer. Raises JournalError for an episode that is not live, or a second answer."""
        live = self._require_live(episode)
        if path in live.answered:
            raise JournalError(f"a step must be answered once, got {episode} {path} again: this is a bug")
        body = encode(answer)
        kind = REPLY if isinstance(answer, Reply) else FLOATS
        self._writer.put(Step((live.id, path, kind, hash, body), len(body) + ROW_BYTES))
        live.answered[path] = None

    def attempt(self, episode: str, path: str, attempt: AttemptRecord) -> None:
        """Record a failed attempt of a step. Raises JournalError for an episode that is not live."""
        live = self._require_live(episode)
        body = encode(attempt)
        self._writer.put(Step((live.id, path, ATTEMPT, b"", body), len(body) + ROW_BYTES))

    def end(self, record: EpisodeRecord, done: Callable[[], None] | None = None) -> None:
        """Record that an episode has ended; its `seq` is given here, in order of the calls.

        `done` is called on the running loop once the record is durable; never after a failure (`watch` tells).
        Raises JournalError for an episode that is not live.
        """
        live = self._require_live(record.episode)
        numbered = msgspec.structs.replace(record, seq=self._next_seq)
        body = encode(numbered)
        loop = asyncio.get_running_loop() if done is not None else None
        self._writer.put(End((self._next_seq, live.id, body), len(body) + ROW_BYTES, loop, done))
        self._next_seq += 1
        del self._live[record.episode]
        self._ended.put(record.key, record.status)
        self._totals += Totals.of(record)

    def _require_live(self, episode: str) -> _Live:
        live = self._live.get(episode)
        if live is None:
            raise JournalError(f"an episode must be live to be recorded, got {episode}: this is a bug")
        return live

    async def room(self) -> None:
        """Backpressure: return once less than a bounded amount is queued. Raises JournalError after a failure."""
        await self._writer.room()

    async def flush(self) -> None:
        """Return once everything recorded so far is durable. Raises JournalError when it cannot become so."""
        await self._writer.reach()

    async def seal(self) -> None:
        """Flush, then move every terminal episode into the corpus. Raises JournalError."""
        await self._writer.reach(seals=True)

    async def watch(self) -> None:
        """Return when the journal is closed; raises JournalError as soon as its writer fails."""
        await self._writer.watch()

    async def grown(self, after_seq: int) -> bool:
        """Return true once a terminal episode with a higher seq is durable, false once the journal is closed.

        Raises JournalError as soon as the writer fails.
        """
        return await self._writer.grown(after_seq)

    async def close(self) -> None:
        """Flush, seal what has ended, empty the WAL, close; a local journal goes back into the run directory.

        Safe to call twice. Raises JournalError after a failure; a local journal then stays where it is.
        """
        try:
            await self._writer.close()
        except BaseException:
            if self._local is not None:
                await asyncio.to_thread(self._local.stop)
            raise
        if self._local is not None:
            await asyncio.to_thread(self._local.finish)

    @property
    def copy_age_s(self) -> float | None:
        """Seconds for which the copy of a local journal may lack what happened; None when there is none."""
        return None if self._local is None else self._local.age_s

    def gauges(self) -> Gauges:
        """Return how the writer fares."""
        return self._writer.gauges()

    def live(self) -> list[LiveEpisode]:
        """Return the live episodes in order of admission."""
        return [live.episode for live in self._live.values()]

    def stored_of(self, episodes: Sequence[str]) -> dict[str, dict[str, StoredStep]]:
        """Return what is durable of the steps of live episodes, by path; cheapest for neighbors in order of admission.

        Raises JournalError when one is not live.
        """
        ids = {self._require_live(episode).id: episode for episode in episodes}
        try:
            return {ids[id_]: steps for id_, steps in self._store.steps_of(list(ids)).items()}
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise journal_error(self._store.path, error, self.rundir.path) from error

    def ended(self) -> Mapping[EpisodeKey, Status]:
        """Return every terminal episode, sealed and unsealed alike: as of now, whenever it is looked at."""
        return self._ended

    def totals(self) -> Totals:
        """Return the sums over terminal episodes."""
        return self._totals

    def live_calls(self) -> dict[str, CallTotals]:
        """Return what is durable of the calls and tokens of live episodes, by replica. Raises JournalError."""
        try:
            return self._store.live_calls()
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise journal_error(self._store.path, error, self.rundir.path) from error

    def episodes(self, after_seq: int = -1, limit: int = 100, *, is_whole: bool = True) -> list[EpisodeRecord]:
        """Return durable terminal episodes with a higher seq, in order of seq; sealed and unsealed alike.

        Of a local journal only those that are copied or sealed: what a lost node takes away nobody was shown. Unless
        `is_whole`, those in memory come without steps. Reads files where they have left memory: call it in a thread
        when the loop matters. Raises JournalError.
        """
        limit = min(limit, self._writer.last_seq - after_seq)
        if limit <= 0:
            return []
        bodies = self._writer.recent.after(after_seq, limit)
        if bodies is not None and is_whole:
            return [decode(body, EpisodeRecord) for body in bodies]
        if bodies is not None:
            return [EpisodeRecord(**msgspec.structs.asdict(decode(body, EpisodeHead))) for body in bodies]
        try:
            # Rows first: what is sealed in between is then in both, never in neither.
            rows = self._store.ended(after_seq, limit)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise journal_error(self._store.path, error, self.rundir.path) from error
        manifest = read_manifest(self.rundir, self._index)
        sealed = list(itertools.islice(read_sealed(self.rundir, manifest, after_seq), limit))
        fresh = [record for _, record in rows if record.seq > manifest.last_seq]
        return (sealed + fresh)[:limit]


def _sealed_ids(store: Store, sealed: Container[EpisodeKey]) -> list[int]:
    """Row ids of sealed episodes that the store still calls live or unsealed (a kill before the prune, a torn WAL)."""
    live = [id_ for id_, episode in store.live() if episode.key in sealed]
    return live + [id_ for id_, key in store.ended_keys() if key in sealed]


def _live_rows(store: Store) -> dict[str, _Live]:
    rows = store.live()
    by_id = {id_: _Live(id_, episode, {}) for id_, episode in rows}
    for id_, path in store.answered():
        if id_ in by_id:
            by_id[id_].answered[path] = None
    return {str(live.episode.key): live for live in by_id.values()}
