"""Exams read back from their runs, for comparing: right or wrong, item by item. Knows nothing of statistics."""

import hashlib
from pathlib import Path

import msgspec

from engine.corpus import Corpus
from engine.errors import InputError
from engine.rundir import RunDirectory
from eval.comparison import ExamResult, ItemResult, TaskResult
from eval.exam import set_of
from eval.exam.report import Sat, read_materials, read_sat
from eval.items import Item
from eval.scores import TaskScore, score
from eval.tasks import find_task


def read_result(directory: Path) -> ExamResult:
    """Return the exam in a run directory, by set. Raises InputError when it holds none, or not one answered item."""
    rundir = RunDirectory.open(directory)
    materials = read_materials(rundir)
    by_set: dict[str, list[Sat]] = {name: [] for name in materials.sources}
    for one in read_sat(Corpus.open(rundir)):
        by_set[set_of(one.item)].append(one)
    tasks = {name: _task(materials.sources[name].task, found) for name, found in by_set.items() if found}
    if not tasks:
        raise InputError(f"{directory}: must hold at least one answered item, got none: finish the exam first")
    return ExamResult(name=directory.name, tasks=tasks)


def _task(name: str, sat: list[Sat]) -> TaskResult:
    found = score(find_task(name), [one.mark for one in sat])
    items = tuple(
        ItemResult(one.item.id, one.mark.is_right, one.mark.answer is None, digest_of(one.item)) for one in sat
    )
    scores = {"macro_f1": found.macro_f1, "balanced_accuracy": found.balanced_accuracy}
    return TaskResult(items=items, scores={**scores, **_beside_chance(found)})


def _beside_chance(found: TaskScore) -> dict[str, float]:
    """Return what is told beside chance, of the task and of each of its subjects."""
    named = [("normalised", found.normalised)]
    named += [(f"normalised: {one.subject}", one.normalised) for one in found.subjects]
    return {name: value for name, value in named if value is not None}


def digest_of(item: Item) -> str:
    """Return what tells a question from others: a hash of its words and options."""
    words = msgspec.json.encode((item.question, item.context, item.options, item.gold))
    return hashlib.blake2b(words, digest_size=8).hexdigest()
