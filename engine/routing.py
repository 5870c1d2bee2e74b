"""Routing policy: which replica serves an episode's next turn; pure.

An episode sticks to its replica for the prefix cache. First contact goes to the ready replica with the fewest KV tokens
committed, one that last served the same case preferred within a margin, ties rotating. An episode moves only at a turn
boundary: when its replica is sick, or when it queues there while another replica has free slots and room in its KV
cache for the whole context. Token counts are the router's own estimate; an episode commits what past ones came to, or
its own longest context once that is more.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from engine.backend import ReplicaGauges

EXPECTED_TOKENS: Final = 1500
"""Commitment of an episode before any has ended: at nothing, one wave of new episodes would all go to one replica."""
MEMORY: Final = 0.9
"""Weight that the average of past episodes keeps when another one ends."""
AFFINITY_EPISODES: Final = 1.0
"""How many expected episodes more than the least committed replica may hold, to be chosen for a case it knows."""
MOVE_SHARE: Final = 0.5
"""Gap in open calls, per slot, from which on moving an episode is worth computing its context again."""
MIN_MOVE_CALLS: Final = 2


class _Load:
    """One replica as the router sees it."""

    __slots__ = ("num_open", "slots", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self.num_open = 0
        self.slots = 1


class _Stay(msgspec.Struct, eq=False, gc=False):
    """Where an episode lives, and what it commits there."""

    replica: str
    tokens: int


class Router:
    """One pool's assignments. Call `refresh` before a batch of `route` calls."""

    def __init__(self, *, affinity: float = AFFINITY_EPISODES, move_share: float = MOVE_SHARE) -> None:
        self._affinity = affinity
        self._move_share = move_share
        self._stays: dict[str, _Stay] = {}
        self._loads: dict[str, _Load] = {}
        self._case_homes: dict[str, str] = {}
        self._ready: list[str] = []
        self._ready_set: frozenset[str] = frozenset()
        self._idlest: str | None = None
        self._seen: Sequence[ReplicaGauges] = ()
        self._expected = EXPECTED_TOKENS
        self._turn = 0
        self.num_moves = 0

    def refresh(self, replicas: Sequence[ReplicaGauges]) -> None:
        """Take note of which replicas are ready."""
        self._idlest = None
        if replicas is self._seen:
            return
        self._seen = replicas
        # Gauges change with every batch, states hardly ever: a thousand replicas must not be looked up each time.
        ready = [gauges.replica for gauges in replicas if gauges.state == "ready"]
        if ready != self._ready:
            for gauges in replicas:
                self._load(gauges.replica).slots = gauges.slots
            self._ready = ready
            self._ready_set = frozenset(ready)

    def route(self, episode: str, case: str = "", avoid: str = "") -> str | None:
        """Return a ready replica for the episode's next request, or None when there is none.

        `avoid` names the replica on which the last attempt failed; it is used only if no other is ready.
        """
        stay = self._stays.get(episode)
        if stay is not None and stay.replica in self._ready_set and stay.replica != avoid:
            better = self._better_place(stay)
            return stay.replica if better is None else self._settle(episode, better)
        choices = [name for name in self._ready if name != avoid] or self._ready
        if not choices:
            return None
        return self._settle(episode, self._choose(choices, case), case)

    def sent(self, replica: str) -> None:
        """A request went to a replica."""
        self._loads[replica].num_open += 1

    def returned(self, replica: str) -> None:
        """A request sent to a replica has ended, or is no longer waited for."""
        self._loads[replica].num_open -= 1

    def observe(self, episode: str, tokens: int) -> None:
        """Note the episode's context length in tokens, from its last completion."""
        stay = self._stays.get(episode)
        if stay is not None and tokens > stay.tokens:
            self._loads[stay.replica].tokens += tokens - stay.tokens
            stay.tokens = tokens

    def forget(self, episode: str) -> None:
        """Drop an ended episode."""
        stay = self._stays.pop(episode, None)
        if stay is not None:
            self._loads[stay.replica].tokens -= stay.tokens
            self._expected = round(MEMORY * self._expected + (1 - MEMORY) * stay.tokens)

    def committed(self, replica: str) -> int:
        """Return the tokens committed to a replica."""
        return self._load(replica).tokens

    def _load(self, replica: str) -> _Load:
        load = self._loads.get(replica)
        if load is None:
            load = self._loads[replica] = _Load()
        return load

    def _choose(self, choices: Sequence[str], case: str) -> str:
        """Return the least committed of the choices, or the one that knows the case when it is not much fuller."""
        loads = self._loads
        self._turn += 1
        start = self._turn % len(choices)
        least = min((*choices[start:], *choices[:start]), key=lambda name: loads[name].tokens)
        known = self._case_homes.get(case) if case else None
        if known is None or known not in choices:
            return least
        margin = self._affinity * self._expected
        return known if margin and loads[known].tokens <= loads[least].tokens + margin else least

    def _better_place(self, stay: _Stay) -> str | None:
        """Return the idlest replica if the episode queues at home while that one has free slots and room for it."""
        home = self._loads[stay.replica]
        if home.num_open < home.slots:
            return None
        if self._idlest is None:
            self._idlest = min(self._ready, key=lambda name: self._loads[name].num_open)
        other = self._loads[self._idlest]
        gap = home.num_open - other.num_open
        is_worth_it = gap >= max(MIN_MOVE_CALLS, self._move_share * home.slots)
        has_room = other.num_open < other.slots and home.tokens - other.tokens > stay.tokens
        return self._idlest if is_worth_it and has_room else None

    def _settle(self, episode: str, replica: str, case: str = "") -> str:
        stay = self._stays.get(episode)
        tokens = stay.tokens if stay is not None else self._expected
        if stay is not None:
            self._loads[stay.replica].tokens -= tokens
            self.num_moves += 1
        self._stays[episode] = _Stay(replica, tokens)
        self._loads[replica].tokens += tokens
        if case:
            self._case_homes[case] = replica
        return replica
