"""What the simulated rows play, and on what: protocol, lengths, shape of a replica, coefficients; all pinned by a seed.

Two devices: `cpu`, the default model on two cores, and `h200-8b`, derived from first principles. Lengths are drawn by
seed, episode and path, so every contender of one seed makes the same tokens.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from engine.planning import Plan, make_plan
from engine.record import EpisodeKey
from engine.simulation.answers import SampledAnswers, Similarities
from engine.simulation.jobs import Shape
from engine.simulation.latency import PRESETS, Coefficients
from engine.simulation.lengths import LengthSampler
from engine.simulation.tokens import Tokens
from engine.token_count import bytes_count

POOL: Final = "base"
MAX_CASES: Final = 500
MEDIAN_TOKENS: Final = 80
SIGMA: Final = 0.6

CPU_SHAPE: Final = Shape(slots=16, num_blocks=1090, block_size=32, step_tokens=2048)
"""The default model with 1.5 GiB for its cache, 46 kB a token: 35k tokens."""
H200_SHAPE: Final = Shape(slots=256, num_blocks=56_250, block_size=16, step_tokens=8192)
"""8B parameters in bf16 on one H200: 118 GB for the cache, 131 kB a token: 0.9 million tokens."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """`num_episodes` of one protocol. `tokens`: lengths uniform over a range, None for log-normal around 80.

    `num_cases` is how many cases the episodes share out; `device` names the coefficients.
    """

    protocol: dict[str, Any]
    num_episodes: int
    device: str = "h200-8b"
    shape: Shape = H200_SHAPE
    tokens: tuple[int, int] | None = None
    num_cases: int = MAX_CASES
    seed: int = 0
    has_judge: bool = False

    @property
    def coefficients(self) -> Coefficients:
        """Seconds per step, sequence and token."""
        return PRESETS[self.device]

    def plan(self) -> Plan:
        """Return the episodes as a plan."""
        cases = min(self.num_episodes, self.num_cases)
        roles = ("patient", "therapist", "judge") if self.has_judge else ("patient", "therapist")
        table = {
            "seed": self.seed,
            "protocol": self.protocol,
            "cases": {"source": "sampled", "limit": cases, "repeats": -(-self.num_episodes // cases)},
            "models": {POOL: {"kind": "openai", "model": "simulated"}},
            "roles": dict.fromkeys(roles, POOL),
            "embedder": {"kind": "openai", "model": "simulated"},
        }
        return make_plan(table, Path.cwd())

    def keys(self, plan: Plan) -> list[EpisodeKey]:
        """Return the episodes to play."""
        return [key for key, _ in zip(plan.roster(), range(self.num_episodes), strict=False)]

    def answers(self) -> SampledAnswers:
        """Return what the model says; no plan is ever scored as good, so all tries are used."""
        lengths = LengthSampler.lognormal(MEDIAN_TOKENS, SIGMA)
        if self.tokens is not None:
            lengths = LengthSampler(range(self.tokens[0], self.tokens[1] + 1))
        return SampledAnswers(self.seed, lengths, weights={"score": {"5": 1.0}}, phrases=NO_ENDINGS)

    def similarities(self) -> Similarities:
        """Return similarities that never match, so that all decoder rounds are played."""
        return Similarities(self.seed, match=0.0)

    def make_tokens(self) -> Tokens:
        """Return a fresh view of texts as tokens."""
        return Tokens(bytes_count, self.shape.block_size)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """Return what a figure says of its workload."""
        about = msgspec.to_builtins(self) | {"coefficients": self.coefficients.source}
        return {name: value for name, value in about.items() if value is not None} | more


def seeded(workload: Workload, seed: int) -> Workload:
    """Return the workload of another seed: other cases, other lengths."""
    return msgspec.structs.replace(workload, seed=seed)


def _no_endings() -> dict[str, Any]:
    from engine.simulation.answers import PHRASES

    return {purpose: phrase for purpose, phrase in PHRASES.items() if purpose != "therapist_turn"}


NO_ENDINGS: Final = _no_endings()
"""A therapist that never ends a session early, so that every dialogue has the same number of turns."""

SESSIONS_CPU: Final = Workload(
    protocol={"name": "counseling", "max_turns": 2, "max_tokens": 48},
    num_episodes=512,
    device="cpu",
    shape=CPU_SHAPE,
    tokens=(24, 48),
)
"""The sessions of the real rows, more of them."""

SESSIONS_GPU: Final = Workload(protocol={"name": "counseling", "max_turns": 8, "max_tokens": 256}, num_episodes=2048)

ARENA: Final = Workload(
    protocol={
        "name": "mental_arena",
        "mode": "corrected",
        "max_decoder_rounds": 5,
        "max_tries": 3,
        "good_score": 9,
        "similarity": 0.5,
    },
    num_episodes=1024,
    has_judge=True,
)
"""The pinned standard episode: corrected, five decoder rounds, three tries of each kind of plan."""
