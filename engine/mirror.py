"""A run at a target, brought back into a run directory: manifests as they stand, and the parts that these name.

Invariant: what is brought is whole, or the directory is not there. Names come from the target and are taken only where
they are those of a run's files. Knows nothing of what the files mean.
"""

import fnmatch
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from engine.corpus_parts import Manifest, Part, decode_manifest
from engine.errors import InputError
from engine.files import fsync_directory, write_atomic
from engine.run_copy import ALWAYS, AT_END, IDENTITY
from engine.rundir import RunDirectory
from engine.targets import Target, retried
from engine.transcript import one_line, printable

_MANIFEST: Final = re.compile(r"episodes/\d{3,}\.manifest\.jsonl", re.ASCII)
_PART: Final = re.compile(r"\d{3,}-\d{5,}\.parquet", re.ASCII)
_MIB: Final = 1 << 20
T = TypeVar("T")


def bring_run(uri: str, directory: Path) -> RunDirectory:
    """Bring the run at a target's URI into a new directory, and say on stderr how far it is.

    Raises InputError when there is no run, it cannot be read or is damaged, or the directory is in use; nothing is then
    left behind.
    """
    directory = directory.absolute()
    if directory.is_symlink() or (directory.exists() and (not directory.is_dir() or any(directory.iterdir()))):
        raise InputError(f"a run must be brought into a new directory, got {directory}, which is in use: name another")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            _bring(_asked(_shown(uri), lambda: Target.open(uri)), RunDirectory.create(scratch))
            os.rename(scratch, directory)
            fsync_directory(directory.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"a run must be brought where it can be written, got {one_line(str(error), 300)}: name another directory"
        ) from error
    return RunDirectory.open(directory)


def _asked(place: str, call: Callable[[], T]) -> T:
    """Return what a target answers. Raises InputError."""
    try:
        return retried(call)
    except OSError as error:
        raise InputError(f"{place} must be readable, got {one_line(str(error), 300)}") from error


def _shown(uri: str) -> str:
    return one_line(uri.partition("?")[0], 200)


def _bring(target: Target, rundir: RunDirectory) -> None:
    def get(name: str) -> bytes:
        return _asked(target.place, partial(target.get, name))

    sizes = _asked(target.place, target.sizes)
    if "config.toml" not in sizes:
        raise InputError(f"a run must have its config.toml, got none in {target.place}: check the URI")
    names = [name for name in sorted(sizes) if _MANIFEST.fullmatch(name)]
    manifests = {name: get(name) for name in names}
    parts = [part for name, data in manifests.items() for part in _parts(decode_manifest(data, name), target)]
    sys.stderr.write(printable(f"bringing {_amount(parts)} from {target.place}", markup=False) + "\n")
    for part in _shown_while(parts):
        data = get(f"episodes/{part.file}")
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise InputError(f"a part must be what was sealed, got other bytes in {target.place}/episodes/{part.file}")
        write_atomic(rundir.episodes / part.file, data)
    for name, data in manifests.items():
        write_atomic(rundir.path / name, data)
    for name in sizes:
        if name.count("/") <= 1 and any(fnmatch.fnmatch(name, wanted) for wanted in (*ALWAYS, *AT_END, IDENTITY)):
            write_atomic(rundir.path / name, get(name))


def _parts(manifest: Manifest, target: Target) -> tuple[Part, ...]:
    for part in manifest.parts:
        if not _PART.fullmatch(part.file):
            raise InputError(f"a part must have a part's name, got {part.file!r} in a manifest of {target.place}")
    return manifest.parts


def _amount(parts: list[Part]) -> str:
    return f"{len(parts)} parts, {sum(part.size for part in parts) / _MIB:.1f} MiB,"


def _shown_while(parts: list[Part]) -> Iterator[Part]:
    """Yield the parts, with a bar on a terminal."""
    if not sys.stderr.isatty():
        yield from parts
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("parts", total=sum(part.size for part in parts))
        for part in parts:
            yield part
            bar.advance(task, part.size)
