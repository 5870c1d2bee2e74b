"""Routing policy: which replica serves an episode's next turn; pure.

An episode sticks to its replica for the prefix cache. First contact goes to the ready replica with the fewest KV tokens
committed, ties rotating; a sick replica's episodes move at their next turn.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from engine.backend import ReplicaGauges

EXPECTED_TOKENS: Final = 1500
"""Commitment of an episode before any has ended: at nothing, one wave of new episodes would all go to one replica."""
MEMORY: Final = 0.9
"""Weight that the average of past episodes keeps when another one ends."""


class Router:
    """One pool's assignments. Token counts are the router's own estimate of each replica's live contexts.

    An episode commits what past ones came to, or its own longest context once that is more.
    """

    def __init__(self) -> None:
        self._home: dict[str, str] = {}
        self._tokens: dict[str, int] = {}
        self._committed: defaultdict[str, int] = defaultdict(int)
        self._expected = EXPECTED_TOKENS
        self._turn = 0
        self.num_moves = 0

    def route(self, episode: str, replicas: Sequence[ReplicaGauges], avoid: str = "") -> str | None:
        """Return a ready replica for the episode's next request, or None when there is none.

        `avoid` names the replica on which the last attempt failed; it is used only if no other is ready.
        """
        home = self._home.get(episode)
        ready = [replica.replica for replica in replicas if replica.state == "ready"]
        if home is not None and home in ready and home != avoid:
            return home
        choices = [name for name in ready if name != avoid] or ready
        if not choices:
            return None
        self._turn += 1
        start = self._turn % len(choices)
        chosen = min(choices[start:] + choices[:start], key=self._committed.__getitem__)
        self._settle(episode, chosen)
        return chosen

    def observe(self, episode: str, tokens: int) -> None:
        """Note the episode's context length in tokens, from its last completion."""
        home = self._home.get(episode)
        if home is not None and tokens > self._tokens[episode]:
            self._committed[home] += tokens - self._tokens[episode]
            self._tokens[episode] = tokens

    def forget(self, episode: str) -> None:
        """Drop an ended episode."""
        home = self._home.pop(episode, None)
        if home is not None:
            tokens = self._tokens.pop(episode)
            self._committed[home] -= tokens
            self._expected = round(MEMORY * self._expected + (1 - MEMORY) * tokens)

    def _settle(self, episode: str, replica: str) -> None:
        tokens = self._tokens.get(episode, self._expected)
        home = self._home.get(episode)
        if home is not None:
            self._committed[home] -= tokens
            self.num_moves += 1
        self._home[episode] = replica
        self._tokens[episode] = tokens
        self._committed[replica] += tokens
