"""Admission policy: how many dialogues are live, and which of them go on; pure.

Live dialogues are bounded by a number or, with `auto`, by what the pools can hold: what live dialogues commit stays
under `HEADROOM` of the KV tokens the engines report, times a trim that follows what they suffer; and never more than
`LIVE_PER_SLOT` dialogues per slot, beyond which waiting only spreads the cache thinner. What a dialogue will need is
learnt from those that ended. Until one has ended, each commits all it may come to need, because dialogues started
together also grow together, and that estimate shrinks while slots stand free; from then on ages are mixed, and each
commits `FUTURE` parts of what it will come to hold and the rest of what it holds.

An estimate may be wrong, so `auto` also sheds: dialogues that together hold more than the caches are held back,
youngest first, each at its next turn. A shed dialogue stays live and loses nothing; it goes on, oldest first, before
any other starts. So do dialogues that would only queue, until it is known that the caches have room for them: an
engine would fill the slots of shed ones with them.
Invariant: after each `balance` at least one live dialogue may go on.
"""

from collections import OrderedDict
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
SHED: Final = 0.95
"""Share of the KV tokens that those who go on may hold: what has just ended or was shed stays cached for a while."""
RESUME: Final = 0.85
"""Share of the KV tokens up to which shed dialogues go on again; the gap spares shedding them at once."""
HOLDING: Final = ("ready", "cordoned", "swapping")
"""States in which a replica holds the caches of live dialogues; new ones are counted on the ready alone."""
ASKING_PER_SLOT: Final = 1.25
"""Dialogues per slot that go on at once unless it is known that the caches have room for more: they fill the slots."""


class Pool(msgspec.Struct, frozen=True):
    """What admission looks at: a pool's replicas and how many roles of one dialogue it serves."""

    replicas: Sequence[ReplicaGauges]
    num_roles: int


class _Budget:
    """What the live dialogues of one pool hold, and what is known of a dialogue's need. Tokens.

    `held` is what all hold, `shed` what those hold that were shed. The prior shrinks only where shedding mends it.
    """

    def __init__(self, can_shrink: bool = False) -> None:
        self.can_shrink = can_shrink
        self.contexts: dict[str, dict[str, int]] = {}
        self.held = 0
        self.shed = 0
        self.prior_scale = 1.0
        self.final: float | None = None
        self.num_ended = 0
        self.trim = 1.0
        self.preemptions = 0
        self.num_since_change = 0

    @property
    def active(self) -> int:
        """Tokens of the dialogues that go on."""
        return self.held - self.shed

    def tokens(self, episode: str) -> int:
        """Return what a dialogue holds."""
        return sum(self.contexts.get(episode, {}).values())

    def is_short(self, num_active: int, kv_tokens: int) -> bool:
        """Whether so many that go on would commit too much, or might for all that is known."""
        if self.final is None:
            return True
        return self.active * (1 - FUTURE) + num_active * self.final * FUTURE > HEADROOM * self.trim * kv_tokens

    def observe(self, episode: str, role: str, tokens: int, is_shed: bool) -> None:
        views = self.contexts.setdefault(episode, {})
        change = tokens - views.get(role, 0)
        self.held += change
        self.shed += change if is_shed else 0
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

    def follow(self, replicas: Sequence[ReplicaGauges], num_live: int, kv_tokens: int) -> None:
        """Trim by what the engines suffer, once per turn of all live dialogues at most."""
        preemptions = sum(replica.preemptions for replica in replicas)
        is_settled = self.num_since_change >= max(num_live, 1)
        if preemptions > self.preemptions and is_settled:
            self._change(CUT)
        elif is_settled and num_live and self._is_idle(replicas):
            self._grow(kv_tokens)
        self.preemptions = preemptions if is_settled else min(self.preemptions, preemptions)

    def _grow(self, kv_tokens: int) -> None:
        """Trust the trim more; before any dialogue has ended, the prior less: half, the less the fuller the caches."""
        if self.final is not None or not self.can_shrink:
            self._change(GROWTH)
            return
        self.prior_scale /= 1.0 + max(0.0, 1.0 - self.held / (HEADROOM * kv_tokens))
        self.num_since_change = 0

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
    """Counts what dialogues commit; says how many more may start, and which live ones go on.

    With a fixed `max_live`, or with `can_shed` false, all live dialogues go on.
    """

    def __init__(self, max_live: int | None, *, prior_tokens: int = PRIOR_TOKENS, can_shed: bool = True) -> None:
        self.max_live = max_live
        self._can_shed = can_shed and max_live is None
        self._prior_tokens = prior_tokens
        self._budgets: dict[str, _Budget] = {}
        # Both from oldest to youngest, by admission; every active dialogue is older than every shed one.
        self._active: OrderedDict[str, None] = OrderedDict()
        self._shed: OrderedDict[str, None] = OrderedDict()
        self._capacities: dict[str, int] = {}
        self._num_slots = 0

    @property
    def num_shed(self) -> int:
        """Live dialogues that are held back."""
        return len(self._shed)

    def start(self, episode: str) -> None:
        """Take note of a dialogue that is live from now on, the youngest; ask `is_shed` before each of its steps."""
        if self._can_shed:
            is_one_too_many = bool(self._shed) or self._is_crowded()
            (self._shed if is_one_too_many else self._active)[episode] = None

    def is_shed(self, episode: str) -> bool:
        """Whether a live dialogue is held back: its next steps are not to be asked until `balance` names it."""
        return episode in self._shed

    def balance(self, pools: Mapping[str, Pool]) -> list[str]:
        """Shed dialogues or let shed ones go on; return those that go on again, oldest first. At least one always may.

        While a pool has no ready replica, nothing changes but that one may go on.
        """
        if not self._can_shed:
            return []
        ready = {name: [one for one in pool.replicas if one.state in HOLDING] for name, pool in pools.items()}
        resumed: list[str] = []
        if all(ready.values()):
            self._measure(ready)
            while len(self._active) > 1 and self._is_over():
                self._give_up_youngest()
            while self._shed and self._has_room_for_oldest():
                resumed.append(self._take_up_oldest())
        if self._shed and not self._active:
            resumed.append(self._take_up_oldest())
        return resumed

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
        self._budget(pool).observe(episode, role, tokens, episode in self._shed)

    def forget(self, episode: str, roles: Mapping[str, str]) -> None:
        """Learn from an ended episode and drop it. `roles` maps role to pool."""
        if episode in self._shed:
            self._count_shed(episode, -1)
            del self._shed[episode]
        self._active.pop(episode, None)
        for pool in set(roles.values()):
            self._budget(pool).forget(episode)

    def committed(self, pool: str) -> int:
        """Return the tokens of all live views in a pool."""
        return self._budget(pool).held

    def _budget(self, pool: str) -> _Budget:
        budget = self._budgets.get(pool)
        if budget is None:
            budget = self._budgets[pool] = _Budget(self._can_shed)
        return budget

    def _measure(self, ready: Mapping[str, Sequence[ReplicaGauges]]) -> None:
        """Take note of slots and KV tokens; a pool without KV figures bounds nothing."""
        self._num_slots = sum(replica.slots for replicas in ready.values() for replica in replicas)
        kv_tokens = {name: sum(replica.kv_tokens or 0 for replica in replicas) for name, replicas in ready.items()}
        self._capacities = {name: tokens for name, tokens in kv_tokens.items() if tokens}

    def _is_over(self) -> bool:
        return any(self._budget(pool).active > SHED * tokens for pool, tokens in self._capacities.items())

    def _is_crowded(self) -> bool:
        """Whether one more would only queue, and might evict others: the caches are not known to have room for it."""
        num_next = len(self._active) + 1
        if num_next <= max(ASKING_PER_SLOT * self._num_slots, 1.0):
            return False
        return any(self._budget(pool).is_short(num_next, tokens) for pool, tokens in self._capacities.items())

    def _has_room_for_oldest(self) -> bool:
        """Whether it fits as it is; one that has not begun must fit as it will be, as if it were to start now."""
        oldest = next(iter(self._shed))
        budgets = [(self._budget(pool), tokens) for pool, tokens in self._capacities.items()]
        if not all(budget.active + budget.tokens(oldest) <= RESUME * tokens for budget, tokens in budgets):
            return False
        num_next = len(self._active) + 1
        has_begun = any(budget.tokens(oldest) for budget, _ in budgets)
        is_known = all(budget.final is not None for budget, _ in budgets)
        if is_known and not has_begun:
            return not any(budget.is_short(num_next, tokens) for budget, tokens in budgets)
        return not self._is_crowded()

    def _give_up_youngest(self) -> None:
        episode, _ = self._active.popitem()
        self._shed[episode] = None
        self._shed.move_to_end(episode, last=False)
        self._count_shed(episode, 1)

    def _take_up_oldest(self) -> str:
        episode, _ = self._shed.popitem(last=False)
        self._active[episode] = None
        self._count_shed(episode, -1)
        return episode

    def _count_shed(self, episode: str, sign: int) -> None:
        for budget in self._budgets.values():
            budget.shed += sign * budget.tokens(episode)

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
        budget.follow(ready, num_live, sum(kv_tokens))
        if self._shed:
            return min(room, 0)
        capacity = HEADROOM * budget.trim * sum(kv_tokens)
        if budget.final is None:
            each = max(self._prior_tokens * pool.num_roles * budget.prior_scale, budget.held / max(num_live, 1), 1.0)
            return min(room, int(capacity / each) - num_live)
        each = max(budget.final, 1.0) * FUTURE
        return min(room, int((capacity - budget.held * (1 - FUTURE) - num_live * each) / each))
