"""Retry policy: whether a failed attempt is tried again, and when; pure.

Only transport-level trouble is retried. A 429 is waited for, bounded by time; everything else is bounded by a count.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from engine.backend import Failure
from engine.record import AttemptRecord

FATAL: Final = frozenset({"context_overflow", "rejected", "unauthorized"})
"""Kinds that another attempt cannot mend."""
AT_ONCE: Final = frozenset({"replica_lost", "timeout"})
"""Kinds that go to another replica without delay."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`max_attempts` bounds attempts per step; waits asked for by a server are bounded by `max_wait_s` per step."""

    max_attempts: int = 4
    max_wait_s: float = 900.0
    base_s: float = 0.5
    cap_s: float = 30.0

    def delay(self, failure: Failure, past: Sequence[AttemptRecord], waited_s: float, jitter: float) -> float | None:
        """Return seconds until the next attempt, or None to give up.

        `past` are all failed attempts of the step including this one, `waited_s` what it has waited on 429s so far,
        `jitter` a number in 0..1 that spreads retries.
        """
        if failure.kind in FATAL:
            return None
        if failure.kind == "rate_limited":
            num_limited = sum(attempt.kind == "rate_limited" for attempt in past)
            delay = self._asked_or_backoff(failure, num_limited, jitter)
            return delay if waited_s + delay <= self.max_wait_s else None
        num_spent = sum(attempt.kind != "rate_limited" for attempt in past)
        if num_spent >= self.max_attempts:
            return None
        if failure.kind in AT_ONCE:
            return 0.0
        return self._asked_or_backoff(failure, num_spent, jitter)

    def _asked_or_backoff(self, failure: Failure, num_past: int, jitter: float) -> float:
        if failure.retry_after_s is not None:
            return failure.retry_after_s
        backoff: float = self.base_s * 2.0 ** min(num_past - 1, 16)
        return min(self.cap_s, backoff) * (0.5 + 0.5 * jitter)
