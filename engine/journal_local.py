"""A journal on a disk of the node that plays, and its copies in the run directory.

A *life* is one playing of a run with its journal on some node. Invariants, which together say what a lost node costs:

- A copy is the whole journal as it was at one moment, so a prefix of what happened; it takes the old one's place whole.
- The file `journals/NNN.place.json` names the life that counts. It is written before anything is recorded in that
  life, and again when the journal is back in the run directory. A local journal of another life is never used, and a
  driver of another life makes no copy and no part any more: what was played elsewhere in between cannot be undone.
- Rows leave the journal only once a manifest in the run directory names their part. So a copy with the manifests of any
  later moment holds every episode that had ended when it was made, and each live one is live in it or sealed.
- Sealed episodes are all those up to some seq, and those that a copy holds are too. What is lost are the last ones, and
  their seqs are given again: readers are therefore shown no episode that is neither copied nor sealed.
- A copy has no step of an episode that it lacks: row ids that are given again meet nothing.

Knows nothing of queues or dialogues.
"""

import os
import secrets
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from engine.errors import JournalError
from engine.files import TMP_SUFFIX, copy_atomic, write_atomic
from engine.journal_store import Store, journal_error
from engine.rundir import RunDirectory

STEP_PAGES: Final = 4096
"""Pages (4 kB) that a snapshot takes at a time; between two, other threads have the interpreter."""
MARK: Final = "life.json"


class Life(msgspec.Struct, frozen=True):
    """Which journal counts. `id` is "" while it is the run directory's own; else it lies in `directory` on `host`.

    `run` is made once for each journal of a run, `id` once for each life.
    """

    run: str
    id: str = ""
    host: str = ""
    directory: str = ""
    copy_every_s: float = 0.0


class _Mark(msgspec.Struct, frozen=True):
    """Whose a local directory is: `home` is the run directory as its node saw it, `inode` that of its journals."""

    run: str
    id: str
    home: str
    inode: int

    def is_of(self, rundir: RunDirectory) -> bool:
        """Whether it is of this run directory, which may have been moved; a copy of one is another run."""
        return self.home == str(rundir.path) or self.inode == os.stat(rundir.journals).st_ino


def read_life(rundir: RunDirectory, index: int) -> Life | None:
    """Return which journal counts, None when it never left the run directory. Raises JournalError."""
    path = rundir.place(index)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Life)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise JournalError(f"must be readable JSON, got {error} in {path}: restore it from a copy") from error


def is_away(rundir: RunDirectory, index: int) -> bool:
    """Whether the newest journal lies, or lay, outside of the run directory. Raises JournalError."""
    life = read_life(rundir, index)
    return life is not None and life.id != ""


def bring_home(rundir: RunDirectory, index: int) -> bool:
    """Put the newest journal back into the run directory, if it lies on this node; whether the run directory has it.

    Blocking; the caller holds the directory's lock, and nobody has the journal open. Safe to repeat after a crash at
    any moment. Raises JournalError.
    """
    life = read_life(rundir, index)
    if life is None or not life.id:
        return True
    directory, home = Path(life.directory), rundir.journal(index)
    local = directory / home.name
    if not _is_there(life, rundir) or not local.exists():
        return False
    with _told(local, rundir):
        _settle(local)
    with _told(home, rundir):
        _replace(home, local, lambda: _require(rundir, index, life.id))
        _write_life(rundir, index, Life(life.run))
    shutil.rmtree(directory, ignore_errors=True)
    return True


def give_up(rundir: RunDirectory, index: int) -> str:
    """Go on from the copy, when the newest journal is not to be had here; return what that costs, for a person."""
    life = read_life(rundir, index)
    assert life is not None, "only a journal that went away can be given up"
    home = rundir.journal(index)
    when = "before its first copy"
    with suppress(OSError):
        when = time.strftime("from %Y-%m-%d %H:%M:%S", time.localtime(home.stat().st_mtime))
    _write_life(rundir, index, Life(life.run))
    return (
        f"the journal of {life.host} in {life.directory} is not to be had here: going on with the copy {when}, "
        "what was answered later and is not sealed is asked again"
    )


def _is_there(life: Life, rundir: RunDirectory) -> bool:
    mark = _read_mark(Path(life.directory))
    return mark is not None and (mark.run, mark.id) == (life.run, life.id) and mark.is_of(rundir)


def _read_mark(directory: Path) -> _Mark | None:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((directory / MARK).read_bytes(), type=_Mark)
    return None


@contextmanager
def _told(path: Path, rundir: RunDirectory) -> Iterator[None]:
    """Within, what goes wrong goes wrong with that path: its disk is the one that people are told of."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise journal_error(path, error, rundir.path) from error


def _settle(path: Path) -> None:
    """Fold the WAL that a killed driver may have left into its database. Raises sqlite3.Error or OSError."""
    store = Store(path, exclusive=True)
    try:
        store.shrink(whole=True)
    finally:
        store.close()


def _replace(home: Path, source: Path, check: Callable[[], None]) -> None:
    """Put a copy of a settled database in the place of the run directory's; `check` may refuse at the last moment."""

    def before() -> None:
        check()
        # A WAL beside it belongs to the database that goes; it holds nothing that the new one lacks.
        for tail in ("-wal", "-shm"):
            home.with_name(home.name + tail).unlink(missing_ok=True)

    copy_atomic(source, home, before)


def _require(rundir: RunDirectory, index: int, id_: str) -> None:
    life = read_life(rundir, index)
    if life is None or life.id != id_:
        who = life.host if life is not None and life.id else "another driver"
        raise JournalError(f"a run must be played by one driver, got it taken up by {who} meanwhile: leave it to that")


def _write_life(rundir: RunDirectory, index: int, life: Life) -> None:
    write_atomic(rundir.place(index), msgspec.json.encode(life))


class LocalJournal:
    """One life of one journal; `begin` is the way to get one. The copies are made by a thread of its own."""

    def __init__(self, rundir: RunDirectory, index: int, life: Life) -> None:
        self._rundir, self._index, self._life = rundir, index, life
        self._home = rundir.journal(index)
        self.path = Path(life.directory) / self._home.name
        self._show: Callable[[int], None] = lambda seq: None
        self._copying = threading.Lock()
        self._stopped = threading.Event()
        self._version: int | None = None
        self._source: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._current_at = time.monotonic()

    @classmethod
    def begin(cls, rundir: RunDirectory, index: int, base: Path, copy_every_s: float) -> "LocalJournal":
        """Begin a life in a new directory in `base`, with the run directory's journal, which is the newest.

        Blocking; the caller holds the directory's lock. Raises JournalError.
        """
        home = rundir.journal(index)
        life = read_life(rundir, index)
        assert life is None or not life.id, "the newest journal must be at home"
        run, id_ = life.run if life is not None else secrets.token_hex(8), secrets.token_hex(8)
        _remove_stale(base, run, rundir)
        directory = base / f"sandplay-{run}-{id_}"
        begun = Life(run, id_, socket.gethostname(), str(directory), copy_every_s)
        try:
            with _told(home, rundir):
                for left in home.parent.glob(f"{home.name}.*{TMP_SUFFIX}"):
                    left.unlink()
                _settle(home)
                mark = _Mark(run, id_, str(rundir.path), os.stat(rundir.journals).st_ino)
            with _told(directory, rundir):
                directory.mkdir(mode=0o700)
                directory.chmod(0o700)
                copy_atomic(home, directory / home.name)
                write_atomic(directory / MARK, msgspec.json.encode(mark))
            with _told(home, rundir):
                _write_life(rundir, index, begun)
        except JournalError:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return cls(rundir, index, begun)

    @property
    def age_s(self) -> float:
        """Seconds for which the copy may lack what happened: what a node that is lost now costs."""
        return time.monotonic() - self._current_at

    def start(self, show: Callable[[int], None], fail: Callable[[JournalError], None]) -> None:
        """Copy from now on. `show` is told the highest seq that is copied, `fail` why no copy can be made any more."""
        self._show = show
        self._thread = threading.Thread(target=self._run, args=(fail,), name=f"copy-{self._index}", daemon=True)
        self._thread.start()

    def _run(self, fail: Callable[[JournalError], None]) -> None:
        due = time.monotonic() + self._life.copy_every_s
        while not self._stopped.wait(min(max(due - time.monotonic(), 0.0), threading.TIMEOUT_MAX)):
            due = time.monotonic() + self._life.copy_every_s
            try:
                self.copy()
            except JournalError as error:
                fail(error)
                return

    def copy(self) -> None:
        """Copy what is durable by now, if anything is new; blocking, from any thread. Raises JournalError."""
        with self._copying:
            begun = time.monotonic()
            self._copy()
            self._current_at = begun

    def _copy(self) -> None:
        # On this node's disk first, which is quick: while it is read, the WAL cannot begin anew.
        staged = self.path.with_name("copy.db")
        with _told(staged, self._rundir):
            last_seq = self._snapshot(staged)
        if last_seq is None:
            return
        with _told(self._home, self._rundir):
            _replace(self._home, staged, self.require_ours)
        self._show(last_seq)

    def require_ours(self) -> None:
        """Raise JournalError once another journal counts: the run was taken up elsewhere."""
        _require(self._rundir, self._index, self._life.id)

    def _snapshot(self, target: Path) -> int | None:
        """Write what is durable now as a database; return its highest seq, -1 for none, None when nothing is new."""
        if self._source is None:
            self._source = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        source = self._source
        # One transaction: it sees one moment however long it takes, and in WAL mode keeps no writer waiting.
        source.execute("BEGIN")
        try:
            (last_seq,) = source.execute("SELECT coalesce(max(seq), -1) FROM ended").fetchone()
            (version,) = source.execute("PRAGMA data_version").fetchone()
            if version == self._version:
                return None
            target.unlink(missing_ok=True)
            target.touch(mode=0o600)
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                # Nothing but a copy of it counts, and only once that is durable.
                copy.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
                source.backup(copy, pages=STEP_PAGES, sleep=0)
        finally:
            source.execute("ROLLBACK")
        self._version = version
        return int(last_seq)

    def stop(self) -> None:
        """Make no further copy; the local journal stays, and counts. Safe to call twice."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        if self._source is not None:
            self._source.close()

    def finish(self) -> None:
        """Put the journal, which is closed, back into the run directory, and leave nothing here. Raises JournalError.

        Safe to call twice.
        """
        if self._stopped.is_set():
            return
        self.stop()
        self.require_ours()
        if not bring_home(self._rundir, self._index):
            raise JournalError(f"a journal must stay where it is, got none in {self.path}: its copy is what is left")


def _remove_stale(base: Path, run: str, rundir: RunDirectory) -> None:
    """Remove what earlier lives of this journal left on this node: the run has moved on since."""
    for directory in base.glob(f"sandplay-{run}-*"):
        mark = _read_mark(directory)
        if mark is not None and mark.run == run and mark.is_of(rundir):
            shutil.rmtree(directory, ignore_errors=True)
