"""What this process holds in memory, and giving back what it no longer needs."""

import ctypes
import functools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def resident_bytes() -> int | None:
    """Return the bytes of this process that are in memory, None where the system does not say."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def give_back() -> None:
    """Give free memory back to the system: millions of small texts leave glibc's heap in pieces, 20 bytes for each
    episode. Nothing where the C library has no `malloc_trim`.
    """
    _trim()(0)


@functools.lru_cache(maxsize=1)
def _trim() -> Callable[[int], object]:
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda _: None
    return found
