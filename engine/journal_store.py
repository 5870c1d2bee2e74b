"""One journal's SQLite database: tables, transactions, pruning, and what its errors mean.

Invariant: a row belongs to a live episode, or to a terminal one that is not sealed yet. Callable from any thread: one
lock guards each connection. Knows nothing of queues, events or Parquet.
"""

import errno
import functools
import itertools
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.errors import JournalError
from engine.record import AttemptRecord, EpisodeHead, EpisodeKey, EpisodeRecord
from engine.steps import Reply
from engine.totals import CallTotals

T = TypeVar("T")

LOCK_WAIT_S = 10.0
# Free pages (4 kB) worth giving back to the file system, when they are also more than half of the file.
VACUUM_PAGES = 4096
# A checkpoint at every 4 MB of WAL begins it anew and cuts it to that: it needs no truncation of its own at each part.
WAL_BYTES = 4 << 20
# Pruning touches pages that were written long ago: read again from the file, they are a third of its cost.
CACHE_KIB = 64 << 10

MAX_ROWS, MAX_RECORDS = 256, 32
"""Rows of a statement at most, and such that hold a whole episode. More would keep the loop waiting while they are
bound, and each statement is kept prepared and holds on to the longest text ever bound at each of its places."""

REPLY, FLOATS, ATTEMPT = 0, 1, 2

# Steps are appended in order of arrival and found by a small index: clustering them by episode is eight times slower.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS live (
    id INTEGER PRIMARY KEY, case_id TEXT, repeat INTEGER, attempt INTEGER, seed INTEGER, started_at REAL
);
CREATE TABLE IF NOT EXISTS step (n INTEGER PRIMARY KEY, id INTEGER, path TEXT, kind INTEGER, hash BLOB, body BLOB);
CREATE INDEX IF NOT EXISTS step_id ON step (id);
CREATE TABLE IF NOT EXISTS ended (seq INTEGER PRIMARY KEY, id INTEGER, record BLOB);
"""
_VERSION = 1
# A byte that begins no msgpack value marks JSON, which alone can carry lone surrogates.
_JSON = b"\xc1"
_ENCODER = msgspec.msgpack.Encoder()

AdmitRow = tuple[int, str, int, int, int, float]
StepRow = tuple[int, str, int, bytes, bytes]
EndRow = tuple[int, int, bytes]


class StoredStep(msgspec.Struct, frozen=True):
    """What is kept of one step: its answer (`reply` or `floats`; neither after failures alone) and failed attempts."""

    hash: bytes
    reply: Reply | None = None
    floats: tuple[float, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()


class LiveEpisode(msgspec.Struct, frozen=True):
    """An episode that was admitted and has not ended. `started_at` is Unix time."""

    key: EpisodeKey
    seed: int
    started_at: float


def encode(value: Any) -> bytes:
    """Return a payload, also of text with lone surrogates, which a model may well have written."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _JSON + json.dumps(msgspec.to_builtins(value)).encode()


def decode(data: bytes, form: type[T]) -> T:
    """Return the value of a payload. Raises `msgspec.DecodeError`."""
    if data.startswith(_JSON):
        return msgspec.convert(json.loads(data[1:]), form)
    value: T = _decoder(form).decode(data)  # type: ignore[arg-type]  # a type is hashable
    return value


@functools.lru_cache(maxsize=16)
def _decoder(form: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(form)


class Store:
    """The database of one journal; opening it creates or upgrades nothing but an empty file.

    `exclusive` needs no shared memory (network file systems); reads then share the writer's connection.
    Every method raises sqlite3.Error or OSError; `journal_error` says what they mean.
    """

    def __init__(self, path: Path, *, exclusive: bool = False) -> None:
        self.path = path
        self._writing = threading.Lock()
        self._write = _connect(path, exclusive=exclusive)
        try:
            self._prepare()
            self._read = self._write if exclusive else _connect(path, exclusive=False)
        except BaseException:
            self._write.close()
            raise
        self._reading = self._writing if exclusive else threading.Lock()

    def _prepare(self) -> None:
        if (check := self._write.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(f"malformed: {check}")
        version = self._write.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise JournalError(f"the journal's version must be {_VERSION}, got {version}: use a newer Sandplay")
        if version == 0:
            self._write.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")

    def commit(self, admits: Sequence[AdmitRow], steps: Sequence[StepRow], ends: Sequence[EndRow]) -> None:
        """Make these rows durable in one transaction."""
        with self._writing, _Transaction(self._write):
            _execute(self._write, "INSERT INTO live VALUES ", admits)
            _execute(self._write, "INSERT INTO step (id, path, kind, hash, body) VALUES ", steps)
            _execute(self._write, "INSERT INTO ended VALUES ", ends, max_rows=MAX_RECORDS)
            _execute(self._write, "DELETE FROM live WHERE (id) IN (VALUES ", [(id_,) for _, id_, _ in ends], ")")

    def prune_sealed(self, last_seq: int) -> None:
        """Drop the rows of terminal episodes up to and including `last_seq`."""
        with self._writing, _Transaction(self._write):
            self._write.execute("DELETE FROM step WHERE id IN (SELECT id FROM ended WHERE seq <= ?)", (last_seq,))
            self._write.execute("DELETE FROM ended WHERE seq <= ?", (last_seq,))

    def prune_ids(self, ids: Sequence[int]) -> None:
        """Drop all rows of these episodes."""
        with self._writing, _Transaction(self._write):
            for table in ("step", "ended", "live"):
                self._write.executemany(f"DELETE FROM {table} WHERE id = ?", [(id_,) for id_ in ids])

    def shrink(self, *, whole: bool = False) -> None:
        """Give free pages back when they are more than half; `whole`: all of them, and empty the WAL."""
        with self._writing:
            free, pages = (self._write.execute(f"PRAGMA {p}").fetchone()[0] for p in ("freelist_count", "page_count"))
            if whole or (free > VACUUM_PAGES and free * 2 > pages):
                # One step frees one page and yields no row: only executescript steps to the end.
                self._write.executescript("PRAGMA incremental_vacuum;")
            if whole:
                self._write.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def live(self) -> list[tuple[int, LiveEpisode]]:
        """Return live episodes with their row ids, in order of admission."""
        rows = self._all("SELECT * FROM live ORDER BY id")
        return [(i, LiveEpisode(EpisodeKey(c, r, a), seed, at)) for i, c, r, a, seed, at in rows]

    def answered(self) -> list[tuple[int, str]]:
        """Return (id, path) of every stored answer."""
        return self._all("SELECT id, path FROM step WHERE kind != ?", ATTEMPT)

    def steps_of(self, ids: Sequence[int]) -> dict[int, dict[str, StoredStep]]:
        """Return the stored steps of these episodes by path.

        Episodes that were live together have their rows side by side: asked for in order of rows, a page is read once
        for all of them.
        """
        found: dict[int, dict[str, StoredStep]] = {id_: {} for id_ in ids}
        places = ", ".join("?" * len(ids))
        rows = self._all(
            "SELECT id, path, kind, hash, body FROM step "
            f"WHERE n IN (SELECT n FROM step WHERE id IN ({places})) ORDER BY n",
            *ids,
        )
        for id_, path, kind, digest, body in rows:
            steps = found[id_]
            before = steps.get(path)
            if before is None and kind == REPLY:
                steps[path] = StoredStep(digest, decode(body, Reply))
            else:
                steps[path] = _grown(before or StoredStep(digest), kind, digest, body)
        return found

    def live_calls(self) -> dict[str, CallTotals]:
        """Return calls and tokens of live episodes by the replica that had them; similarities count as none."""
        sums: dict[str, CallTotals] = {}
        rows = self._all("SELECT kind, body FROM step WHERE kind != ? AND id IN (SELECT id FROM live)", FLOATS)
        for kind, body in rows:
            if kind == REPLY:
                reply = decode(body, Reply)
                replica, calls = reply.replica, CallTotals.of(reply.usage)
            else:
                past = decode(body, AttemptRecord)
                # The row that says a budget is spent was no attempt, and was sent nowhere.
                replica, calls = past.replica, CallTotals(calls=int(past.attempt >= 0))
            sums[replica] = sums[replica] + calls if replica in sums else calls
        return sums

    def ended(self, after_seq: int = -1, limit: int = -1) -> list[tuple[int, EpisodeRecord]]:
        """Return unsealed terminal episodes with their row ids, in order of seq."""
        sql = "SELECT id, record FROM ended WHERE seq > ? ORDER BY seq LIMIT ?"
        return [(id_, decode(record, EpisodeRecord)) for id_, record in self._all(sql, after_seq, limit)]

    def ended_keys(self) -> Iterator[tuple[int, EpisodeKey]]:
        """Yield row id and key of unsealed terminal episodes, in order of seq."""
        for id_, record in self._all("SELECT id, record FROM ended ORDER BY seq"):
            yield id_, decode(record, EpisodeHead).key

    def bodies(self) -> list[tuple[int, bytes]]:
        """Return seq and encoded record of unsealed terminal episodes, in order of seq."""
        return self._all("SELECT seq, record FROM ended ORDER BY seq")

    def last_id(self) -> int:
        """Return the highest row id in use, 0 when there is none."""
        found: int = self._all(
            "SELECT max(coalesce((SELECT max(id) FROM live), 0), coalesce((SELECT max(id) FROM ended), 0))"
        )[0][0]
        return found

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with self._reading:
            return self._read.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        with self._reading:
            self._read.close()
        with self._writing:
            self._write.close()


def _grown(before: StoredStep, kind: int, digest: bytes, body: bytes) -> StoredStep:
    if kind == ATTEMPT:
        return msgspec.structs.replace(before, attempts=(*before.attempts, decode(body, AttemptRecord)))
    if kind == FLOATS:
        return msgspec.structs.replace(before, hash=digest, floats=decode(body, tuple[float, ...]))
    return msgspec.structs.replace(before, hash=digest, reply=decode(body, Reply))


def _execute(
    connection: sqlite3.Connection,
    head: str,
    rows: Sequence[tuple[Any, ...]],
    tail: str = "",
    max_rows: int = MAX_ROWS,
) -> None:
    """Execute `head`, a list of rows, `tail`, for many rows at a time.

    SQLite's driver lets go of the interpreter's lock at every statement and gets it back only when the loop's thread
    next gives it up: with a row per statement, a busy loop allows 200 rows a second. Sizes are powers of two, so
    that there are few statements.
    """
    start = 0
    while left := min(len(rows) - start, max_rows):
        size = 1 << (left.bit_length() - 1)
        some = rows[start : start + size]
        row = f"({', '.join('?' * len(some[0]))})"
        connection.execute(f"{head}{', '.join([row] * size)}{tail}", list(itertools.chain.from_iterable(some)))
        start += size


class _Transaction:
    """BEGIN IMMEDIATE, then COMMIT or ROLLBACK."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _connect(path: Path, *, exclusive: bool) -> sqlite3.Connection:
    path.touch(mode=0o600)
    path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        # Order matters: exclusive locking before WAL means no shared memory; auto_vacuum must precede the first table.
        if exclusive:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}").fetchall()
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        # What is pruned stands in the corpus, readable by the same people: wiping it doubles the cost of pruning.
        connection.execute("PRAGMA secure_delete = OFF").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def journal_error(path: Path, error: BaseException, run: Path) -> JournalError:
    """Say what an error of the database or file system means for this journal of that run, and what to do."""
    if isinstance(error, JournalError):
        return error
    return JournalError(f"{_meaning(path, error, run)} ({path}: {error})")


def _meaning(path: Path, error: BaseException, run: Path) -> str:
    # Extended codes carry the primary one in their low byte.
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    resume = f"`sandplay resume {run}`"
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (
            f"no other process may have the journal open, got it locked for {LOCK_WAIT_S:.0f} s: "
            f"end that process, then {resume}"
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(error, msgspec.MsgspecError):
        return _damaged(path, run)
    if primary is None and isinstance(error, sqlite3.DatabaseError) and "malformed" in str(error):
        return _damaged(path, run)
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full or primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        room = _free(path.parent)
        return f"the disk must take what is written, got {room}: free space or raise the limit, then {resume}"
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"the journal must be writable, got an error: check owner and mode, then {resume}"
    return f"the journal must take what is recorded, got {type(error).__name__}: see the cause, then {resume}"


def _damaged(path: Path, run: Path) -> str:
    return (
        "the journal must be an undamaged SQLite database, got a damaged one: the sealed episodes in "
        f"{run / 'episodes'} are intact; move {path.name}* elsewhere, then `sandplay resume {run}` plays "
        "again what was live or not yet sealed"
    )


def _free(directory: Path) -> str:
    try:
        return f"{shutil.disk_usage(directory).free / 1e6:.0f} MB free"
    except OSError:
        return "a full disk or a failing one"
