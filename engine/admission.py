"""Admission policy: how many dialogues are live; pure.

Live dialogues are bounded by a number or, with `auto`, by what the pools can hold: the expected KV tokens of all live
dialogues stay under `HEADROOM` of the blocks the engines report; a pool without such a figure gives `LIVE_PER_SLOT`
dialogues per slot. What a dialogue will need is learnt from those that ended.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from engine.backend import ReplicaGauges

HEADROOM: Final = 0.85
LIVE_PER_SLOT: Final = 4
PRIOR_TOKENS: Final = 1500
"""KV tokens per role expected of a dialogue before any has ended."""
MEMORY: Final = 0.95
"""Weight that the average of past dialogues keeps when another one ends."""


class Pool(msgspec.Struct, frozen=True):
    """What admission looks at: a pool's replicas and how many roles of one dialogue it serves."""

    replicas: Sequence[ReplicaGauges]
    num_roles: int


class Admission:
    """Counts what dialogues commit and says how many more may start."""

    def __init__(self, max_live: int | None) -> None:
        self.max_live = max_live
        self._committed: dict[str, dict[tuple[str, str], int]] = {}
        self._expected: dict[str, float] = {}

    def room(self, num_live: int, pools: Mapping[str, Pool]) -> int:
        """Return how many dialogues may start now. At least one may live whatever the figures say."""
        limits = [self._pool_limit(name, pool) for name, pool in pools.items()]
        limit = self.max_live if self.max_live is not None else min(limits, default=1)
        return max(limit, 1) - num_live

    def observe(self, pool: str, episode: str, role: str, tokens: int) -> None:
        """Note the context length of one role's view, from its last completion's usage."""
        self._committed.setdefault(pool, {})[episode, role] = tokens

    def forget(self, episode: str, roles: Mapping[str, str]) -> None:
        """Learn from an ended episode and drop it. `roles` maps role to pool."""
        totals: dict[str, int] = {}
        for role, pool in roles.items():
            totals[pool] = totals.get(pool, 0) + self._committed.get(pool, {}).pop((episode, role), 0)
        for pool, tokens in totals.items():
            if tokens:
                past = self._expected.get(pool, float(tokens))
                self._expected[pool] = MEMORY * past + (1 - MEMORY) * tokens

    def committed(self, pool: str) -> int:
        """Return the tokens of all live views in a pool."""
        return sum(self._committed.get(pool, {}).values())

    def _pool_limit(self, name: str, pool: Pool) -> int:
        ready = [replica for replica in pool.replicas if replica.state == "ready"]
        slots = sum(replica.slots for replica in ready)
        kv_tokens = [replica.kv_tokens for replica in ready if replica.kv_tokens is not None]
        if not kv_tokens:
            return LIVE_PER_SLOT * slots
        expected = max(self._expected.get(name, PRIOR_TOKENS * pool.num_roles), 1.0)
        return int(HEADROOM * sum(kv_tokens) / expected)
