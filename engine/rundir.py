"""The run directory: where everything of one run is kept, and who may write to it.

Invariant: at most one driver holds a run directory at a time; the kernel releases its lock when it dies, so a stale
lock is no obstacle. Everything is private to its owner (0700 and 0600), whatever the umask. Knows the names, not what
the files mean.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from engine.errors import InputError, RunHeld
from engine.file_systems import file_system_of
from engine.files import fsync_directory, write_atomic

DIRECTORIES = ("journals", "episodes", "inputs")


class Holder(msgspec.Struct, frozen=True):
    """Who holds a run directory. `started_at` is Unix time."""

    pid: int
    host: str
    started_at: float


class RunDirectory:
    """The paths of one run. `create` and `open` are the ways to get one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.journals = path / "journals"
        self.episodes = path / "episodes"
        self.inputs = path / "inputs"
        self.processes = path / "processes.json"
        self.metrics = path / "metrics.jsonl"
        self.driver_lock = path / "driver.lock"
        self.control = path / "control.sock"
        self.serving = path / "serving.json"
        self.swaps = path / "swaps.jsonl"
        self.report = path / "report.html"
        self._gate = path / "gate.lock"
        self._manifests: dict[int, Path] = {}

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def create(cls, path: Path | str, files: Mapping[str, bytes] | None = None) -> "RunDirectory":
        """Make a run directory at `path`, which must not exist or be empty.

        `files` maps names relative to it (`config.toml`, `inputs/case.json`) to bytes; they are written in order.
        Raises InputError when something is there already or the place cannot be written; nothing of the run is then
        left behind.
        """
        root = Path(path).absolute()
        made: list[Path] = []
        try:
            _refuse_used(root)
            _make_directories(root, made)
            for name, data in (files or {}).items():
                made.append(root / name)
                write_atomic(root / name, data)
            fsync_directory(root.parent)
        except OSError as error:
            _remove(made)
            raise InputError(f"a run directory must be writable, got {error}: choose another --out") from error
        except BaseException:
            _remove(made)
            raise
        return cls(root)

    @classmethod
    def open(cls, path: Path | str) -> "RunDirectory":
        """Return the run directory at `path`. Raises InputError when it is none."""
        root = Path(path).absolute()
        missing = [name for name in ("journals", "episodes") if not (root / name).is_dir()]
        if missing:
            what = f"lacks {' and '.join(missing)}" if root.is_dir() else "is no directory"
            raise InputError(
                f"must be a run directory with journals and episodes, got {root}, which {what}: check the path"
            )
        return cls(root)

    def journal(self, index: int) -> Path:
        """Path of the journal with that index."""
        return self.journals / f"{index:03d}.db"

    def place(self, index: int) -> Path:
        """Path of the file that says where that journal lives, if it ever lived elsewhere."""
        return self.journals / f"{index:03d}.place.json"

    def manifest(self, index: int) -> Path:
        """Path of the manifest of that journal's sealed parts."""
        # Kept, since it is asked for at each part: whatever makes a path has the interpreter intern the texts in it.
        if index not in self._manifests:
            self._manifests[index] = self.episodes / f"{index:03d}.manifest.jsonl"
        return self._manifests[index]

    def metrics_of(self, index: int) -> Path:
        """Path of the metrics of the scheduler that writes that journal."""
        return self.metrics if index == 0 else self.path / f"metrics-{index:03d}.jsonl"

    def processes_of(self, index: int) -> Path:
        """Path of the process table of the shard that writes that journal."""
        return self.path / f"processes-{index:03d}.json"

    def process_tables(self) -> list[Path]:
        """Return every process table of the run."""
        return sorted(self.path.glob("processes*.json"))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory as its driver.

        Raises RunHeld naming the holder when another driver lives, InputError when the place knows no locks. A reader
        that is just looking (`read_lock`) is waited for.
        """
        with _opened(self._gate) as gate, _opened(self.driver_lock) as descriptor:
            _flock(gate, fcntl.LOCK_EX)
            try:
                mine = self._hold(descriptor)
            finally:
                _flock(gate, fcntl.LOCK_UN)
            try:
                yield
            finally:
                # Where the lock was lost on the way, as with a node that hung, the name is that of who has it now.
                if self.holder() == mine:
                    os.ftruncate(descriptor, 0)

    def _hold(self, descriptor: int) -> Holder:
        try:
            _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunHeld(self._held_by()) from None
        holder = Holder(os.getpid(), socket.gethostname(), time.time())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(holder), 0)
        os.fsync(descriptor)
        return holder

    @contextmanager
    def read_lock(self) -> Iterator[bool]:
        """Keep drivers out for a short look; yields whether no driver lives. Never refuses, never makes one refuse.

        A directory that may not be written counts as driven: nothing in it can be opened as owner.
        """
        with ExitStack() as stack:
            try:
                gate = stack.enter_context(_opened(self._gate))
                descriptor = stack.enter_context(_opened(self.driver_lock))
                _flock(gate, fcntl.LOCK_EX)
                _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_free = True
            except (InputError, BlockingIOError):
                is_free = False
                stack.close()
            yield is_free

    def name_in_lock(self) -> bytes | None:
        """Return what the last driver wrote into the lock file, empty once it has left; None when it cannot be read."""
        with suppress(OSError):
            return self.driver_lock.read_bytes()
        return None

    def holder(self) -> Holder | None:
        """Who wrote its name into the lock file; None when nobody did. The lock itself decides who holds it."""
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(self.name_in_lock() or b"", type=Holder)
        return None

    def _held_by(self) -> str:
        holder = self.holder()
        if holder is None:
            who = "another process"
        else:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.started_at))
            who = f"pid {holder.pid} on {holder.host} since {since}"
            if holder.host != socket.gethostname() and (disk := file_system_of(self.path)).is_network:
                # A server gives a dead node's locks back only when it hears no more of it.
                who += f" (by {disk}; a node that died holds it until its lease ends)"
        return f"one driver at a time may hold {self.path}, got a second while {who} holds it: wait for it or stop it"


def _refuse_used(root: Path) -> None:
    """Empty directories of ours do not count: a killed `create` may have left them."""
    if not root.exists() and not root.is_symlink():
        return
    if not root.is_dir():
        raise InputError(f"a run directory must be a directory, got the file {root}: choose another --out")
    if any(e.name not in DIRECTORIES or not e.is_dir() or any(e.iterdir()) for e in root.iterdir()):
        raise InputError(
            f"a new run needs an empty directory, got {root} with files in it: "
            f"`sandplay resume {root}` continues a run, or choose another --out"
        )


def _make_directories(root: Path, made: list[Path]) -> None:
    missing = [p for p in (root, *root.parents) if not p.exists()]
    for path in reversed(missing):
        path.mkdir()
        made.append(path)
    root.chmod(0o700)
    for name in DIRECTORIES:
        path = root / name
        if not path.exists():
            path.mkdir()
            made.append(path)
        path.chmod(0o700)


def _remove(made: list[Path]) -> None:
    for path in reversed(made):
        with suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(f"a run directory must be writable, got {error}: check its owner and mode") from error
    try:
        with suppress(PermissionError):
            os.fchmod(descriptor, 0o600)
        yield descriptor
    finally:
        os.close(descriptor)


def _flock(descriptor: int, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        problem = f"a run directory needs a file system with locks, got {error}: choose another --out"
        raise InputError(problem) from error
