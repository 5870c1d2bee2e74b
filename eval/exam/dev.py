"""The dev exam: items that tell two versions of one model apart, read once, kept, and put again and again.

Invariant: what is put, in which order and how, is what was kept, whatever becomes of the files it came from. All sets
are one exam, each item counting alike, scored strictly. Knows nothing of rounds, nor of what follows from a score.
"""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.cases.typed import GIVEN
from engine.corpus import Corpus
from engine.errors import ConfigError, InputError
from engine.planning import Given, Plan, make_plan, read_rules
from engine.protocols.exam import Score, wilson
from engine.rundir import RunDirectory
from eval.comparison import ExamResult, TaskComparison, TaskResult, compare
from eval.exam import EXAMINEE, PROTOCOL, Materials, set_of
from eval.exam.planning import read_given
from eval.exam.report import read_sat
from eval.exam.results import read_result
from eval.items import Item
from eval.statistics.power import POWER, Design, items_needed, smallest_fall

ITEMS: Final = "inputs/items.jsonl"
MATERIALS: Final = "inputs/materials.json"
BASE: Final = 0.5
"""The share right that is assumed before anything was answered: the one that asks for most items."""


class DevExam(msgspec.Struct, frozen=True, kw_only=True):
    """Items, what they share, and the table of rules by which they are put."""

    protocol: dict[str, Any]
    items: tuple[Item, ...]
    materials: Materials

    def files(self) -> dict[str, bytes]:
        """Return what is to be kept, as files of a directory."""
        lines = b"".join(msgspec.json.encode(item) + b"\n" for item in self.items)
        return {ITEMS: lines, MATERIALS: msgspec.json.encode(self.materials)}

    def plan(self, run: Mapping[str, Any], model: str, base: Path) -> Plan:
        """Return the plan of putting all items to a model, given the tables of a run. Raises InputError."""
        cases = {"source": GIVEN, "limit": 0, "repeats": 1}
        own = {"protocol": self.protocol, "roles": {EXAMINEE: model}, "cases": cases, "prompts": "", "principles": {}}
        return make_plan({**run, **own}, base, given=Given(list(self.items), self.materials))


def read_dev_exam(tables: Mapping[str, Any], base: Path) -> DevExam:
    """Read the items that `tasks` names, put as `protocol` says. Raises ConfigError with every problem found."""
    problems: list[str] = []
    given = Given([], Materials({}, {}))
    try:
        given = read_given({"tasks": tables.get("tasks", {})}, base)
    except InputError as refused:
        problems += refused.problems
    protocol = _protocol(tables)
    try:
        read_rules(PROTOCOL.rules, protocol)
    except InputError as refused:
        problems += refused.problems
    if problems:
        raise ConfigError([f"exam: {problem}" for problem in problems])
    return DevExam(protocol=protocol, items=tuple(given.cases), materials=given.shared)


def open_dev_exam(tables: Mapping[str, Any], directory: Path) -> DevExam:
    """Return the exam that a directory keeps. Raises InputError when it lacks one or holds another thing."""
    try:
        lines = (directory / ITEMS).read_bytes().splitlines()
        items = tuple(msgspec.json.decode(line, type=Item) for line in lines)
        materials = msgspec.json.decode((directory / MATERIALS).read_bytes(), type=Materials)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{directory} must hold the items of its exam, got {error}: restore {ITEMS}") from error
    return DevExam(protocol=_protocol(tables), items=items, materials=materials)


def _protocol(tables: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": PROTOCOL.name, **tables.get("protocol", {})}


def score_run(directory: Path) -> Score:
    """Return what an exam's run came to, all sets together; the baseline names each set's most frequent answer."""
    sat = read_sat(Corpus.open(RunDirectory.open(directory)))
    if not sat:
        raise InputError(f"{directory}: must hold at least one answered item, got none: finish the exam first")
    right = sum(one.mark.is_right for one in sat)
    golds: dict[str, Counter[str]] = {}
    for one in sat:
        golds.setdefault(set_of(one.item), Counter())[one.item.gold] += 1
    low, high = wilson(right, len(sat))
    return Score(
        num_items=len(sat),
        num_right=right,
        num_invalid=sum(one.mark.answer is None for one in sat),
        accuracy=right / len(sat),
        low=low,
        high=high,
        always_one=sum(max(counts.values()) for counts in golds.values()) / len(sat),
    )


def compare_runs(before: Path, after: Path) -> TaskComparison:
    """Return how two runs of one exam differ, item by item. Raises InputError when their items are not the same."""
    (found,) = compare(_pooled(before), _pooled(after)).tasks
    if not found.difference.is_paired or found.notes:
        raise InputError(f"{before} and {after} must hold the same items, got others: restore what was changed")
    return found


def _pooled(directory: Path) -> ExamResult:
    """Return an exam with all its sets taken as one."""
    items = tuple(item for task in read_result(directory).tasks.values() for item in task.items)
    return ExamResult(name=str(directory), tasks={"exam": TaskResult(items=items)})


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """What so many items can show while `discordant` is the share that differs between two exams.

    `smallest_fall` is the smallest fall of the share right that is shown with a probability of `power`, None where not
    even a fall from `base` to 0 is.
    """

    num_items: int
    discordant: float
    base: float
    power: float
    smallest_fall: float | None

    @property
    def design(self) -> Design:
        """The comparison as statistics know it."""
        return Design(base=self.base, discordant=self.discordant)

    @property
    def num_needed(self) -> int | None:
        """How many items it takes to show any fall at all."""
        return items_needed(self.base, self.design)

    @property
    def sentence(self) -> str:
        """What the exam can show, and what was assumed."""
        least = self.smallest_fall
        # Rounded up, so that a rule set to what is printed can be decided.
        shown = "no fall at all" if least is None else f"a fall of {math.ceil(1000 * least) / 10:.1f} points or more"
        return (
            f"the exam's {self.num_items:,} items show {shown} at {self.power:.0%} power,"
            f" if {self.discordant:.0%} of them differ between two exams (exam.discordant)"
        )


def resolve(num_items: int, discordant: float) -> Resolution:
    """Return what an exam can show before any of it was answered. Raises InputError."""
    smallest = smallest_fall(num_items, Design(base=BASE, discordant=discordant))
    return Resolution(num_items=num_items, discordant=discordant, base=BASE, power=POWER, smallest_fall=smallest)
