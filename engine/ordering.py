"""Ordering policy: which open call goes first; pure.

The engines hold the queue and serve the lowest priority first. While dialogues wait to start, depth goes first: the
dialogue that has come furthest frees its KV cache soonest. Once none waits, the one with most still to come goes first,
so that the last ones end together instead of leaving slots empty; but only where the caches hold all that live, because
going round among more than fit would evict every prefix before its next turn.
"""


class Order:
    """One run's order of calls; `is_tail` says that no dialogue waits to start and the caches hold all that live."""

    def __init__(self) -> None:
        self.is_tail = False

    def priority(self, num_turns: int) -> int:
        """Return the priority of a dialogue's next call after `num_turns` answers; lower is served first."""
        return num_turns if self.is_tail else -num_turns
