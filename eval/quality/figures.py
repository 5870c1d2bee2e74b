"""The figures of a corpus: frozen structs that encode to JSON.

A figure that could not be measured is None. What is told of a sample says how large the sample was. Shares are kept as
what they are shares of.
"""

import math
from collections import Counter
from collections.abc import Mapping

import msgspec

MAX_LABELS = 20
MAX_EXAMPLES = 5


class Share(msgspec.Struct, frozen=True, gc=False):
    """So many of so many."""

    num: int
    of: int

    @property
    def share(self) -> float | None:
        """The share, None of nothing."""
        return self.num / self.of if self.of else None


class Spread(msgspec.Struct, frozen=True, gc=False):
    """How a whole number is spread: how many values there are, mean, median, 90th percentile, largest."""

    num: int
    mean: float
    median: int
    p90: int
    max: int


class RoleFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The turns of one role. Empty ones count in `num_turns` and `confusion`, nowhere else.

    `distinct` is distinct-1, -2, -3 and `opening_share` the share of turns with the most frequent first four words,
    both over `num_sampled` turns; `self_bleu` is over `num_bleu` of them. `refusals` and `confusion` count by kind.
    """

    num_turns: int
    words: Spread | None
    tokens: Spread | None
    num_sampled: int
    distinct: tuple[float | None, ...]
    num_bleu: int
    self_bleu: float | None
    opening: str
    openings: Share
    refusals: dict[str, int]
    confusion: dict[str, int]


class LabelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Labels: `entropy` is in bits, over the labels that are there; `top` holds the most frequent ones."""

    num_labelled: int
    num_missing: int
    num_labels: int
    entropy: float | None
    top: dict[str, int]

    @property
    def top_share(self) -> float | None:
        """The share of the most frequent label."""
        return next(iter(self.top.values()), 0) / self.num_labelled if self.num_labelled else None


class ValidityFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes: how many are whole (nothing missing or implausible), and what the others lack, counted by name."""

    whole: Share
    missing: dict[str, int]
    implausible: dict[str, int]


class CrisisFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Patient turns by level, and of the active and passive ones those that the next turn does not take up.

    `episodes` counts those with such a turn. A turn that ends the dialogue is not taken up.
    """

    levels: dict[str, int]
    unanswered: Share
    episodes: Share


class LeakFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Leaks of hidden fields: episodes with one, of those whose case is known; leaks by place and kind; a few examples.

    An example is the episode, the step's path, and the words that leaked.
    """

    episodes: Share
    counts: dict[str, int]
    examples: tuple[tuple[str, str, str], ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a figure of retried episodes differs from that of the others: both means, over so many episodes of each.

    `p` is that of the two-sided Mann-Whitney test, not corrected for the number of figures.
    """

    figure: str
    num_retried: int
    num_others: int
    retried: float
    others: float
    p: float | None

    @property
    def difference(self) -> float:
        """The mean of retried episodes less that of the others."""
        return self.retried - self.others


class EmbeddingFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Mean distance (1 - cosine) of pairs of dialogues, and the mean least distance of dialogues to earlier corpora."""

    distance: float | None
    num_pairs: int
    gain: float | None
    num_compared: int


class PerplexityFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Perplexity of sampled dialogues under a model, over `num_tokens` of them all; the first token of each has none.

    `value` is None where no token could be scored. `num_cut` of the `num_texts` were longer than the model's window.
    """

    model: str
    value: float | None
    num_texts: int
    num_tokens: int
    num_cut: int


class CorpusFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One corpus. `statuses`, `protocols` and `errors` count all episodes, everything else the completed ones.

    `duplicates` are dialogues equal or near to an earlier one, of those compared.
    """

    name: str
    statuses: dict[str, int]
    protocols: dict[str, int]
    errors: dict[str, int]
    turns: Spread | None
    roles: dict[str, RoleFigures]
    duplicates: Share
    labels: LabelFigures | None
    validity: ValidityFigures
    crisis: CrisisFigures
    leaks: LeakFigures
    num_retried: int
    retried: tuple[Difference, ...]
    embedding: EmbeddingFigures | None = None
    perplexity: PerplexityFigures | None = None

    @property
    def num_episodes(self) -> int:
        """Episodes of every status."""
        return sum(self.statuses.values())


def spread_of(values: Mapping[int, int]) -> Spread | None:
    """Return the spread of counted values (value to how often), None of nothing. Percentiles are nearest-rank."""
    total = sum(values.values())
    if not total:
        return None
    ordered = sorted(values.items())
    mean = sum(value * number for value, number in ordered) / total
    return Spread(total, mean, _ranked(ordered, total, 0.5), _ranked(ordered, total, 0.9), ordered[-1][0])


def _ranked(ordered: list[tuple[int, int]], total: int, share: float) -> int:
    rank, passed = math.ceil(share * total), 0
    for value, number in ordered:
        passed += number
        if passed >= rank:
            return value
    return ordered[-1][0]


def labels_of(counts: Counter[str], num_missing: int) -> LabelFigures | None:
    """Return the figures of labels, None when there was none to be given."""
    from scipy.stats import entropy

    total = counts.total()
    if not total and not num_missing:
        return None
    return LabelFigures(
        num_labelled=total,
        num_missing=num_missing,
        num_labels=len(counts),
        entropy=abs(float(entropy(list(counts.values()), base=2))) if total else None,
        top=dict(counts.most_common(MAX_LABELS)),
    )
