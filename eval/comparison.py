"""Two exam results side by side, or those of a series of rounds: a table as data, with a verdict in plain words; pure.

Items are paired by id. A difference counts as shown only when its p, corrected for the number of comparisons made at
once (Holm), is at most 0.05; otherwise the verdict says what the exam could have shown. Knows nothing of models or of
how the items were asked.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from engine.errors import InputError
from engine.tables import in_percent
from eval.statistics.bootstrap import RESAMPLES, percentiles
from eval.statistics.differences import (
    Difference,
    holm,
    paired_difference,
    paired_draws,
    unpaired_difference,
    unpaired_draws,
)
from eval.statistics.intervals import ALPHA, Interval, share_interval
from eval.statistics.power import Design, smallest_fall

MIN_COMMON: Final = 0.5
"""Least share of the larger exam's items that must be in both for the items to be compared in pairs."""
HEADS: Final = ("task", "items", "first", "second", "difference", "p", "Holm p", "test", "verdict")


class ItemResult(msgspec.Struct, frozen=True):
    """One item's answer. `digest` tells questions apart, where known: an id with two digests is two items."""

    id: str
    is_right: bool
    is_invalid: bool = False
    digest: str = ""


class TaskResult(msgspec.Struct, frozen=True):
    """One task's answers, and further scores of it by name (macro-F1, say), which are shown but not tested."""

    items: tuple[ItemResult, ...]
    scores: Mapping[str, float] = {}


class ExamResult(msgspec.Struct, frozen=True):
    """An exam of one model or round, by task."""

    name: str
    tasks: Mapping[str, TaskResult]


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """The share of right answers with its 95 % interval; invalid answers are wrong ones."""

    value: float
    interval: Interval
    num_items: int
    num_right: int
    num_invalid: int


class TaskComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One task of two exams. The accuracies are of all its items, the difference of those compared.

    `smallest` is the smallest fall that so many items could have shown at 80 % power, with as many pairs differing as
    did; None where none could. `scores` are (first, second) by name.
    """

    task: str
    first: Accuracy
    second: Accuracy
    difference: Difference
    smallest: float | None
    scores: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...]
    holm_p: float = 1.0
    verdict: str = ""


class Average(msgspec.Struct, frozen=True, kw_only=True):
    """Mean over tasks, each counting alike, of the items compared; the interval is drawn from each task's items."""

    first: float
    second: float
    value: float
    interval: Interval


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two exams by name. `left_out` names the tasks that only one of them took."""

    first: str
    second: str
    tasks: tuple[TaskComparison, ...]
    average: Average
    left_out: tuple[str, ...]


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """A series of rounds: each task's accuracies in their order (None where not taken), each round but the first
    against the first and against the one before. Holm corrects over each of the two series whole."""

    rounds: tuple[str, ...]
    accuracies: Mapping[str, tuple[Accuracy | None, ...]]
    against_first: tuple[Comparison, ...]
    against_before: tuple[Comparison, ...]


class _Aligned(msgspec.Struct, frozen=True):
    """The scores of one task that are compared, in pairs or not, and what is to be said of them."""

    first: tuple[float, ...]
    second: tuple[float, ...]
    is_paired: bool
    notes: tuple[str, ...]


def compare(first: ExamResult, second: ExamResult, *, seed: int = 0, resamples: int = RESAMPLES) -> Comparison:
    """Return the comparison of two exams over the tasks that both took.

    Raises InputError for no such task, a task without items, an id that comes twice, an id that is another question.
    """
    return _corrected([_compare(first, second, seed, resamples)])[0]


def over_rounds(results: Sequence[ExamResult], *, seed: int = 0, resamples: int = RESAMPLES) -> Course:
    """Return the course of a series of exams, the oldest first. Raises InputError as `compare`, and for no exam."""
    if not results:
        raise InputError("a course must have at least one exam, got none: examine a round")
    later = list(pairwise(results))
    tasks = list(dict.fromkeys(task for result in results for task in result.tasks))
    for result in results:
        _refuse_faulty(result)
    return Course(
        rounds=tuple(result.name for result in results),
        accuracies={task: tuple(map(_accuracy, (result.tasks.get(task) for result in results))) for task in tasks},
        against_first=_corrected([_compare(results[0], after, seed, resamples) for _, after in later]),
        against_before=_corrected([_compare(before, after, seed, resamples) for before, after in later]),
    )


def accuracy(task: TaskResult) -> Accuracy:
    """Return a task's share of right answers. Raises InputError for a task without items."""
    right = sum(item.is_right for item in task.items)
    return Accuracy(
        interval=share_interval(right, len(task.items)),
        value=right / len(task.items),
        num_items=len(task.items),
        num_right=right,
        num_invalid=sum(item.is_invalid for item in task.items),
    )


def table_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the comparison as cells of text under `HEADS`, points in percent, the average last."""
    rows = [_row(one) for one in comparison.tasks]
    mean = comparison.average
    ends = (in_percent(mean.first), in_percent(mean.second), _points(mean.value, mean.interval))
    return [*rows, ("average", "", *ends, "", "", "bootstrap", "")]


def _row(one: TaskComparison) -> tuple[str, ...]:
    found = one.difference
    compared = f"{found.num_first}" if found.is_paired else f"{found.num_first}, {found.num_second}"
    shares = (f"{in_percent(side.value)} {_range(side.interval)}" for side in (one.first, one.second))
    tested = (f"{found.p:.3g}", f"{one.holm_p:.3g}", found.test)
    verdict = "; ".join((one.verdict, *one.notes))
    return (one.task, compared, *shares, _points(found.value, found.interval), *tested, verdict)


def _compare(first: ExamResult, second: ExamResult, seed: int, resamples: int) -> Comparison:
    for result in (first, second):
        _refuse_faulty(result)
    common = [task for task in first.tasks if task in second.tasks]
    if not common:
        names = f"{', '.join(first.tasks) or 'none'} and {', '.join(second.tasks) or 'none'}"
        raise InputError(f"two exams must have a task in common, got {names}: take the same tasks")
    aligned = {task: _align(task, first.tasks[task], second.tasks[task]) for task in common}
    tasks = []
    for number, (task, scores) in enumerate(aligned.items(), 1):
        differ = paired_difference if scores.is_paired else unpaired_difference
        difference = differ(scores.first, scores.second, seed=(seed, number), resamples=resamples)
        tasks.append(_task_comparison(task, first.tasks[task], second.tasks[task], difference, scores.notes))
    return Comparison(
        first=first.name,
        second=second.name,
        tasks=tuple(tasks),
        average=_average(tasks, list(aligned.values()), seed, resamples),
        left_out=tuple(sorted(set(first.tasks) ^ set(second.tasks))),
    )


def _task_comparison(
    task: str, first: TaskResult, second: TaskResult, difference: Difference, notes: tuple[str, ...]
) -> TaskComparison:
    base = difference.first
    design = Design(base=base, is_paired=difference.is_paired, discordant=difference.discordant or None)
    number = min(difference.num_first, difference.num_second)
    return TaskComparison(
        task=task,
        first=accuracy(first),
        second=accuracy(second),
        difference=difference,
        smallest=smallest_fall(number, design) if base else None,
        scores={name: (value, second.scores[name]) for name, value in first.scores.items() if name in second.scores},
        notes=notes,
    )


def _average(tasks: Sequence[TaskComparison], aligned: Sequence[_Aligned], seed: int, resamples: int) -> Average:
    total: Any = 0.0
    for number, scores in enumerate(aligned, 1):
        draw = paired_draws if scores.is_paired else unpaired_draws
        total = total + draw(scores.first, scores.second, seed=(seed, number), resamples=resamples)
    first = sum(one.difference.first for one in tasks) / len(tasks)
    second = sum(one.difference.second for one in tasks) / len(tasks)
    return Average(
        first=first, second=second, value=second - first, interval=percentiles(total / len(tasks), second - first)
    )


def _align(task: str, first: TaskResult, second: TaskResult) -> _Aligned:
    """Pair the items of both exams by id, or say why they are compared unpaired."""
    before = {item.id: item for item in first.items}
    after = {item.id: item for item in second.items}
    common = [name for name in before if name in after]
    _refuse_strangers(task, [(before[name], after[name]) for name in common])
    largest = max(len(before), len(after))
    if len(common) < MIN_COMMON * largest:
        note = f"only {len(common)} of {largest} items are in both exams: compared as different items, unpaired"
        return _Aligned(_right(first.items), _right(second.items), False, (note,))
    left_out = len(before) + len(after) - 2 * len(common)
    notes = (f"{left_out} items that only one exam has are left out of the difference",) if left_out else ()
    first_right, second_right = (_right([items[name] for name in common]) for items in (before, after))
    return _Aligned(first_right, second_right, True, notes)


def _right(items: Sequence[ItemResult]) -> tuple[float, ...]:
    return tuple(float(item.is_right) for item in items)


def _refuse_strangers(task: str, pairs: Sequence[tuple[ItemResult, ItemResult]]) -> None:
    problems = [
        f"{task}: item {one.id} must be the same question in both exams, got two: take both exams of the same items"
        for one, other in pairs
        if one.digest and other.digest and one.digest != other.digest
    ]
    if problems:
        raise InputError(problems)


def _refuse_faulty(result: ExamResult) -> None:
    problems = []
    for task, found in result.tasks.items():
        where = f"{result.name}, {task}"
        if not found.items:
            problems.append(f"{where}: a task must have items, got none: leave the task out")
        for name, number in Counter(item.id for item in found.items).items():
            if number > 1:
                problems.append(f"{where}: an item's id must come once, got {name!r} {number} times: key items by line")
    if problems:
        raise InputError(problems)


def _corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Return the comparisons with p corrected over all their tasks together, and the verdicts that follow."""
    corrected = iter(holm([one.difference.p for comparison in comparisons for one in comparison.tasks]))
    return tuple(
        msgspec.structs.replace(
            comparison, tasks=tuple(_judged(one, next(corrected), comparison) for one in comparison.tasks)
        )
        for comparison in comparisons
    )


def _judged(one: TaskComparison, holm_p: float, names: Comparison) -> TaskComparison:
    found = one.difference
    if holm_p <= ALPHA:
        better, worse = (names.second, names.first) if found.value > 0 else (names.first, names.second)
        verdict = f"{better} is better than {worse}: {_points(found.value, found.interval)} points"
    elif found.is_paired and not found.num_better + found.num_worse:
        verdict = "no difference: both are right on the same items"
    elif one.smallest is None:
        verdict = "no difference shown; so few items could not show any fall"
    else:
        verdict = f"no difference shown; a fall of less than {100 * one.smallest:.1f} points would often go unseen"
    return msgspec.structs.replace(one, holm_p=holm_p, verdict=verdict)


def _accuracy(task: TaskResult | None) -> Accuracy | None:
    return accuracy(task) if task is not None else None


def _range(interval: Interval) -> str:
    return f"({in_percent(interval.low)} to {in_percent(interval.high)})"


def _points(value: float, interval: Interval) -> str:
    return f"{100 * value:+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
