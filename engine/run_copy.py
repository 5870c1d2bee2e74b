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

from engine.config_sections import CorpusConfig
from engine.corpus_parts import Manifest, Part, decode_manifest, encode_manifest, read_manifest
from engine.errors import InputError, JournalError
from engine.files import write_atomic
from engine.rundir import RunDirectory
from engine.targets import Target
from engine.transcript import one_line

IDENTITY: Final = "target.json"
"""Says which run a folder holds: the same file in the run's directory and at its target."""
ALWAYS: Final = ("config.toml", "inputs/*")
AT_END: Final = (
    *("metrics*.jsonl", "swaps.jsonl", "exam.json", "items.parquet", "judging.json", "verdicts.jsonl"),
    "report.html",
)


MANY: Final = 20
"""Parts after which one is told how far it is."""


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
    own = rundir.path / IDENTITY
    folder = msgspec.json.decode(own.read_bytes(), type=Identity).folder if own.is_file() else rundir.path.name
    return Target.open(config.target, config.target_options).inside(folder)


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
    return f"the target cannot be written: {one_line(str(error) or type(error).__name__, 300)}"


def claim(rundir: RunDirectory, target: Target) -> None:
    """Make the folder this run's, with all that a reader of parts needs beside them. Raises as `refuse_taken` does."""
    if refuse_taken(rundir, target):
        return
    own = rundir.path / IDENTITY
    if not own.is_file():
        write_atomic(own, msgspec.json.encode(Identity(uuid.uuid4().hex, rundir.path.name)))
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
    """The sealed parts of one journal at the target."""

    def __init__(self, rundir: RunDirectory, target: Target, index: int) -> None:
        self._rundir = rundir
        self._target = target
        self._name = f"episodes/{rundir.manifest(index).name}"
        self._named: Manifest | None = None
        self._sizes: dict[str, int] = {}

    @property
    def num_named(self) -> int:
        """Parts that the target's manifest is known to name."""
        return 0 if self._named is None else len(self._named.parts)

    def bring(self, manifest: Manifest, go_on: Callable[[], bool] = lambda: True) -> None:
        """Copy the parts that the target lacks, each followed by the manifest that names it, while `go_on` says so.

        Called again after a failure it goes on. Raises OSError; JournalError when a part here is damaged, or the target
        names parts that the run does not have.
        """
        if self._named is None:
            self._named = self._look(manifest)
        for place, part in enumerate(manifest.parts):
            if not go_on():
                return
            if self._sizes.get(part.file) != part.size or place >= self.num_named:
                self._target.put(f"episodes/{part.file}", _whole(self._rundir.episodes / part.file, part))
                self._sizes[part.file] = part.size
            if place >= self.num_named:
                grown = msgspec.structs.replace(manifest, parts=manifest.parts[: place + 1])
                self._target.put(self._name, encode_manifest(grown))
                self._named = grown

    def _look(self, manifest: Manifest) -> Manifest:
        """Return what the target names, which is the beginning of what the run has."""
        self._sizes = self._target.sizes("episodes")
        try:
            named = decode_manifest(self._target.get(self._name), f"{self._target.place}/{self._name}")
        except FileNotFoundError:
            named = Manifest(journal=manifest.journal)
        if named.parts != manifest.parts[: len(named.parts)]:
            raise JournalError(
                f"a run must have every part that its target names, got others in {self._target.place}: "
                "bring it anew with sandplay fetch-run, or choose another corpus.target"
            )
        return named


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
        manifest, copy = read_manifest(rundir, index), JournalCopy(rundir, target, index)
        copy.bring(manifest, _telling(copy, manifest, say))
        parts += copy.num_named
    copy_files(rundir, target, ALWAYS, target.sizes())  # they are identity: none ever changes
    copy_files(rundir, target, AT_END)
    return CopyState(target.place, parts)


def _telling(copy: JournalCopy, manifest: Manifest, say: Callable[[str], None]) -> Callable[[], bool]:
    num_parts, told = len(manifest.parts), 0

    def tell() -> bool:
        nonlocal told
        if copy.num_named >= told + MANY:
            told = copy.num_named
            say(f"copying parts of journal {manifest.journal}: {told} of {num_parts}")
        return True

    return tell


def manifest_indices(rundir: RunDirectory) -> list[int]:
    """Return the indices of the journals that have sealed parts, ascending."""
    names = (path.name.split(".")[0] for path in rundir.episodes.glob("*.manifest.json"))
    return sorted(int(name) for name in names if name.isdigit())
