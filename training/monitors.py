"""Signs of collapse in what a round has written, and the rules that act on them; pure.

A model that is trained on its own words narrows: fewer illnesses, the same sentences, lengths that drift. Source: the
published records, whose distinct diagnoses fall from 468 to 81 over four iterations while one of them grows from a
quarter to more than half. Figures are of one round's rows; rules compare them with limits, or with the round before.
"""

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from engine.token_count import bytes_count
from training.convert import Tally
from training.formats import Row
from training.sample_log import Mark

Action = Literal["roll back", "stop"]
Similarities: TypeAlias = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[float]]]

NEAR: Final = ("duplicate", "near duplicate")
EXAM_POINTS: Final = ("exam", "exam_change")
EXAM_CHANGE: Final = ("exam_change", "exam_change_low", "exam_change_high")
MAX_NEW: Final = 64
MAX_EARLIER: Final = 256
"""Rows compared for the diversity gain: a larger round is judged by a sample."""


class RoundFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one round's rows look like; None where a figure was not measured.

    `num_labelled` rows have a label; `label_entropy` is in bits, over those labels, `top_share` the share of the most
    frequent one. `duplicate_share` counts equal and near rows among all that were not dropped for another reason.
    `mean_length` is in tokens taught. `diversity_gain` is the mean over new rows of the least embedding distance to
    earlier rounds' rows. `perplexity` is that of held-out rows under the model that played, `held_out_loss` the loss on
    them after training,
    `held_out_ratio` that over the loss before. `exam` is a score in 0..1, `exam_low` and `exam_high` its 95 % interval.
    `exam_change` is how much higher that score is than that of the version the round was played with, paired item by
    item, in -1..1; `exam_change_low` and `exam_change_high` are its 95 % interval. Only items (`[exam.tasks]`) have it.
    """

    num_rows: int
    num_labelled: int = 0
    num_labels: int | None = None
    label_entropy: float | None = None
    top_label: str = ""
    top_share: float | None = None
    duplicate_share: float | None = None
    mean_length: float | None = None
    diversity_gain: float | None = None
    perplexity: float | None = None
    held_out_loss: float | None = None
    held_out_ratio: float | None = None
    exam: float | None = None
    exam_low: float | None = None
    exam_high: float | None = None
    exam_change: float | None = None
    exam_change_low: float | None = None
    exam_change_high: float | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule on one figure of a round.

    `figure` is `num_rows`, `num_labelled`, `num_labels`, `label_entropy`, `top_share`, `duplicate_share`,
    `mean_length`, `diversity_gain`, `perplexity`, `held_out_loss`, `held_out_ratio`, `exam`, `exam_low`, `exam_high`,
    or with items `exam_change`, `exam_change_low`, `exam_change_high`.

    `at_least` and `at_most` are limits; with `of_before` they are factors on the figure of the last round that was
    kept. A figure that was not measured breaks no rule, nor does one of a round that has fewer than `min_labelled` rows
    with a label. `then` says what follows: the round's checkpoint is undone, or the run also ends.
    """

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    of_before: bool = False
    min_labelled: int = 0
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
        if self.figure in EXAM_CHANGE:
            found += self._change_problems(where)
        return found

    def _change_problems(self, where: str) -> list[str]:
        found = [
            f"{where}.{name} must be within -1..1 for {self.figure}, got {limit}: give a share, 0.02 for two points"
            for name, limit in (("at_least", self.at_least), ("at_most", self.at_most))
            if limit is not None and not -1 <= limit <= 1
        ]
        if self.of_before:
            found.append(f"{where}.of_before must be false for {self.figure}, a difference already: leave it out")
        return found

    @property
    def text(self) -> str:
        """The figure with its limits."""
        limits = (("at_least", self.at_least), ("at_most", self.at_most))
        return " ".join([self.figure, *(f"{name} {limit:g}" for name, limit in limits if limit is not None)])


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
    Rule(figure="top_share", at_most=0.8, min_labelled=16),
    Rule(figure="num_labels", at_least=0.5, of_before=True, min_labelled=16),
    Rule(figure="duplicate_share", at_most=0.5),
    Rule(figure="mean_length", at_least=0.5, at_most=2.0, of_before=True),
    Rule(figure="held_out_ratio", at_most=1.05),
    Rule(figure="exam_change_high", at_least=0),
)
"""What no round should do; a configuration may replace them. The last one undoes a round only when its fall in the
exam is shown, the whole interval being below 0; a round that changed nothing is undone once in forty times."""


def measure_rows(labels: Sequence[str], lengths: Sequence[int], tally: Tally) -> RoundFigures:
    """Return the figures of a round's rows: labels of diagnosis rows, tokens taught by each row, drops by reason."""
    counts = Counter(labels)
    top_label, top = counts.most_common(1)[0] if counts else ("", 0)
    repeated = sum(tally.dropped[reason] for reason in NEAR)
    return RoundFigures(
        num_rows=tally.num_rows,
        num_labelled=len(labels),
        num_labels=len(counts) if counts else None,
        label_entropy=entropy(counts) if counts else None,
        top_label=top_label,
        top_share=top / len(labels) if labels else None,
        duplicate_share=repeated / (tally.num_rows + repeated) if tally.num_rows + repeated else None,
        mean_length=sum(lengths) / len(lengths) if lengths else None,
    )


def measure_log(rows: Iterable[Row], mark: Mark) -> RoundFigures:
    """Return the figures of a round's sample log; lengths are estimated from bytes."""
    labels, lengths = [], []
    for row in rows:
        lengths.append(bytes_count(taught_text(row)))
        if row["label"]:
            labels.append(str(row["label"]))
    return measure_rows(labels, lengths, Tally(Counter(mark.kept), Counter(mark.dropped)))


def taught_text(row: Row) -> str:
    """Return all that a row of messages teaches."""
    return "\n".join(message["content"] for message in row["messages"] if message["role"] == "assistant")


async def diversity_gain(
    rows: Sequence[Row], earlier: Sequence[Row], similarities: Similarities, draw: random.Random
) -> float:
    """Return the mean over rows of the least distance (1 - cosine) to earlier ones: 0 when nothing is new.

    Source: diversity gain as data set growth is measured in work on synthetic instructions. Of many rows a sample is
    compared. Both sides hold at least one row.
    """
    new = [taught_text(row) for row in (draw.sample(rows, MAX_NEW) if len(rows) > MAX_NEW else rows)]
    old = [taught_text(row) for row in (draw.sample(earlier, MAX_EARLIER) if len(earlier) > MAX_EARLIER else earlier)]
    total = 0.0
    for text in new:
        total += 1 - max(await similarities([(text, other) for other in old]))
    return total / len(new)


def entropy(counts: Mapping[str, int]) -> float:
    """Return the Shannon entropy of counts in bits; 0 for one label, log2(n) for n equally frequent ones."""
    total = sum(counts.values())
    return sum(number / total * math.log2(total / number) for number in counts.values() if number)


def breaches(rules: Iterable[Rule], figures: RoundFigures, before: RoundFigures | None) -> list[Breach]:
    """Return the rules that a round breaks, in their order. `before` is the last round that was kept, None for none."""
    found = []
    for rule in rules:
        value = getattr(figures, rule.figure) if figures.num_labelled >= rule.min_labelled else None
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
