"""Sums over a run's calls and its terminal episodes; pure.

They stand in manifests and cross between processes, so that what a run used is known without reading its episodes.
"""

from collections.abc import Mapping

import msgspec

from engine.record import EpisodeRecord
from engine.steps import Usage
from engine.values import well_formed


class CallTotals(msgspec.Struct, frozen=True, gc=False):
    """What calls came to: `calls` counts every attempt, tokens are those of the answers; cached ones are of prompts."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: "CallTotals") -> "CallTotals":
        # Written out, as are those of a run: both are added for each episode that ends, on the scheduler's loop.
        return CallTotals(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )

    def __sub__(self, other: "CallTotals") -> "CallTotals":
        return CallTotals(*(getattr(self, f) - getattr(other, f) for f in self.__struct_fields__))

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self.prompt_tokens + self.completion_tokens

    @classmethod
    def of(cls, usage: Usage, calls: int = 1) -> "CallTotals":
        """Return what one answer came to, with the calls it took."""
        return cls(calls, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)


class Totals(msgspec.Struct, frozen=True):
    """Sums over terminal episodes.

    `calls` are chat requests, every attempt; `turns` are generations answered. Token counts are those of the answers.
    `roles` divides calls and tokens by role; of episodes that an older version sealed it holds nothing.
    """

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    calls: int = 0
    turns: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    roles: dict[str, CallTotals] = {}

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.completed + other.completed,
            self.failed + other.failed,
            self.cancelled + other.cancelled,
            self.calls + other.calls,
            self.turns + other.turns,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            add_up(self.roles, other.roles),
        )

    @property
    def episodes(self) -> int:
        """Terminal episodes of any status."""
        return self.completed + self.failed + self.cancelled

    @property
    def all_calls(self) -> CallTotals:
        """Calls and tokens of all roles."""
        return CallTotals(self.calls, self.prompt_tokens, self.completion_tokens, self.cached_tokens)

    @property
    def untold(self) -> CallTotals:
        """Calls and tokens that are not known by role."""
        return self.all_calls - sum(self.roles.values(), CallTotals())

    @classmethod
    def of(cls, record: EpisodeRecord) -> "Totals":
        """Return the totals of one episode."""
        turns = 0
        counts: dict[str, list[int]] = {}
        for step in record.steps:
            if step.kind != "generate":
                continue
            role = counts.get(step.role)
            if role is None:
                role = counts[step.role] = [0, 0, 0, 0]
            if step.attempts:
                role[0] += len(step.attempts)
            if (reply := step.reply) is not None:
                usage = reply.usage
                turns += 1
                role[0] += 1
                role[1] += usage.prompt_tokens
                role[2] += usage.completion_tokens
                role[3] += usage.cached_tokens
        roles = {well_formed(name): CallTotals(*numbers) for name, numbers in counts.items()}
        whole = CallTotals(*map(sum, zip(*counts.values(), strict=True)))
        status = record.status
        ends = (int(status == "completed"), int(status == "failed"), int(status == "cancelled"))
        figures = (whole.prompt_tokens, whole.completion_tokens, whole.cached_tokens)
        return cls(*ends, whole.calls, turns, *figures, roles)


def add_up(one: Mapping[str, CallTotals], other: Mapping[str, CallTotals]) -> dict[str, CallTotals]:
    """Return the sums of two divisions, name by name."""
    sums = dict(one)
    for name, calls in other.items():
        before = sums.get(name)
        sums[name] = calls if before is None else before + calls
    return sums
