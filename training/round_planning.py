"""From a configuration to the plans of all rounds: what is played, held out and examined; data that starts nothing.

A run of rounds is one directory:

    rounds.toml   the configuration with every default      rounds.jsonl   the steps that are done
    inputs/       cases that are played, held out, examined  held-out/, exam/, round-0/, round-1/, ...: runs
    checkpoints/  what was trained                           rounds.html    what changed, for people
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import tomli_w

from engine import config as configuration
from engine.cases.datasets import Dataset, is_dataset
from engine.cases.loaders import load_cases
from engine.cases.principles import PrincipleGroup
from engine.cases.schema import Case
from engine.config_sections import LORA_RANKS, VllmConfig, enough_lora_rank
from engine.errors import ConfigError, InputError
from engine.planning import OURS, Plan, make_plan
from engine.privacy.screening import Screened, screen
from engine.protocols.exam import EXAMINEE
from training.monitors import DEFAULT_RULES, EXAM_CHANGE
from training.round_settings import EXAM_SEED, Settings, read_settings, split, to_table
from training.training_settings import TrainingSettings

CONFIG: Final = "rounds.toml"
PRINCIPLES: Final = "inputs/principles.json"
PLAYED, HELD_OUT, EXAMINED = (f"inputs/{name}.jsonl" for name in ("cases", "held-out", "exam"))
MAY_CHANGE: Final = (
    *("rounds.num_rounds", "rounds.rules", "rounds.placement", "exam.discordant"),
    *("training.workers", "training.save_every"),
)
"""Settings of rounds that may change on resume, beside those of a run."""


class RoundsPlan(msgspec.Struct, kw_only=True):
    """A run of rounds, resolved. `run` are the tables of a run; `model` names the pool that is trained.

    `principles` are those of a data set of the hub, which are kept: later rounds ask no hub.
    `personal` is what in the exam looked like personal data or a secret when it was read in.
    """

    settings: Settings
    run: dict[str, Any]
    model: str
    played: list[Case]
    held_out: list[Case]
    items: list[Case]
    principles: list[PrincipleGroup] = []
    personal: Screened = Screened()

    @property
    def table(self) -> dict[str, Any]:
        """The whole configuration with every default, as it is kept."""
        return {**self.run, **to_table(self.settings)}

    @property
    def is_hosted(self) -> bool:
        """Whether the model is trained by the endpoint that serves it."""
        return bool(self.run["models"][self.model]["kind"] == "openai")

    def files(self) -> dict[str, bytes]:
        """Return the identity of the run of rounds as files of its directory."""
        cases = {PLAYED: self.played, HELD_OUT: self.held_out, EXAMINED: self.items}
        lines = {name: b"".join(msgspec.json.encode(case) + b"\n" for case in found) for name, found in cases.items()}
        if self.principles:
            lines[PRINCIPLES] = msgspec.json.encode({group.id: group.principles for group in self.principles})
        return {**lines, CONFIG: tomli_w.dumps(self.table).encode()}

    def round(self, directory: Path, number: int) -> Plan:
        """Return the plan of one round's dialogues: the same cases each time, another seed."""
        return self._plan(directory / PLAYED, int(self.run["seed"]) + number, self.run["cases"]["repeats"])

    def yardstick(self, directory: Path) -> Plan:
        """Return the plan of the held-out dialogues."""
        return self._plan(directory / HELD_OUT, int(self.run["seed"]), 1)

    def exam(self, directory: Path) -> Plan:
        """Return the plan of an exam of the model that is trained."""
        cases = {"source": str(directory / EXAMINED), "limit": 0, "repeats": 1}
        protocol = {"name": "exam", "num_options": self.settings.exam.num_options}
        roles = {EXAMINEE: self.model}
        own = {"cases": cases, "protocol": protocol, "roles": roles, "prompts": "", "principles": {}}
        return make_plan({**self.run, **own}, directory)

    def _plan(self, cases: Path, seed: int, repeats: int) -> Plan:
        table = {**self.run, "seed": seed, "cases": {"source": str(cases), "limit": 0, "repeats": repeats}}
        if is_dataset(self.run.get("principles", {}).get("source", "")):
            table["principles"] = {"source": str(cases.parent / Path(PRINCIPLES).name)}
        return make_plan(table, cases.parent)


def plan_rounds(table: Mapping[str, Any], base: Path, datasets: Mapping[str, Dataset] | None = None) -> RoundsPlan:
    """Resolve a configuration; relative paths hold from `base`. Raises InputError with every problem found.

    `datasets` says where data sets of the hub lie, by section.
    """
    own, rest = split(table)
    problems: list[str] = []
    settings = plan = None
    try:
        settings = read_settings(own)
    except InputError as refused:
        problems += refused.problems
    try:
        plan = make_plan(rest, base, datasets=datasets)
    except InputError as refused:
        problems += refused.problems
    if plan is not None:
        problems += _run_problems(plan, settings)
    if problems or settings is None or plan is None:
        raise ConfigError(problems)
    number = len(plan.cases) - settings.rounds.held_out
    items, personal = _items(settings, plan, base)
    model = settings.rounds.model or trainable(plan)[0]
    return RoundsPlan(
        settings=settings,
        run=_with_room_for_adapters(plan.table, model, settings.training),
        model=model,
        played=plan.cases[:number],
        held_out=plan.cases[number:],
        items=items,
        principles=plan.principles if "principles" in (datasets or {}) else [],
        personal=personal,
    )


def _run_problems(plan: Plan, settings: Settings | None) -> list[str]:
    found = []
    if plan.config.shards != 1:
        found.append(f"shards must be 1 in a run of rounds, got {plan.config.shards}: add replicas instead")
    found += _limit_problems(plan)
    models = trainable(plan)
    chosen = settings.rounds.model if settings is not None else ""
    if chosen and chosen not in plan.config.roles.values():
        found.append(f"rounds.model must be one of {', '.join(models)}, got {chosen!r}: name a model that a role uses")
    elif not chosen and len(models) != 1:
        found.append(f"rounds.model must say which model is trained, got none of {', '.join(models)}: set it")
    if settings is not None and settings.training.method != "full" and settings.training.rank > LORA_RANKS[-1]:
        found.append(f"training.rank must be at most {LORA_RANKS[-1]} to be served, got {settings.training.rank}")
    if settings is not None and settings.rounds.held_out >= len(plan.cases):
        held_out, number = settings.rounds.held_out, len(plan.cases)
        found.append(f"rounds.held_out must leave a case to play, got {held_out} of {number}: add cases")
    return found + (_dead_rules(settings) if settings is not None else [])


def _limit_problems(plan: Plan) -> list[str]:
    """Return which limits are set: each of the many runs of rounds would count for itself, and none for all."""
    return [
        f"limits.{name} holds for a single run, got {value:g} for rounds, which are many: leave it out, and bound a"
        " round by cases.limit and cases.repeats"
        for name, value in plan.config.limits.by_name.items()
        if value > 0
    ]


def _dead_rules(settings: Settings) -> list[str]:
    """Return which rules look at a figure that only items have, where there are none; default rules may."""
    return [
        f"rounds.rules[{number}].figure must be one that is measured, got {rule.figure} without items:"
        " add [exam.tasks.NAME], or leave the rule out"
        for number, rule in enumerate(settings.rounds.rules)
        if rule.figure in EXAM_CHANGE and rule not in DEFAULT_RULES and not settings.exam.tasks
    ]


def _with_room_for_adapters(run: dict[str, Any], name: str, training: TrainingSettings) -> dict[str, Any]:
    """Return the tables of a run in which the model takes adapters of the rank that is trained."""
    model = run["models"][name]
    if model["kind"] != "vllm" or training.method == "full" or model["max_lora_rank"] >= training.rank:
        return run
    return {**run, "models": {**run["models"], name: {**model, "max_lora_rank": enough_lora_rank(training.rank)}}}


def trainable(plan: Plan) -> list[str]:
    """Return the models in use that may be meant: those that are served here, else those of endpoints."""
    used = dict.fromkeys(plan.config.roles.values())
    here = [name for name in used if isinstance(plan.config.models[name], VllmConfig)]
    return here or [*used]


def _items(settings: Settings, plan: Plan, base: Path) -> tuple[list[Case], Screened]:
    """Return the cases of the exam, and what is personal in them.

    Raises ConfigError for one whose condition is not known, or that is played.
    """
    exam = settings.exam
    if exam.tasks or not exam.num_items:
        return [], Screened()
    source = exam.source if exam.source == "sampled" else str((base / exam.source).absolute())
    cases = load_cases(source, seed=plan.config.seed + EXAM_SEED, limit=exam.num_items)
    personal = Screened()
    if source not in OURS:
        cases, personal = screen(cases, Case, plan.config.privacy, "examined case")
    unknown = [case.id for case in cases if not case.condition]
    played = {case.id for case in plan.cases}
    problems = [f"exam.source: every case must have a condition, got none in {name}: add it" for name in unknown]
    problems += [
        f"exam.source: {case.id} must not be played, got it in both: remove it" for case in cases if case.id in played
    ]
    if problems:
        raise ConfigError(problems)
    return cases, personal


def replan(directory: Path, overrides: Sequence[str]) -> RoundsPlan:
    """Return the plan of a run of rounds that exists, with what may change. Raises InputError as `plan_rounds` does."""
    stored = configuration.read_table(directory / CONFIG)
    settings_table, run = split(configuration.apply_overrides(stored, list(overrides)))
    _refuse_drift(stored, {**run, **settings_table})
    settings = read_settings(settings_table)
    cases = {name: _kept(directory / name) for name in (PLAYED, HELD_OUT, EXAMINED)}
    plan = RoundsPlan(
        settings=settings,
        run=run,
        model="",
        played=cases[PLAYED],
        held_out=cases[HELD_OUT],
        items=cases[EXAMINED],
    )
    first = plan.round(directory, 0)
    if problems := _limit_problems(first):
        raise ConfigError(problems)
    plan.model = settings.rounds.model or trainable(first)[0]
    return plan


def _refuse_drift(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    old, new = configuration.flatten(before), configuration.flatten(after)
    for name in MAY_CHANGE:
        if name in new:
            old[name] = new[name]
        else:
            old.pop(name, None)
    configuration.refuse_drift(old, new)


def _kept(path: Path) -> list[Case]:
    return [msgspec.json.decode(line, type=Case) for line in path.read_bytes().splitlines()]
