"""A run beside its directory: its sealed parts, manifests and other files, copied to a folder at its target.

Invariant: a manifest at the target names only parts that stand there whole, and never fewer than before; a folder that
holds anything else than this very run is left alone. What stands there is asked of the target itself, so that a copy
which was cut off is gone on with by anyone who has the run. Knows nothing of threads.
"""

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from engine.api_keys import hide
from engine.config_sections import CorpusConfig
from engine.corpus_parts import Part, decode_manifest, encode_manifest, read_manifest
from engine.errors import InputError, JournalError
from engine.files import write_atomic
from engine.rundir import RunDirectory
from engine.targets import Target
from engine.transcript import one_line

IDENTITY: Final = "target.json"
"""Says which run a folder holds: the same file in the run's directory and at its target."""
ALWAYS: Final = ("config.toml", "inputs/*")
AT_END: Final = (
    *("metrics*.jsonl", "swaps.jsonl", "egress.jsonl", "exam.json", "items.parquet", "judging.json", "verdicts.jsonl"),
    "report.html",
)


MANY: Final = 20
"""Parts after which one is told how far it is."""
NAMED_PER_NEW: Final = 64
"""A manifest at the target is written again for each new part per so many named ones: its bytes grow with the run."""


class Identity(msgspec.Struct, frozen=True):
    """Which run it is, by a number drawn for it, and the name of its folder at targets, wherever its directory goes."""

    run: str
    folder: str


class CopyState(msgspec.Struct, frozen=True):
    """Where a whole run stands at its target, and in how many parts."""

    place: str
    parts: int


def place_of(rundir: RunDirectory, config: CorpusConfig) -> Target:
    """Return a run's folder at its target. Raises as `Target.open` does."""
    return Target.open(config.target, config.target_options).inside(_folder_of(rundir))


def _folder_of(rundir: RunDirectory) -> str:
    """Return the name of the run's folder at targets: that which it was given, or its directory's."""
    own = rundir.path / IDENTITY
    if not own.is_file():
        # A path may end in `..`, which names another folder there than here.
        return rundir.path.name if rundir.path.name != ".." else rundir.path.resolve().name
    folder = msgspec.json.decode(own.read_bytes(), type=Identity).folder
    if "/" in folder or folder in ("", ".", ".."):
        raise InputError(f"the folder in {own} must be a name, got {one_line(folder, 60)}: correct it")
    return folder


def refuse_taken(rundir: RunDirectory, target: Target) -> bool:
    """Return whether the folder is this run's already; writes nothing.

    Raises InputError when it holds anything else, OSError when it cannot be asked.
    """
    advice = "choose another --out, or another corpus.target"
    own = rundir.path / IDENTITY
    try:
        found = target.get(IDENTITY)
    except FileNotFoundError:
        if names := sorted(target.sizes()):
            what = f"got one with {names[0]} in it and no {IDENTITY}"
            raise InputError(f"the folder {target.place} must be empty or this run's, {what}: {advice}") from None
        return False
    if not own.is_file() or own.read_bytes() != found:
        raise InputError(f"the folder {target.place} must be empty or this run's, got another run's: {advice}")
    return True


def copy_problem(error: Exception) -> str:
    """Return what a user is told of an error that keeps files from the target."""
    return f"the target cannot be written: {one_line(hide(str(error)) or type(error).__name__, 300)}"


def claim(rundir: RunDirectory, target: Target) -> None:
    """Make the folder this run's, with all that a reader of parts needs beside them. Raises as `refuse_taken` does."""
    if refuse_taken(rundir, target):
        return
    own = rundir.path / IDENTITY
    if not own.is_file():
        write_atomic(own, msgspec.json.encode(Identity(uuid.uuid4().hex, _folder_of(rundir))))
    target.put(IDENTITY, own.read_bytes())
    copy_files(rundir, target, ALWAYS)


def copy_files(
    rundir: RunDirectory, target: Target, patterns: Sequence[str], sizes: Mapping[str, int] | None = None
) -> None:
    """Copy what matches in a run's directory, but for files that stand there with their size. Raises OSError."""
    for path in (found for pattern in patterns for found in sorted(rundir.path.glob(pattern)) if found.is_file()):
        name, data = str(path.relative_to(rundir.path)), path.read_bytes()
        if sizes is None or sizes.get(name) != len(data):
            target.put(name, data)


class JournalCopy:
    """The sealed parts of one journal at the target; keeps two numbers, however long the run is."""

    def __init__(self, rundir: RunDirectory, target: Target, index: int) -> None:
        self.num_named = self.num_sealed = 0
        self._rundir, self._target, self._index = rundir, target, index
        self._name = f"episodes/{rundir.manifest(index).name}"
        self._num_there: int | None = None

    def bring(self, go_on: Callable[[], bool] = lambda: True, *, is_last: bool = False) -> None:
        """Copy the sealed parts that the target lacks, and the manifest that names them, while `go_on` says so.

        A manifest is written whole, so that of a long run names its newest parts only by and by, unless this `is_last`.
        Called again after a failure it goes on. Raises OSError; JournalError when a part here is damaged, or the target
        names parts that the run does not have.
        """
        parts = read_manifest(self._rundir, self._index).parts
        self.num_sealed = len(parts)
        if self._num_there is None:
            self._num_there = self._look(parts)
        for part in parts[self._num_there :]:
            if not go_on():
                return
            self._put(part)
            self._num_there += 1
            if self._num_there - self.num_named > self.num_named // NAMED_PER_NEW:
                self._put_names(parts)
        if is_last and self.num_named < self._num_there:
            self._put_names(parts)

    def _look(self, parts: Sequence[Part]) -> int:
        """Make whole what the target names, which is the beginning of what the run has; return how much that is."""
        sizes = self._target.sizes("episodes")
        try:
            named = decode_manifest(self._target.get(self._name), f"{self._target.place}/{self._name}").parts
        except FileNotFoundError:
            named = ()
        if named != parts[: len(named)]:
            raise JournalError(
                f"a run must have every part that its target names, got others in {self._target.place}: "
                "bring it anew with sandplay fetch-run, or choose another corpus.target"
            )
        for part in named:
            if sizes.get(part.file) != part.size:
                self._put(part)
        self.num_named = len(named)
        return len(named)

    def _put(self, part: Part) -> None:
        self._target.put(f"episodes/{part.file}", _whole(self._rundir.episodes / part.file, part))

    def _put_names(self, parts: Sequence[Part]) -> None:
        self._target.put(self._name, encode_manifest(self._index, parts[: self._num_there]))
        self.num_named = self._num_there or 0


def _whole(path: Path, part: Part) -> bytes:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise JournalError(f"a part must be whole to be copied, got other bytes than were sealed in {path}")
    return data


def complete(rundir: RunDirectory, config: CorpusConfig, say: Callable[[str], None]) -> CopyState:
    """Copy all that the target lacks: parts and manifests of every journal, then the other files.

    `say` is told while many parts are copied. Raises InputError, OSError, JournalError.
    """
    target = place_of(rundir, config)
    claim(rundir, target)
    parts = 0
    for index in manifest_indices(rundir):
        copy = JournalCopy(rundir, target, index)
        copy.bring(_telling(copy, say), is_last=True)
        parts += copy.num_named
    copy_files(rundir, target, ALWAYS, target.sizes())  # they are identity: none ever changes
    copy_files(rundir, target, AT_END)
    return CopyState(target.place, parts)


def _telling(copy: JournalCopy, say: Callable[[str], None]) -> Callable[[], bool]:
    told = 0

    def tell() -> bool:
        nonlocal told
        if copy.num_named >= told + MANY:
            told = copy.num_named
            say(f"copying parts: {told} of {copy.num_sealed}")
        return True

    return tell


def manifest_indices(rundir: RunDirectory) -> list[int]:
    """Return the indices of the journals that have sealed parts, ascending."""
    names = (path.name.split(".")[0] for path in rundir.episodes.glob("*.manifest.jsonl"))
    return sorted(int(name) for name in names if name.isdigit())
