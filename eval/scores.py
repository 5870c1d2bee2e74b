"""Scores: what the replies to an exam's items come to, next to what answers without reading would get; pure.

Invariant: an invalid reply is wrong and counted, never guessed and never left out. Macro-F1 and balanced accuracy are
taken over the classes that occur among the right answers; an answer of another class is merely wrong. Knows nothing of
models or how the replies came about.
"""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from engine.errors import InputError
from engine.protocols.exam import wilson
from eval.items import Item
from eval.tasks.task import Task

CUT_OFF = "length"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One scored reply; `answer` is the label it gives, None when it is invalid.

    `legacy_right` is what the published rule makes of it, None where the task has none. `chance` is the share of right
    answers among options drawn blindly, None where the task's score is not told beside it.
    """

    id: str
    subject: str
    gold: str
    answer: str | None
    is_cut_off: bool = False
    legacy_right: bool | None = None
    is_legacy_default: bool = False
    is_legacy_unread: bool = False
    chance: float | None = None

    @property
    def is_right(self) -> bool:
        """Whether the answer is the right one."""
        return self.answer == self.gold


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How well a list of answers does, each as a share of 1."""

    accuracy: float
    macro_f1: float
    balanced_accuracy: float


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What giving one answer to every item would get."""

    name: str
    label: str
    figures: Figures


class SubjectScore(msgspec.Struct, frozen=True, kw_only=True):
    """The score of one subject's items, with a 95 % interval and the share of the most frequent right answer.

    `normalised` as in a `TaskScore`.
    """

    subject: str
    num_items: int
    num_right: int
    num_invalid: int
    accuracy: float
    low: float
    high: float
    majority: float
    normalised: float | None = None


class TaskScore(msgspec.Struct, frozen=True, kw_only=True):
    """The score of one task: shares of 1, `low` and `high` the 95 % interval of the accuracy (Wilson's).

    The first baseline is the majority class. `legacy_accuracy` is by the published rule, None where there is none or
    where it cannot read `num_legacy_unread` of the published gold texts; `num_legacy_default` is its OOD count.
    `normalised` is the accuracy on a scale on which chance is 0, None for tasks that are not told so.
    """

    task: str
    metric: str
    num_items: int
    num_right: int
    num_invalid: int
    num_cut_off: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    balanced_accuracy: float
    baselines: tuple[Baseline, ...]
    legacy_accuracy: float | None
    num_legacy_default: int
    num_legacy_unread: int
    subjects: tuple[SubjectScore, ...]
    normalised: float | None = None

    @property
    def invalid_rate(self) -> float:
        """The share of replies that no answer could be read from."""
        return self.num_invalid / self.num_items


def mark(task: Task, item: Item, text: str, *, finish: str = "stop", is_final: bool = False) -> Mark:
    """Score one reply. `is_final` reads the last statement of an answer, as in a reply that reasons first."""
    answer = task.parse(item, text, is_cut_off=finish == CUT_OFF, is_final=is_final)
    return mark_answer(task, item, answer, text, is_cut_off=finish == CUT_OFF)


def mark_answer(task: Task, item: Item, answer: str | None, text: str, *, is_cut_off: bool = False) -> Mark:
    """Score an answer that was read elsewhere (a vote), `text` being what the published rule is to see."""
    legacy = task.legacy(item, text) if task.legacy is not None else None
    return Mark(
        id=item.id,
        subject=item.subject,
        gold=item.gold,
        answer=answer,
        is_cut_off=is_cut_off,
        legacy_right=legacy.is_right if legacy is not None else None,
        is_legacy_default=legacy is not None and legacy.is_default,
        is_legacy_unread=legacy is not None and legacy.is_unread,
        chance=1 / len(item.options) if task.is_by_kind else None,
    )


def score(task: Task, marks: Sequence[Mark]) -> TaskScore:
    """Return the score of an exam. Raises InputError for no marks."""
    if not marks:
        raise InputError(f"an exam of {task.name} must have at least one item, got none: loosen its filter or limit")
    golds = [one.gold for one in marks]
    num_right = sum(one.is_right for one in marks)
    low, high = wilson(num_right, len(marks))
    own = figures(golds, [one.answer for one in marks])
    num_unread = sum(one.is_legacy_unread for one in marks)
    legacy = [one.legacy_right for one in marks if one.legacy_right is not None]
    return TaskScore(
        task=task.name,
        metric=task.metric,
        num_items=len(marks),
        num_right=num_right,
        num_invalid=sum(one.answer is None for one in marks),
        num_cut_off=sum(one.is_cut_off for one in marks),
        accuracy=own.accuracy,
        low=low,
        high=high,
        macro_f1=own.macro_f1,
        balanced_accuracy=own.balanced_accuracy,
        baselines=baselines(task, golds),
        legacy_accuracy=sum(legacy) / len(marks) if len(legacy) == len(marks) and not num_unread else None,
        num_legacy_default=sum(one.is_legacy_default for one in marks),
        num_legacy_unread=num_unread,
        subjects=_subjects(marks),
        normalised=normalised(marks),
    )


def normalised(marks: Sequence[Mark]) -> float | None:
    """Return (accuracy - chance) / (1 - chance), chance being the mean over the items: 1 is all right, below 0 is worse
    than drawing options blindly. None where an item has no chance, or nothing but.

    Source: the normalised preferred metric of BIG-Bench (Srivastava et al. 2022, arXiv 2206.04615), times 1/100.
    """
    chances = [one.chance for one in marks if one.chance is not None]
    chance = math.fsum(chances) / len(marks)
    if len(chances) < len(marks) or chance == 1:
        return None
    return (sum(one.is_right for one in marks) / len(marks) - chance) / (1 - chance)


def figures(golds: Sequence[str], answers: Sequence[str | None]) -> Figures:
    """Return the figures of answers, None being invalid. Source: scikit-learn's macro averages."""
    from sklearn.metrics import f1_score, recall_score

    given = ["" if answer is None else answer for answer in answers]
    present = sorted(set(golds))
    right = sum(gold == answer for gold, answer in zip(golds, given, strict=True))
    return Figures(
        accuracy=right / len(golds),
        macro_f1=float(f1_score(golds, given, labels=present, average="macro", zero_division=0)),
        balanced_accuracy=float(recall_score(golds, given, labels=present, average="macro", zero_division=0)),
    )


def baselines(task: Task, golds: Sequence[str]) -> tuple[Baseline, ...]:
    """Return what the majority class and the task's trivial answers would get; of equal classes the first counts."""
    counts = Counter(golds)
    majority = max(sorted(counts), key=lambda label: counts[label])
    named = [(f"majority ({majority})", majority), *((f"always {label}", label) for label in task.trivial)]
    return tuple(
        Baseline(name=name, label=label, figures=figures(golds, [label] * len(golds))) for name, label in named
    )


def _subjects(marks: Sequence[Mark]) -> tuple[SubjectScore, ...]:
    """Return one score per subject in order of name; none where the items have no subjects."""
    names = sorted({one.subject for one in marks} - {""})
    return tuple(_subject(name, [one for one in marks if one.subject == name]) for name in names)


def _subject(name: str, marks: Sequence[Mark]) -> SubjectScore:
    num_right = sum(one.is_right for one in marks)
    low, high = wilson(num_right, len(marks))
    return SubjectScore(
        subject=name,
        num_items=len(marks),
        num_right=num_right,
        num_invalid=sum(one.answer is None for one in marks),
        accuracy=num_right / len(marks),
        low=low,
        high=high,
        majority=max(Counter(one.gold for one in marks).values()) / len(marks),
        normalised=normalised(marks),
    )
