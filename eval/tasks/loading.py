"""Loading: the items of a task from a published file, a folder of them or a data set.

Invariant: every record becomes an item or the whole source is refused with all its faults, by file and line. Repeated
ids are kept and noted. What cannot be told from the source (whether MedMCQA counts from 0 or 1) must be set.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from engine.errors import InputError
from eval.item_files import Record, read_records, shown
from eval.items import Item, ItemSet
from eval.tasks import TASKS
from eval.tasks.forms import FORMS, IMHI, MEDMCQA
from eval.tasks.task import Content, Form, Reading, Task

_KEYS: Final = frozenset(key.casefold() for form in FORMS for key in form.keys)
_SPLIT: Final = re.compile(r"[_-](?:test|dev|val|validation|train)$")


def load_items(
    task: Task, source: str | Path, *, subject: str = "", split: str = "test", first_option: int | None = None
) -> ItemSet:
    """Load the items of `task`, in file order.

    `source` is a file, a folder of files or a data set name (then `split` counts). `subject` keeps the items of one
    subject: MedMCQA's `subject_name`, MedQA's step, the file name of an MMLU file. `first_option` is the number of
    MedMCQA's first option, 0 or 1, which is otherwise told from the numbers found. Raises InputError with every fault.
    """
    if not task.forms:
        raise InputError(f"{source}: must be of a task that is read from files, got {task.name}: leave the path out")
    if first_option not in (None, 0, 1):
        raise InputError(f"first_option must be 0 or 1, got {first_option}: set the number that stands for option A")
    records = read_records(source, split=split, columns=lambda first: _columns(task, first))
    forms = _forms(task, records)
    reading = Reading(task.classes, _first_option(forms, records, first_option))
    files = list(dict.fromkeys(record.file for record in records))
    problems: list[str] = []
    items = [
        _item(task, record, content, len(files) > 1)
        for record, form in zip(records, forms, strict=True)
        if (content := _content(form, record, reading, problems)) is not None
    ]
    problems = _wrong_set(task, items, records, problems) or problems
    if problems:
        raise InputError(problems)
    kept = of_subject(items, subject, str(source))
    return ItemSet(task=task.name, source=str(source), items=tuple(kept), notes=tuple(_notes(kept)))


def of_subject(items: Sequence[Item], subject: str, source: str) -> list[Item]:
    """Return the items of one subject in any case, "" for all. Raises InputError when there are none."""
    kept = [item for item in items if not subject or item.subject.casefold() == subject.strip().casefold()]
    if not kept:
        known = ", ".join(sorted({item.subject for item in items} - {""})) or "none"
        raise InputError(f"{source}: subject must be one of: {known}, got {subject!r}: correct the name")
    return kept


def _columns(task: Task, first: Sequence[str]) -> Sequence[str] | None:
    """Return the columns of a CSV file that begins with a record of the task, None where its first row names them."""
    columns = next((form.columns for form in task.forms if form.columns), None)
    names = [name.strip() for name in first]
    is_head = names[:1] and names[0].casefold() in _KEYS or any(form.keys <= {*names} for form in FORMS)
    return None if is_head else columns


def _forms(task: Task, records: Sequence[Record]) -> list[Form]:
    """Return the form of each record. Raises InputError for records that are of none of the task's."""
    forms: list[Form] = []
    problems: list[str] = []
    for record in records:
        fitting = next((form for form in task.forms if form.keys <= record.values.keys()), None)
        if fitting is None:
            problems.append(_unfitting(task, record))
        else:
            forms.append(fitting)
    if problems:
        raise InputError(problems)
    return forms


def _unfitting(task: Task, record: Record) -> str:
    """Say what a record lacks, or which task's records it looks like."""
    other = next((form for form in FORMS if form.keys <= record.values.keys()), None)
    nearest = max(task.forms, key=lambda form: len(form.keys & record.values.keys()))
    keys = ", ".join(sorted(nearest.keys))
    if other is not None:
        names = ", ".join(one.name for one in TASKS.values() if other in one.forms)
        return f"{record.place}: must be a record of {task.name} ({keys}), got one of {names}: set that task"
    missing = ", ".join(sorted(nearest.keys - record.values.keys()))
    got = shown(", ".join(map(str, record.values)))
    return f"{record.place}: must have the keys of {task.name} ({keys}), got {got}: add {missing}"


def _first_option(forms: Sequence[Form], records: Sequence[Record], given: int | None) -> int:
    """Return the number of MedMCQA's first option: as given, or as the numbers of the whole source tell."""
    if given is not None or MEDMCQA not in forms:
        return 1 if given is None else given
    numbers = {str(record.values.get("cop")).strip() for record in records}
    has_zero, has_four = "0" in numbers, "4" in numbers
    if has_zero != has_four:
        return 0 if has_zero else 1
    found = "both 0 and 4" if has_zero else "neither 0 nor 4"
    file = records[0].file
    raise InputError(f"{file}: cop must count options from 0 or from 1, got {found}: set first_option to 0 or 1")


def _content(form: Form, record: Record, reading: Reading, problems: list[str]) -> Content | None:
    faults: list[str] = []
    content = form.read(record.values, reading, faults.append)
    problems += [f"{record.place}: {fault}" for fault in faults]
    return None if faults else content


def _item(task: Task, record: Record, content: Content, has_files: bool) -> Item:
    stem = _SPLIT.sub("", Path(record.file).stem)
    place = f"{stem}/{record.line}" if has_files else str(record.line)
    return Item(
        id=f"{task.name}/{place}",
        task=task.name,
        line=record.line,
        question=content.question,
        options=content.options,
        gold=content.gold,
        source_id=content.source_id,
        subject=content.subject or (stem if task.name == "mmlu" else ""),
        context=content.context,
        gold_text=content.gold_text,
    )


def _wrong_set(task: Task, items: Sequence[Item], records: Sequence[Record], problems: Sequence[str]) -> list[str]:
    """Return one problem instead of one a line where the records have the right form but are of another set."""
    if IMHI not in task.forms:
        return []
    is_foreign = len(problems) > len(records) // 2
    if items and task.marks:
        unmarked = [item for item in items if not any(mark in item.question.casefold() for mark in task.marks)]
        is_foreign = is_foreign or len(unmarked) > len(items) // 2
    if not is_foreign:
        return []
    others = ", ".join(name for name, other in TASKS.items() if other is not task and _is_of(other, records[0]))
    if not others:
        return []
    file = records[0].file
    return [f"{file}: line {records[0].line}: must be a file of {task.name}, got one of {others}: set that task"]


def _is_of(task: Task, record: Record) -> bool:
    """Whether an IMHI record is of a task: its verdict is one of the classes, its question speaks of the subject."""
    if IMHI not in task.forms or not IMHI.keys <= record.values.keys():
        return False
    content = IMHI.read(record.values, Reading(task.classes), lambda fault: None)
    return content is not None and bool(content.gold) and any(m in content.question.casefold() for m in task.marks)


def _notes(items: Sequence[Item]) -> Iterator[str]:
    """Say what is unusual about the items and was kept."""
    counts = Counter(item.source_id for item in items if item.source_id)
    if repeated := [count for count in counts.values() if count > 1]:
        extra = sum(repeated) - len(repeated)
        yield f"{len(repeated)} ids occur more than once ({extra} repeated lines): kept, told apart by line"
    for item in items:
        texts = Counter(option.text.casefold() for option in item.options)
        if shared := [text for text, count in texts.items() if count > 1]:
            yield f"line {item.line}: options have the same text ({shown(shared[0])}): a reply with it alone is invalid"
