"""What a simulated replica is, what it is given, and what it gives back; plain data."""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Tokens(Protocol):
    """A prompt as a replica sees it: its length, and the chained hashes of its full blocks."""

    @property
    def num_tokens(self) -> int:
        """Prompt tokens."""

    @property
    def hashes(self) -> Sequence[int]:
        """One hash per full block of the prompt."""

    def grown(self, num_made: int) -> Sequence[int]:
        """Return the hashes of the full blocks of the prompt and `num_made` completion tokens."""


class Job:
    """One request on a replica. `length` is the number of tokens it will make, at least 1; lower priority is first."""

    __slots__ = (
        "arrival",
        "blocks",
        "cached",
        "computed",
        "is_cancelled",
        "key",
        "length",
        "made",
        "num_preempted",
        "priority",
        "since",
        "target",
        "tokens",
    )

    def __init__(self, key: tuple[str, str, int], tokens: Tokens, length: int, priority: int = 0) -> None:
        self.key = key
        self.tokens = tokens
        self.length = length
        self.priority = priority
        self.arrival = 0
        self.blocks: list[int] = []
        self.cached: int | None = None
        self.computed = 0
        self.is_cancelled = False
        self.made = 0
        self.num_preempted = 0
        self.since = 0
        self.target = 0

    @property
    def rank(self) -> tuple[int, int]:
        """Order of service: priority, then arrival."""
        return self.priority, self.arrival


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica can hold: sequences at once, KV blocks, tokens per block and per step."""

    slots: int
    num_blocks: int
    block_size: int = 16
    step_tokens: int = 8192

    def __post_init__(self) -> None:
        if min(self.slots, self.block_size) < 1 or self.num_blocks < 2 or self.step_tokens < self.slots:
            raise ValueError(f"a replica must have slots, blocks, and step_tokens >= slots, got {self}")

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds, as the engine counts them."""
        return self.num_blocks * self.block_size


class Done(msgspec.Struct, frozen=True):
    """The end of one job: its last token at `at_ps`, or lost with its replica then."""

    job: Job
    at_ps: int
    is_lost: bool = False


class Tally(msgspec.Struct):
    """What a replica did since it was made. `*_ps` are picoseconds, some weighted: by sequences, by held blocks."""

    num_steps: int = 0
    busy_ps: int = 0
    slot_ps: int = 0
    block_ps: int = 0
    full_ps: int = 0
    blocked_ps: int = 0
    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    restarts: int = 0
