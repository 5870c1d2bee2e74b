"""From the tables of an exam's configuration to the plan of a run: item files read, examples pooled; starts nothing.

An exam's configuration is that of a run with tables of its own:

    [tasks.NAME]   one set of items: path, and task where NAME is not a task's name; a task that makes its items
                   (general) has no path, but num_items of each subject, and seed
    task, subject  which of them are put
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.cases.typed import GIVEN
from engine.config_decode import decode
from engine.errors import ConfigError, InputError
from engine.planning import Given, Plan, make_plan
from eval.exam import EXAMINEE, Materials, Pool, Source
from eval.exposure import find_exposure, sources_in
from eval.items import Item, ItemSet
from eval.tasks import find_task
from eval.tasks.loading import load_items, of_subject
from eval.tasks.task import Making, Task

PROTOCOL: Final = "items"
OWN: Final = ("task", "subject", "tasks")


class TaskSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One set of items. `path` is a file, a folder or a data set's name, `examples` another one for examples only.

    `split` is that of a data set; `subject` keeps the items of one. `task` is what kind of items they are, "" where the
    table has the task's name; `limit` 0 puts all. A task that makes its items takes `num_items` of each subject (0: as
    many as it makes when nobody says) and `seed` instead of paths. `first_option` is the number of MedMCQA's first
    option, 0 or 1, where the numbers in the file do not tell.
    """

    path: str = ""
    task: str = ""
    examples: str = ""
    subject: str = ""
    split: str = "test"
    limit: int = 0
    num_items: int = 0
    seed: int = 0
    first_option: int | None = None


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The tables that an exam adds. `task` and `subject` choose among the sets and their items, "" for all."""

    task: str = ""
    subject: str = ""
    tasks: dict[str, TaskSettings] = {}


def plan_exam(table: Mapping[str, Any], base: Path, against: Sequence[Path] = ()) -> Plan:
    """Resolve an exam's configuration; relative paths hold from `base`. Raises InputError with every problem found.

    What of the items stands in the corpora `against` is looked up now and kept with what the items share.
    """
    problems: list[str] = []
    try:
        sources_in(against)
    except InputError as refused:
        problems += refused.problems
    chosen, faults = decode(Chosen, {name: inner for name, inner in table.items() if name in OWN}, "")
    problems += faults
    given = Given([], Materials({}, {}))
    if chosen is not None:
        given = _given(chosen, base, problems)
    try:
        plan = make_plan(_run_table(table), base, given=given)
    except InputError as refused:
        raise ConfigError([*problems, *refused.problems]) from None
    if plan.config.cases.repeats != 1:
        problems.append(f"cases.repeats must be 1 in an exam, got {plan.config.cases.repeats}: use a way that votes")
    if problems:
        raise ConfigError(problems)
    if against:
        plan.shared = msgspec.structs.replace(plan.shared, exposure=find_exposure(plan.cases, against))
    return plan


def read_given(tables: Mapping[str, Any], base: Path) -> Given:
    """Load the items of the tables that an exam adds, and what they share. Raises ConfigError with every problem."""
    chosen, problems = decode(Chosen, {name: inner for name, inner in tables.items() if name in OWN}, "")
    given = _given(chosen, base, problems) if chosen is not None else None
    if problems or given is None:
        raise ConfigError(problems)
    return given


def _run_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of the run; with one model and no roles that model is examined."""
    run = {name: inner for name, inner in table.items() if name not in OWN}
    models = run.get("models")
    if "roles" not in run and isinstance(models, Mapping) and len(models) == 1:
        run["roles"] = {EXAMINEE: next(iter(models))}
    run["cases"] = {**dict(run.get("cases", {})), "source": GIVEN}
    run["protocol"] = {"name": PROTOCOL, **dict(run.get("protocol", {}))}
    return run


def _given(chosen: Chosen, base: Path, problems: list[str]) -> Given:
    """Load the sets that were chosen; problems are added to the list."""
    names = _names(chosen, problems)
    items: list[Item] = []
    pools: dict[str, Pool] = {}
    sources: dict[str, Source] = {}
    for name in names:
        settings = chosen.tasks[name]
        try:
            found, examples = _sets(name, settings, base, settings.subject or chosen.subject)
        except InputError as refused:
            problems += [f"tasks.{name}: {problem}" for problem in refused.problems]
            continue
        put = found.items[: settings.limit or None]
        items += put
        pools[name] = Pool(settings.task or name, examples.items)
        sources[name] = Source(
            task=settings.task or name,
            path=found.source,
            sha256=_fingerprint(found.items),
            num_items=len(put),
            subject=settings.subject or chosen.subject,
            examples=examples.source,
            notes=found.notes,
        )
    return Given(items, Materials(pools, sources))


def _names(chosen: Chosen, problems: list[str]) -> list[str]:
    known = ", ".join(chosen.tasks) or "none"
    if not chosen.tasks:
        problems.append("an exam must have at least one table [tasks.NAME] with a path, got none: add one")
    for name, settings in chosen.tasks.items():
        try:
            problems += [f"tasks.{name}.{problem}" for problem in _unfit(find_task(settings.task or name), settings)]
        except InputError as refused:
            problems += [f"tasks.{name}.task: {problem}" for problem in refused.problems]
        if settings.limit < 0:
            problems.append(f"tasks.{name}.limit must be >= 0 (0 puts all), got {settings.limit}")
        if "/" in name:
            problems.append(f"tasks.{name} must have a name without '/', got {name!r}: rename the table")
    names = [name for name, one in chosen.tasks.items() if chosen.task in ("", name, one.task)]
    if chosen.tasks and not names:
        problems.append(f"task must be one of {known}, got {chosen.task!r}: correct it, or add a table for it")
    return names if not problems else []


def _unfit(task: Task, settings: TaskSettings) -> Iterator[str]:
    """Say which keys are not for this task, or are missing."""
    making = task.making
    if making is None:
        if not settings.path:
            yield "path is required and missing: set it"
        for key, number in (("num_items", settings.num_items), ("seed", settings.seed)):
            if number:
                yield f"{key} must be left out, since {task.name} is read from a file, got {number}: use limit"
        return
    for key, value in (("path", settings.path), ("examples", settings.examples)):
        if value:
            yield f"{key} must be left out, since {task.name} makes its items, got {value!r}: remove it"
    if not 0 <= settings.num_items <= making.max_items:
        yield f"num_items must be 1..{making.max_items} (0: {making.num_items}), got {settings.num_items}"


def _sets(name: str, settings: TaskSettings, base: Path, subject: str) -> tuple[ItemSet, ItemSet]:
    """Return the items and the examples of a table, the items themselves where it names no others."""
    making = find_task(settings.task or name).making
    if making is not None:
        return _make(name, settings, making, subject)
    found = _load(name, settings, settings.path, base, subject)
    return found, _load(name, settings, settings.examples, base, "") if settings.examples else found


def _make(name: str, settings: TaskSettings, making: Making, subject: str) -> tuple[ItemSet, ItemSet]:
    task = settings.task or name
    made = making.make(settings.num_items or making.num_items, settings.seed)
    source = f"made by {task}, seed {settings.seed}"

    def chosen(items: tuple[Item, ...], source: str) -> ItemSet:
        return ItemSet(task=task, source=source, items=_named(name, of_subject(items, subject, source)))

    return chosen(made.items, source), chosen(made.examples, f"{source}, others")


def _load(name: str, settings: TaskSettings, source: str, base: Path, subject: str) -> ItemSet:
    """Return a set whose items are named after its table."""
    place = str((base / source).absolute()) if (base / source).exists() else source
    found = load_items(
        find_task(settings.task or name),
        place,
        subject=subject,
        split=settings.split,
        first_option=settings.first_option,
    )
    return msgspec.structs.replace(found, items=_named(name, found.items))


def _named(name: str, items: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(msgspec.structs.replace(item, id=f"{name}/{item.id.partition('/')[2]}") for item in items)


def _fingerprint(items: tuple[Item, ...]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(msgspec.json.encode(item) + b"\n")
    return digest.hexdigest()
