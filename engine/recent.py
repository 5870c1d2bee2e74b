"""The episodes that ended last, encoded, in memory: who tails a journal closely reads neither rows nor parts.

Invariant: what is here is durable, in order of seq without a gap, and no more than `MAX_BYTES`; what was let go of is
in the store or in a part. Safe to use from any thread. Empty until somebody has asked.
"""

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

MAX_BYTES: Final = 64 << 20


class Recent:
    """A window over the end of one journal."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._rows: deque[tuple[int, bytes]] = deque()
        self._num_bytes = 0
        self._is_wanted = False

    def add(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Take up (seq, encoded record) of episodes that have just become durable."""
        if not self._is_wanted:
            return
        with self._lock:
            self._rows.extend(rows)
            self._num_bytes += sum(len(body) for _, body in rows)
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= len(self._rows.popleft()[1])

    def after(self, seq: int, limit: int) -> list[bytes] | None:
        """Return the encoded records behind `seq`, at most `limit`; None when they are not all here."""
        self._is_wanted = True
        with self._lock:
            if not self._rows or self._rows[0][0] > seq + 1:
                return None
            # Sequence numbers have no gap: the place of a record follows from the first one's.
            start = seq + 1 - self._rows[0][0]
            return [body for _, body in itertools.islice(self._rows, start, start + limit)]
