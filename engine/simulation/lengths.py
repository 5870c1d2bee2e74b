"""How many tokens a completion has: drawn from recorded or assumed lengths, or replayed exactly; pure.

A draw depends on the episode and the step's path alone, never on when it was asked for. A length is a token count with
the end-of-turn token; `CUT` says that the completion ran into its limit, whatever that is.
"""

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Final, TypeAlias

from engine.record import EpisodeRecord
from engine.steps import Choice

CUT: Final = 1 << 30
Place: TypeAlias = tuple[str, str]  # role and purpose

_CHOICE: Final = '["choice"'
QUANTILES: Final = 512
MEDIAN_TOKENS: Final = 80
SIGMA: Final = 0.6
"""Spread of the assumed lengths: natural logarithm of the ratio of one standard deviation."""


class LengthSampler:
    """Lengths by (role, purpose), else by purpose, else from all. Each table holds quantiles, ascending."""

    def __init__(
        self,
        everything: Iterable[int],
        by_place: Mapping[Place, Iterable[int]] | None = None,
        exact: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        self._everything = tuple(sorted(everything))
        if not self._everything or self._everything[0] < 1:
            raise ValueError("lengths must be one token or more, got none or less: give at least one length")
        self._by_place = {place: tuple(sorted(lengths)) for place, lengths in (by_place or {}).items()}
        self._exact = exact or {}

    @classmethod
    def lognormal(cls, median: float = MEDIAN_TOKENS, sigma: float = SIGMA) -> "LengthSampler":
        """Return lengths around a median in tokens: the assumption where nothing was recorded."""
        normal = NormalDist(math.log(median), sigma)
        quantiles = (normal.inv_cdf((number + 0.5) / QUANTILES) for number in range(QUANTILES))
        return cls([max(2, round(math.exp(quantile))) for quantile in quantiles])

    @classmethod
    def from_records(cls, records: Iterable[EpisodeRecord], *, is_exact: bool = False) -> "LengthSampler":
        """Return the lengths of recorded free-text replies, with `is_exact` replayed where the path is the same.

        Raises ValueError when there is none.
        """
        everything: list[int] = []
        by_place: dict[Place, list[int]] = {}
        exact: dict[tuple[str, str], int] = {}
        for record in records:
            for step in record.steps:
                if step.reply is None or step.schema.startswith(_CHOICE):
                    continue
                length = CUT if step.reply.is_cut_off else max(step.reply.usage.completion_tokens, 1)
                everything.append(length)
                by_place.setdefault((step.role, step.purpose), []).append(length)
                exact[record.episode, step.path] = length
        return cls(everything, by_place, exact if is_exact else None)

    def draw(self, place: Place, step: tuple[str, str], uniform: float, max_tokens: int) -> tuple[int, bool]:
        """Return a completion's tokens (at most `max_tokens`) and whether the limit ended it.

        `step` is (episode, path), `uniform` the step's own number in [0, 1).
        """
        length = self._exact.get(step, 0)
        if not length:
            table = self._by_place.get(place, self._everything)
            length = table[int(uniform * len(table))]
        return (max_tokens, True) if length > max_tokens else (length, False)


def choice_weights(records: Iterable[EpisodeRecord]) -> dict[str, dict[str, float]]:
    """Return how often each option was chosen, by purpose: shares of the recorded replies that are an option."""
    counts: dict[str, dict[str, int]] = {}
    for record in records:
        for step in record.steps:
            if step.reply is not None and step.schema.startswith(_CHOICE):
                chosen = counts.setdefault(step.purpose, {})
                text = step.reply.text.strip()
                chosen[text] = chosen.get(text, 0) + 1
    return {purpose: shares(chosen) for purpose, chosen in counts.items()}


def shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Return the counts as shares of their sum."""
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}


def uniform_weights(schema: Choice) -> dict[str, float]:
    """Return equal shares for every option."""
    return dict.fromkeys(schema.options, 1 / len(schema.options))
