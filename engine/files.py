"""Files that are whole or absent.

Invariant: a reader of a path written here sees the old bytes or the new ones, never a part, also after a power cut;
only what is appended may be there in part. Knows nothing of what the bytes mean.
"""

import os
import tempfile
from pathlib import Path

TMP_SUFFIX = ".tmp"


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write `data` to `path`: temporary file beside it, fsync, rename, fsync of the directory.

    `mode` holds whatever the umask. Raises OSError; the old file is then untouched and the temporary one removed.
    A killed writer may leave a `NAME.*.tmp` behind.
    """
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=TMP_SUFFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
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
