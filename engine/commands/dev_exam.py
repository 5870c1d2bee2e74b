"""The exam between rounds, composed: items of tests as rounds put, compare and judge them.

Rounds know rules and figures, exams know items and statistics; here one is said in terms of the other. A rule is
decidable when the exam tells a change as large as its limit from none with 80 % power; the limit 0 names no size, and
needs only an exam that can show some fall. Rules act on ends of the interval, so that chance alone seldom breaks one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine import config as configuration
from engine.cases.datasets import Dataset
from engine.config_decode import decode
from engine.config_sections import PrivacyConfig
from engine.errors import ConfigError, InputError
from engine.planning import Plan
from engine.privacy.screening import screen
from engine.protocols.exam import Score
from eval.exam import Materials
from eval.exam.dev import (
    DevExam,
    Resolution,
    compare_runs,
    open_dev_exam,
    read_dev_exam,
    resolve,
    score_run,
)
from eval.exposure import overlap_warning, texts_in
from eval.items import Item
from eval.statistics.power import Design, decide
from training.monitors import EXAM_CHANGE, EXAM_POINTS, Rule
from training.round_log import BEFORE, ExamChange
from training.round_planning import CONFIG, RoundsPlan, plan_rounds
from training.round_settings import ExamSettings, Settings


def exam_name(number: int) -> str:
    """Return the directory of a round's exam, relative to that of the run of rounds."""
    return "exam" if number == BEFORE else f"round-{number}/exam"


def plan_with_exam(
    table: Mapping[str, Any], base: Path, datasets: Mapping[str, Dataset] | None = None
) -> tuple[RoundsPlan, DevExam | None]:
    """Resolve a configuration of rounds and the items of its exam, None without `[exam.tasks]`.

    Raises ConfigError with every problem found, rules that the exam cannot decide among them.
    """
    problems: list[str] = []
    plan = dev = None
    try:
        plan = plan_rounds(table, base, datasets)
    except InputError as refused:
        problems += refused.problems
    settings, _ = decode(ExamSettings, table.get("exam", {}), "exam.")
    if settings is not None and settings.tasks:
        try:
            dev = read_dev_exam(_tables(settings), base)
            dev = dev if plan is None else screened_exam(dev, plan)
        except InputError as refused:
            problems += refused.problems
    if problems or plan is None:
        raise ConfigError(problems)
    if dev is not None:
        resolution_of(plan.settings, dev)
    return plan, dev


def screened_exam(dev: DevExam, plan: RoundsPlan) -> DevExam:
    """Return the items as they may be kept and put, and note in the plan what was found. Raises InputError."""
    settings = msgspec.convert(plan.run["privacy"], PrivacyConfig)
    items, personal = screen(dev.items, Item, settings, "item")
    (materials,), more = screen([dev.materials], Materials, settings, "examples")
    plan.personal += personal + more
    return msgspec.structs.replace(dev, items=tuple(items), materials=materials)


def kept_exam(settings: ExamSettings, directory: Path) -> DevExam | None:
    """Return the items that a run of rounds keeps, None without `[exam.tasks]`. Raises InputError."""
    return open_dev_exam(_tables(settings), directory) if settings.tasks else None


def exam_plan(plan: RoundsPlan, directory: Path, dev: DevExam | None) -> Plan | None:
    """Return the plan of one exam, of the items kept or of sampled people; None where there is none."""
    if dev is not None:
        return dev.plan(plan.run, plan.model, directory)
    return plan.exam(directory) if plan.items else None


def _tables(settings: ExamSettings) -> dict[str, Any]:
    return {"tasks": settings.tasks, "protocol": settings.protocol}


def resolution_of(settings: Settings, dev: DevExam) -> Resolution:
    """Return what an exam of items can show. Raises ConfigError with every rule that it cannot decide."""
    found = resolve(len(dev.items), settings.exam.discordant)
    rules = enumerate(settings.rounds.rules)
    problems = [problem for number, rule in rules for problem in rule_problems(number, rule, found)]
    if problems:
        raise ConfigError(problems)
    return found


def stored_resolution(directory: Path) -> Resolution | None:
    """Return what the exam of a run of rounds can show, as it was begun; None where it has no items."""
    settings, _ = decode(ExamSettings, configuration.read_table(directory / CONFIG).get("exam", {}), "exam.")
    dev = kept_exam(settings, directory) if settings is not None else None
    return resolve(len(dev.items), settings.discordant) if dev is not None and settings is not None else None


def rule_problems(number: int, rule: Rule, exam: Resolution) -> list[str]:
    """Return why an exam cannot decide the rule of that number, one sentence each; most rules are on other figures."""
    where = f"rounds.rules[{number}] ({rule.text})"
    if rule.figure in EXAM_POINTS:
        ends = f"{rule.figure}_low or {rule.figure}_high"
        return [f"{where} must be on the interval of the exam, got its point {rule.figure}: use {ends}"]
    limits = [] if rule.figure not in EXAM_CHANGE else [rule.at_least, rule.at_most]
    problems = [_undecided(abs(limit), exam) for limit in dict.fromkeys(limits) if limit is not None]
    return [f"{where}: {problem}" for problem in problems if problem]


def _undecided(limit: float, exam: Resolution) -> str:
    """Return why a change of that size cannot be decided, "" when it can."""
    if limit:
        design = Design(base=max(exam.base, limit), discordant=exam.discordant)
        decision = decide(limit, exam.num_items, design)
        remedy = (
            f", or set exam.discordant where checkpoints were measured to differ in less than {exam.discordant:.0%}"
        )
        return "" if decision.is_decidable else decision.sentence + remedy
    if exam.smallest_fall is not None:
        return ""
    need = "no number of items can" if exam.num_needed is None else f"use {exam.num_needed} items or more"
    found = f"got {exam.num_items} items, which show none"
    return f"an exam must be able to show some fall, {found}: {need}, or leave the rule out"


def score_exam(directory: Path, number: int, against: int | None) -> tuple[Score, ExamChange | None]:
    """Score a round's exam of items, and compare it with another round's. Raises InputError for other items."""
    place = directory / exam_name(number)
    score = score_run(place)
    if against is None:
        return score, None
    found = compare_runs(directory / exam_name(against), place)
    change, difference = found.difference, found.difference.interval
    return score, ExamChange(
        against=against,
        value=change.value,
        low=difference.low,
        high=difference.high,
        num_better=change.num_better,
        num_worse=change.num_worse,
        p=change.p,
        smallest=found.smallest,
    )


def case_warning(plan: RoundsPlan, dev: DevExam) -> str:
    """Return a sentence on items that stand in a case, "" when none do."""
    cases = [*plan.played, *plan.held_out]
    texts = ((case.id, text) for case in cases for text in texts_in(msgspec.to_builtins(case)))
    return overlap_warning(dev.items, texts, "cases")


def row_warning(dev: DevExam, rows: list[dict[str, Any]], number: int) -> str:
    """Return a sentence on items that stand in a round's training rows, "" when none do."""
    return overlap_warning(dev.items, _texts_of(rows), f"training rows of round {number}")


def _texts_of(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(rows):
        for message in row["messages"]:
            yield f"row {number}", message["content"]
