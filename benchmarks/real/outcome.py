"""What one contender did in one repeat: when each call finished, how many tokens it took, and the hash of its work."""

from collections.abc import Iterable, Sequence

import msgspec

from benchmarks.trace import Call, digest, hash_digests
from engine.steps import Usage

EDGE = 0.05
"""Share of the completion tokens at either end that the steady state leaves out: ramp and tail."""


class Finish(msgspec.Struct, frozen=True, gc=False):
    """One finished call. `at_s` counts from the contender's start; `work` is the digest of what it asked and got."""

    at_s: float
    usage: Usage
    work: bytes


class Outcome(msgspec.Struct, frozen=True):
    """One repeat of one contender. `wall_s` runs from its start to the end of its last call (or its own end)."""

    wall_s: float
    finishes: tuple[Finish, ...]
    preemptions: int = 0

    @property
    def trace(self) -> str:
        """The hash of the replayed calls; equal hashes mean equal work."""
        return hash_digests(finish.work for finish in self.finishes)

    @property
    def completion_tokens(self) -> int:
        """Tokens sampled."""
        return sum(finish.usage.completion_tokens for finish in self.finishes)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(finish.usage.prompt_tokens for finish in self.finishes)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came from the prefix cache."""
        return sum(finish.usage.cached_tokens for finish in self.finishes)

    @property
    def rate(self) -> float:
        """Completion tokens per second over the whole run, ramp and tail included."""
        return self.completion_tokens / self.wall_s

    @property
    def steady_rate(self) -> float:
        """Completion tokens per second in the steady state.

        A call's tokens count when it finishes. The steady state begins with the call that completes the first 5 % of
        the completion tokens and ends with the one that completes 95 %; calls in flight at both ends cancel.
        """
        total = self.completion_tokens
        edge, before, inside, begin_s = EDGE * total, 0, 0, None
        for finish in sorted(self.finishes, key=lambda finish: finish.at_s):
            before += finish.usage.completion_tokens
            if begin_s is not None:
                inside += finish.usage.completion_tokens
                if before >= total - edge:
                    return inside / max(finish.at_s - begin_s, 1e-9)
            elif before >= edge:
                begin_s = finish.at_s
        return self.rate


def finish_of(call: Call, at_s: float, made: Sequence[int], cached_tokens: int) -> Finish:
    """Return the finish of a call of the trace that got the ids `made`."""
    usage = Usage(len(call.prompt_ids), len(made), cached_tokens)
    return Finish(at_s, usage, digest(call.episode, call.path, call.prompt_ids, made))


def rates(outcomes: Iterable[Outcome]) -> list[float]:
    """Return whole-run rates, one per repeat."""
    return [outcome.rate for outcome in outcomes]
