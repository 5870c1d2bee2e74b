"""Admission policy: how many dialogues are live; pure.

Live dialogues are bounded by a number or, with `auto`, by what the pools can hold: what live dialogues commit stays
under `HEADROOM` of the KV tokens the engines report, times a trim that follows what they suffer; and never more than
`LIVE_PER_SLOT` dialogues per slot, beyond which waiting only spreads the cache thinner. What a dialogue will need is
learnt from those that ended. Until one has ended, each commits all it may come to need, because dialogues started
together also grow together; from then on ages are mixed, and each commits `FUTURE` parts of what it will come to hold
and the rest of what it holds.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from engine.backend import ReplicaGauges

HEADROOM: Final = 0.85
LIVE_PER_SLOT: Final = 4
PRIOR_TOKENS: Final = 1500
"""KV tokens per role expected of a dialogue before any has ended."""
FUTURE: Final = 0.75
"""Simulated with a cache for about as many dialogues as slots: 0.5, 0.75 and 1 give 2.56, 2.71 and 2.54 episodes/s."""
MEMORY: Final = 0.95
"""Weight that the average of past dialogues keeps when another one ends."""
CUT: Final = 0.85
"""Factor on the trim when the engines had to preempt."""
GROWTH: Final = 1.05
"""Factor on the trim after a quiet stretch with free slots."""
TRIM_RANGE: Final = (0.25, 1.5)


class Pool(msgspec.Struct, frozen=True):
    """What admission looks at: a pool's replicas and how many roles of one dialogue it serves."""

    replicas: Sequence[ReplicaGauges]
    num_roles: int


class _Budget:
    """What the live dialogues of one pool hold, and what is known of a dialogue's need. Tokens."""

    def __init__(self) -> None:
        self.contexts: dict[str, dict[str, int]] = {}
        self.held = 0
        self.final: float | None = None
        self.num_ended = 0
        self.trim = 1.0
        self.preemptions = 0
        self.num_since_change = 0

    def observe(self, episode: str, role: str, tokens: int) -> None:
        views = self.contexts.setdefault(episode, {})
        self.held += tokens - views.get(role, 0)
        views[role] = tokens
        self.num_since_change += 1

    def forget(self, episode: str) -> None:
        tokens = sum(self.contexts.pop(episode, {}).values())
        if tokens:
            self.held -= tokens
            self.num_ended += 1
            # A plain mean at first: the shortest end first, and one of them must not speak for all.
            weight = max(1 / self.num_ended, 1 - MEMORY)
            self.final = tokens * weight + (self.final or 0.0) * (1 - weight)

    def follow(self, replicas: Sequence[ReplicaGauges], num_live: int) -> None:
        """Trim by what the engines suffer, once per turn of all live dialogues at most."""
        preemptions = sum(replica.preemptions for replica in replicas)
        is_settled = self.num_since_change >= max(num_live, 1)
        if preemptions > self.preemptions and is_settled:
            self._change(CUT)
        elif is_settled and num_live and self._is_idle(replicas):
            self._change(GROWTH)
        self.preemptions = preemptions if is_settled else min(self.preemptions, preemptions)

    def _is_idle(self, replicas: Sequence[ReplicaGauges]) -> bool:
        """Whether slots stand free although nothing waits, and the caches have room."""
        slots = sum(replica.slots for replica in replicas)
        running = sum(replica.running for replica in replicas)
        waiting = sum(replica.waiting for replica in replicas)
        is_full = any(replica.kv_usage > HEADROOM for replica in replicas)
        return running < slots and not waiting and not is_full

    def _change(self, factor: float) -> None:
        least, most = TRIM_RANGE
        self.trim = min(max(self.trim * factor, least), most)
        self.num_since_change = 0


class Admission:
    """Counts what dialogues commit and says how many more may start."""

    def __init__(self, max_live: int | None, *, prior_tokens: int = PRIOR_TOKENS) -> None:
        self.max_live = max_live
        self._prior_tokens = prior_tokens
        self._budgets: dict[str, _Budget] = {}

    def room(self, num_live: int, pools: Mapping[str, Pool]) -> int:
        """Return how many dialogues may start now. At least one may live whatever the figures say."""
        if self.max_live is not None:
            return max(self.max_live, 1) - num_live
        rooms = [self._pool_room(name, pool, num_live) for name, pool in pools.items()]
        return max(min(rooms, default=1), 1 - num_live)

    def holds_all(self, num_live: int, pools: Mapping[str, Pool]) -> bool:
        """Whether the caches hold all live dialogues at their full length, so that none evicts another's prefix."""
        return all(self._pool_holds(name, pool, num_live) for name, pool in pools.items())

    def observe(self, pool: str, episode: str, role: str, tokens: int) -> None:
        """Note the context length of one role's view, from its last completion's usage."""
        self._budget(pool).observe(episode, role, tokens)

    def forget(self, episode: str, roles: Mapping[str, str]) -> None:
        """Learn from an ended episode and drop it. `roles` maps role to pool."""
        for pool in set(roles.values()):
            self._budget(pool).forget(episode)

    def committed(self, pool: str) -> int:
        """Return the tokens of all live views in a pool."""
        return self._budget(pool).held

    def _budget(self, pool: str) -> _Budget:
        budget = self._budgets.get(pool)
        if budget is None:
            budget = self._budgets[pool] = _Budget()
        return budget

    def _pool_holds(self, name: str, pool: Pool, num_live: int) -> bool:
        kv_tokens = [replica.kv_tokens for replica in pool.replicas if replica.kv_tokens is not None]
        final = self._budget(name).final or self._prior_tokens * pool.num_roles
        return not kv_tokens or num_live * final <= HEADROOM * sum(kv_tokens)

    def _pool_room(self, name: str, pool: Pool, num_live: int) -> int:
        ready = [replica for replica in pool.replicas if replica.state == "ready"]
        room = LIVE_PER_SLOT * sum(replica.slots for replica in ready) - num_live
        kv_tokens = [replica.kv_tokens for replica in ready if replica.kv_tokens is not None]
        if not kv_tokens:
            return room
        budget = self._budget(name)
        budget.follow(ready, num_live)
        capacity = HEADROOM * budget.trim * sum(kv_tokens)
        if budget.final is None:
            each = max(self._prior_tokens * pool.num_roles, budget.held / max(num_live, 1), 1.0)
            return min(room, int(capacity / each) - num_live)
        each = max(budget.final, 1.0) * FUTURE
        return min(room, int((capacity - budget.held * (1 - FUTURE) - num_live * each) / each))
