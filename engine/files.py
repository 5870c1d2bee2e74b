"""Files that are whole or absent.

Invariant: a reader of a path written here sees the old bytes or the new ones, never a part, also after a power cut;
only what is appended may be there in part. Knows nothing of what the bytes mean.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

TMP_SUFFIX = ".tmp"
COPY_BYTES: Final = 1 << 20


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, mode: int = 0o600, before: Callable[[], None] = lambda: None) -> None:
    """Write `data` to `path`: temporary file beside it, fsync, rename, fsync of the directory.

    `mode` holds whatever the umask; `before` the rename is the last moment to refuse. Raises OSError; the old file is
    then untouched and the temporary one removed. A killed writer may leave a `NAME.*.tmp` behind.
    """
    with _replacing(path, mode, before) as file:
        file.write(data)


def copy_atomic(source: Path, path: Path, before: Callable[[], None] = lambda: None, mode: int = 0o600) -> None:
    """Write what a file holds to `path` as `write_atomic` does."""
    with source.open("rb") as original, _replacing(path, mode, before) as file:
        shutil.copyfileobj(original, file, COPY_BYTES)


@contextmanager
def _replacing(path: Path, mode: int, before: Callable[[], None]) -> Iterator[BinaryIO]:
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=TMP_SUFFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        before()
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def append_durably(path: Path, data: bytes) -> None:
    """Add `data` at the end of a file that exists. Raises OSError; a killed writer may leave a part of it there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
