"""Signs of collapse in what a round has written, and the rules that act on them; pure.

A model that is trained on its own words narrows: fewer illnesses, the same sentences, lengths that drift. Source: the
published records, whose distinct diagnoses fall from 468 to 81 over four iterations while one of them grows from a
quarter to more than half. Figures are of one round's rows; rules compare them with limits, or with the round before.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from training.convert import Tally

Action = Literal["roll back", "stop"]

NEAR: Final = ("duplicate", "near duplicate")


class RoundFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one round's rows look like; None where a figure was not measured.

    `label_entropy` is in bits, over the labels of diagnosis rows; `top_share` is the share of the most frequent one.
    `duplicate_share` counts equal and near rows among all that were not dropped for another reason. `mean_length` is in
    tokens taught. `diversity_gain` is the mean over new rows of the least embedding distance to earlier rounds' rows,
    `perplexity` that under the model that is current, `exam` a score in 0..1.
    """

    num_rows: int
    num_labels: int = 0
    label_entropy: float | None = None
    top_label: str = ""
    top_share: float | None = None
    duplicate_share: float = 0.0
    mean_length: float = 0.0
    diversity_gain: float | None = None
    perplexity: float | None = None
    held_out_loss: float | None = None
    exam: float | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule on one figure. `at_least` and `at_most` are limits; with `of_before` they are factors on the figure of
    the last round that was kept. A figure that was not measured breaks no rule.
    """

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    of_before: bool = False
    then: Action = "roll back"

    def problems(self, where: str) -> list[str]:
        """Return what is wrong with the rule, one sentence each."""
        known = RoundFigures.__struct_fields__
        found = []
        if self.figure not in known or self.figure == "top_label":
            numbers = ", ".join(name for name in known if name != "top_label")
            found.append(f"{where}.figure must be one of {numbers}, got {self.figure!r}")
        if self.at_least is None and self.at_most is None:
            found.append(f"{where} must have at_least or at_most, got neither: set a limit")
        return found


class Breach(msgspec.Struct, frozen=True):
    """A rule that was broken: the value found and the limit that holds."""

    rule: Rule
    value: float
    limit: float

    @property
    def sentence(self) -> str:
        """The rule, the value, what follows."""
        is_low = self.rule.at_least is not None and self.value < self.limit
        side = "at least" if is_low else "at most"
        return f"{self.rule.figure} must be {side} {self.limit:.4g}, got {self.value:.4g}: {self.rule.then}"


DEFAULT_RULES: Final = (
    Rule(figure="num_rows", at_least=1),
    Rule(figure="top_share", at_most=0.8),
    Rule(figure="num_labels", at_least=0.5, of_before=True),
    Rule(figure="duplicate_share", at_most=0.5),
    Rule(figure="mean_length", at_least=0.5, at_most=2.0, of_before=True),
    Rule(figure="held_out_loss", at_most=1.1, of_before=True),
)
"""What no round should do; a configuration may replace them."""


def measure_rows(labels: Sequence[str], lengths: Sequence[int], tally: Tally) -> RoundFigures:
    """Return the figures of a round's rows: labels of diagnosis rows, tokens taught by each row, drops by reason."""
    counts = Counter(labels)
    top_label, top = counts.most_common(1)[0] if counts else ("", 0)
    repeated = sum(tally.dropped[reason] for reason in NEAR)
    return RoundFigures(
        num_rows=tally.num_rows,
        num_labels=len(counts),
        label_entropy=entropy(counts) if counts else None,
        top_label=top_label,
        top_share=top / len(labels) if labels else None,
        duplicate_share=repeated / max(tally.num_rows + repeated, 1),
        mean_length=sum(lengths) / len(lengths) if lengths else 0.0,
    )


def entropy(counts: Mapping[str, int]) -> float:
    """Return the Shannon entropy of counts in bits; 0 for one label, log2(n) for n equally frequent ones."""
    total = sum(counts.values())
    return sum(number / total * math.log2(total / number) for number in counts.values() if number)


def breaches(rules: Iterable[Rule], figures: RoundFigures, before: RoundFigures | None) -> list[Breach]:
    """Return the rules that a round breaks, in their order. `before` is the last round that was kept, None for none."""
    found = []
    for rule in rules:
        value = getattr(figures, rule.figure)
        factor = 1.0
        if rule.of_before:
            past = getattr(before, rule.figure) if before is not None else None
            if past is None:
                continue
            factor = past
        if value is None:
            continue
        if rule.at_least is not None and value < rule.at_least * factor:
            found.append(Breach(rule, value, rule.at_least * factor))
        elif rule.at_most is not None and value > rule.at_most * factor:
            found.append(Breach(rule, value, rule.at_most * factor))
    return found
