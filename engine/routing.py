"""Routing policy: which replica serves an episode's next turn, and under which weights; pure.

An episode sticks to its replica for the prefix cache. First contact goes to the ready replica with the fewest KV tokens
committed, one that last served the same case preferred within a margin, ties rotating. An episode moves only at a turn
boundary: when its replica is sick, or when it queues there while another replica has free slots and room in its KV
cache for the whole context. Token counts are the router's own estimate; an episode commits what past ones came to, or
its own longest context once that is more.

An episode stays under the weight version that it was placed under first. A cordoned replica keeps the episodes that
live there and lets each go at a turn boundary to a ready replica of the same version that has room. Invariant: an
episode goes on under another version only where nobody who can take it holds its own, or where its replica mixes.
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
ROOM: Final = 0.85
"""Share of a replica's KV tokens that may be committed for an episode of a cordoned replica to move there."""


class _Load:
    """One replica as the router sees it. `kv_tokens` 0: it has no such figure."""

    __slots__ = ("is_mixing", "kv_tokens", "num_open", "slots", "state", "tokens", "versions", "weights")

    def __init__(self) -> None:
        self.tokens = 0
        self.num_open = 0
        self.slots = 1
        self.kv_tokens = 0
        self.state = "ready"
        self.weights = ""
        self.versions: tuple[str, ...] = ("",)
        self.is_mixing = False

    def follow(self, gauges: ReplicaGauges) -> None:
        """Take over what the router looks at; a mixing replica holds its newest version alone."""
        self.slots, self.kv_tokens = gauges.slots, gauges.kv_tokens or 0
        self.state, self.weights, self.is_mixing = gauges.state, gauges.weights, gauges.is_mixing
        self.versions = gauges.versions if gauges.versions and not gauges.is_mixing else (gauges.weights,)


class Stay(msgspec.Struct, eq=False, gc=False):
    """Where an episode lives, what it commits there, and the weight version it is sampled under."""

    replica: str
    tokens: int
    weights: str = ""


class Router:
    """One pool's assignments. Call `refresh` before a batch of `route` or `place` calls."""

    def __init__(self, *, affinity: float = AFFINITY_EPISODES, move_share: float = MOVE_SHARE) -> None:
        self._affinity = affinity
        self._move_share = move_share
        self._stays: dict[str, Stay] = {}
        self._loads: dict[str, _Load] = {}
        self._case_homes: dict[str, str] = {}
        self._ready: list[str] = []
        # The ready replicas that sample under a version, in stable order.
        self._takers: dict[str, dict[str, None]] = {}
        self._idlest: dict[str, str] = {}
        self._seen: Sequence[ReplicaGauges] = ()
        self._states: list[str] = []
        self._weights: list[str] = []
        self._expected = EXPECTED_TOKENS
        self._turn = 0
        self.num_moves = 0

    def refresh(self, replicas: Sequence[ReplicaGauges]) -> None:
        """Take note of which replicas are ready, and for what."""
        self._idlest = {}
        if replicas is self._seen:
            return
        self._seen = replicas
        # Gauges change with every batch, these hardly ever: a thousand replicas must not be looked up each time.
        states = [gauges.state for gauges in replicas]
        weights = [gauges.weights for gauges in replicas]
        if states != self._states or weights != self._weights:
            self._states, self._weights = states, weights
            self._look(replicas)

    def _look(self, replicas: Sequence[ReplicaGauges]) -> None:
        self._ready, self._takers = [], {}
        for gauges in replicas:
            load = self._load(gauges.replica)
            load.follow(gauges)
            if load.state == "ready":
                self._ready.append(gauges.replica)
                for version in load.versions:
                    self._takers.setdefault(version, {})[gauges.replica] = None

    def route(self, episode: str, case: str = "", avoid: str = "") -> str | None:
        """Return the replica for the episode's next request, or None when there is none; see `place`."""
        stay = self.place(episode, case, avoid)
        return None if stay is None else stay.replica

    def place(self, episode: str, case: str = "", avoid: str = "") -> Stay | None:
        """Return where the episode's next request goes, or None when it has to wait.

        `avoid` names the replica on which the last attempt failed; it is used only if no other will do.
        """
        stay = self._stays.get(episode)
        if stay is None:
            choices = [name for name in self._ready if name != avoid] or self._ready
            if not choices:
                return None
            chosen = self._choose(choices, case)
            return self._settle(episode, chosen, self._loads[chosen].weights, case)
        takers = self._takers.get(stay.weights)
        if takers is not None and stay.replica in takers and stay.replica != avoid:
            better = self._better_place(stay, takers)
            return stay if better is None else self._settle(episode, better, stay.weights)
        return self._find_place(episode, stay, case, avoid)

    def _find_place(self, episode: str, stay: Stay, case: str, avoid: str) -> Stay | None:
        """Return where an episode goes on that is not simply to stay: its replica is not ready for it, or failed it."""
        home = self._loads[stay.replica]
        if home.state == "swapping":
            return None
        if home.is_mixing and home.state == "ready" and stay.weights not in home.versions:
            stay.weights = home.weights
            return stay
        takers = [name for name in self._takers.get(stay.weights, ()) if name != avoid]
        keeps = stay.weights in home.versions and home.state in ("ready", "cordoned")
        if keeps and (stay.replica != avoid or not takers):
            taker = self._roomy(stay, takers)
            return stay if taker is None else self._settle(episode, taker, stay.weights)
        if takers:
            return self._settle(episode, self._choose(takers, case), stay.weights, case)
        refuge = self._refuge(stay.weights)
        if refuge is not None:
            return self._settle(episode, refuge, stay.weights)
        choices = [name for name in self._ready if name != avoid] or self._ready
        if not choices:
            return None
        chosen = self._choose(choices, case)
        return self._settle(episode, chosen, self._loads[chosen].weights, case)

    def _roomy(self, stay: Stay, takers: Sequence[str]) -> str | None:
        """Return the least committed of the takers if it has a free slot and room in its cache."""
        if not takers:
            return None
        name = min(takers, key=lambda name: self._loads[name].tokens)
        load = self._loads[name]
        has_room = not load.kv_tokens or load.tokens + stay.tokens <= ROOM * load.kv_tokens
        return name if load.num_open < load.slots and has_room else None

    def _refuge(self, weights: str) -> str | None:
        """Return a cordoned replica that still samples under a version nobody else does."""
        names = (n for n, load in self._loads.items() if load.state == "cordoned" and weights in load.versions)
        return min(names, key=lambda name: self._loads[name].tokens, default=None)

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

    def _better_place(self, stay: Stay, takers: dict[str, None]) -> str | None:
        """Return the idlest taker if the episode queues at home while that one has free slots and room for it."""
        home = self._loads[stay.replica]
        if home.num_open < home.slots:
            return None
        idlest = self._idlest.get(stay.weights)
        if idlest is None:
            idlest = self._idlest[stay.weights] = min(takers, key=lambda name: self._loads[name].num_open)
        other = self._loads[idlest]
        gap = home.num_open - other.num_open
        is_worth_it = gap >= max(MIN_MOVE_CALLS, self._move_share * home.slots)
        has_room = other.num_open < other.slots and home.tokens - other.tokens > stay.tokens
        return idlest if is_worth_it and has_room else None

    def _settle(self, episode: str, replica: str, weights: str, case: str = "") -> Stay:
        stay = self._stays.get(episode)
        tokens = stay.tokens if stay is not None else self._expected
        if stay is not None:
            self._loads[stay.replica].tokens -= tokens
            self.num_moves += 1
        settled = self._stays[episode] = Stay(replica, tokens, weights)
        self._loads[replica].tokens += tokens
        if case:
            self._case_homes[case] = replica
        return settled
