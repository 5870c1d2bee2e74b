"""What this process holds in memory, and keeping that the same however long it runs."""

import ctypes
import functools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")
_ARENA_MAX: Final = -8
"""A parameter of glibc's `mallopt`."""


def resident_bytes() -> int | None:
    """Return the bytes of this process that are in memory, None where the system does not say."""
    with suppress(OSError, IndexError, ValueError), _STATM.open(encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def give_back() -> None:
    """Give free memory back to the system: millions of small texts leave glibc's heap in pieces, 20 bytes for each
    episode. Nothing where the C library has no `malloc_trim`.
    """
    _of_libc("malloc_trim")(0)


def share_one_heap() -> None:
    """Have threads that start from now on share one heap. glibc would give each its own, in which what others free
    leaves holes: 7 bytes for each episode. Nothing where the C library has no `mallopt`.

    The interpreter's lock lets one thread allocate at a time in any case, nearly.
    """
    _of_libc("mallopt")(_ARENA_MAX, 1)


@functools.lru_cache(maxsize=2)
def _of_libc(name: str) -> Callable[..., object]:
    try:
        found: Callable[..., object] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return lambda *_: None
    return found
