"""How retried episodes differ from the others: means, and a Mann-Whitney test per figure.

A corpus that keeps what had to be asked twice may differ from one that does not. Both groups are sampled, so that
memory is bounded.
"""

import statistics
from collections.abc import Sequence
from typing import Final

from engine.sampling import Reservoir
from eval.quality.figures import Difference

MAX_EPISODES: Final = 2000
"""Episodes compared of either group."""
MIN_EPISODES: Final = 2
"""Episodes that a group must have for a test."""


class Groups:
    """The figures of retried episodes and of the others, a seeded sample of each."""

    def __init__(self, seed: int) -> None:
        self._retried: Reservoir[dict[str, float]] = Reservoir(MAX_EPISODES, seed)
        self._others: Reservoir[dict[str, float]] = Reservoir(MAX_EPISODES, seed + 1)

    @property
    def num_retried(self) -> int:
        """Retried episodes, sampled or not."""
        return self._retried.num_seen

    def add(self, figures: dict[str, float], *, is_retried: bool) -> None:
        """Add one episode's figures."""
        (self._retried if is_retried else self._others).add(figures)

    def differences(self) -> tuple[Difference, ...]:
        """Return the difference of each figure that both groups have."""
        names = dict.fromkeys(name for figures in self._retried.items for name in figures)
        found = []
        for name in names:
            retried = [figures[name] for figures in self._retried.items if name in figures]
            others = [figures[name] for figures in self._others.items if name in figures]
            if others:
                found.append(difference(name, retried, others))
        return tuple(found)


def difference(name: str, retried: Sequence[float], others: Sequence[float]) -> Difference:
    """Return how a figure differs; both sides hold at least one value."""
    return Difference(
        figure=name,
        num_retried=len(retried),
        num_others=len(others),
        retried=statistics.fmean(retried),
        others=statistics.fmean(others),
        p=mann_whitney(retried, others),
    )


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return the two-sided p of the Mann-Whitney test, 1 when all values are equal, None for too few."""
    from scipy.stats import mannwhitneyu

    if min(len(one), len(other)) < MIN_EPISODES:
        return None
    if len({*one, *other}) == 1:
        return 1.0
    return float(mannwhitneyu(one, other, alternative="two-sided").pvalue)
