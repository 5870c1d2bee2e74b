"""What this process holds in memory."""

import os
from contextlib import suppress
from pathlib import Path


def resident_bytes() -> int | None:
    """Return the bytes of this process that are in memory, None where the system does not say."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None
