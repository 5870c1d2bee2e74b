"""What the real rows play: counseling sessions over sampled cases, sized for the machine at hand."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.simulated.workload import ARENA, NO_ENDINGS
from engine.planning import Plan, freeze, make_plan
from engine.record import EpisodeKey
from engine.simulation.answers import SampledAnswers
from engine.simulation.lengths import LengthSampler

POOL = "base"
TEMPERATURE = 0.8
"""Forced ids win at any temperature; this one takes the sampler's path that real dialogues take."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """`num_dialogues` counseling sessions of `exchanges` exchanges (two calls each), `slots` requests decoded at once.

    Each call may say between `tokens[0]` and `tokens[1]` tokens; how many is drawn per call, so that lengths differ as
    they do in real dialogues. `kv_cache_gib` (CPU only) is the ample cache, the tight one holds a `tight_share` of the
    working set. Rivals of the product play `num_rival_dialogues` of the sessions; `num_sequential` is the least number
    of calls made one at a time. `seed` picks the cases. `is_arena` plays MentalArena's pinned standard episodes instead
    of sessions; their replies are composed, since a small model seldom says what that protocol can go on with.
    `temperature` is what the bare engine is asked with: that of the plan's rules. Other kinds of workloads give another
    `plan` and `table`.
    """

    model: str = "smollm2-135m"
    num_dialogues: int = 64
    exchanges: int = 2
    tokens: tuple[int, int] = (24, 48)
    temperature: float = TEMPERATURE
    slots: int = 16
    max_model_len: int = 2048
    kv_cache_gib: float = 1.5
    block_size: int = 32
    tight_share: float = 1 / 3
    num_rival_dialogues: int = 32
    num_sequential: int = 64
    seed: int = 0
    is_arena: bool = False

    @property
    def name(self) -> str:
        """A short name that changes with whatever changes the recorded calls, prompt texts and cases included."""
        what = (self.num_dialogues, self.tokens, self.max_model_len, freeze(self.plan()))
        return hashlib.blake2b(msgspec.msgpack.encode(what), digest_size=6).hexdigest()

    def configuration(self) -> dict[str, Any]:
        """Return what a figure says of its workload."""
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]

    def plan(self) -> Plan:
        """Return the sessions as a plan."""
        return make_plan(self.table(), Path.cwd())

    def table(self) -> dict[str, Any]:
        """Return the sessions' configuration, the model as some endpoint."""
        protocol = {"name": "counseling", "max_turns": self.exchanges, "max_tokens": self.tokens[1]}
        roles = ("patient", "therapist", "judge") if self.is_arena else ("patient", "therapist")
        endpoint = {"kind": "openai", "model": self.model}
        return {
            "seed": self.seed,
            "protocol": ARENA.protocol if self.is_arena else protocol,
            "cases": {"source": "sampled", "limit": min(self.num_dialogues, 500), "repeats": self._repeats},
            "models": {POOL: endpoint},
            "roles": dict.fromkeys(roles, POOL),
            **({"embedder": endpoint} if self.is_arena else {}),
        }

    def answers(self) -> SampledAnswers:
        """Return what composed replies say: uniform lengths, no plan scored as good, so that all tries are used."""
        lengths = LengthSampler(range(self.tokens[0], self.tokens[1] + 1))
        return SampledAnswers(self.seed, lengths, weights={"score": {"5": 1.0}}, phrases=NO_ENDINGS)

    def keys(self, plan: Plan) -> list[EpisodeKey]:
        """Return the episodes to play."""
        return [key for key, _ in zip(plan.roster(), range(self.num_dialogues), strict=False)]

    def length(self, episode: str, path: str) -> int:
        """Return how many tokens a call may say: uniform over `tokens`, the same in every recording."""
        low, high = self.tokens
        drawn = hashlib.blake2b(f"{self.seed} {episode} {path}".encode(), digest_size=8).digest()
        return low + int.from_bytes(drawn, "big") % (high - low + 1)

    @property
    def _repeats(self) -> int:
        return -(-self.num_dialogues // 500)


SMALL = Workload(
    num_dialogues=4, exchanges=1, tokens=(4, 8), slots=4, kv_cache_gib=0.5, num_rival_dialogues=4, num_sequential=4
)
"""Seconds instead of minutes: for tests."""

EPISODES = Workload(num_dialogues=8, tokens=(12, 24), max_model_len=4096, num_rival_dialogues=8, is_arena=True)
"""The pinned standard episode (corrected, five decoder rounds, three tries of each kind of plan) with short replies."""
