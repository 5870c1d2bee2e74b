"""The arms of an ablation, each an ordinary run in a directory of its own, played on one set of served models.

Invariant: arms differ in their name and in what `arm_settings` says. What was played is never played again, and a
directory that holds anything else is left alone.
"""

import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from actors.crew import LocalCrew
from actors.processes import ProcessTable
from engine.cases.datasets import Dataset
from engine.commands.keeping import kept_inside, leave_copy
from engine.commands.lending import Lent, open_run
from engine.commands.placing import settle
from engine.commands.preparing import forecast_plan, prepare_models
from engine.commands.running import read_progress
from engine.errors import InputError, ProtocolDrift
from engine.panel import make_panel
from engine.planning import Plan, freeze, make_plan, read_rules, take_up
from engine.protocols.mental_arena.arms import ARMS, FULL, arm_settings
from engine.protocols.mental_arena.rules import ArenaRules
from engine.run import play
from engine.rundir import DIRECTORIES, RunDirectory
from engine.serving import read_serving

REPORT: Final = "ablation.json"
PICTURE: Final = "disclosure.svg"
OWN: Final = frozenset({REPORT, PICTURE, "driver.lock", "gate.lock", "processes.json"})
"""What lies in an ablation's directory beside its arms."""


def plan_arms(
    table: Mapping[str, Any], base: Path, names: list[str], datasets: Mapping[str, Dataset] | None = None
) -> dict[str, Plan]:
    """Return the plan of each arm of a configuration, `full` first. Raises InputError with every problem found."""
    whole = make_plan(table, base, datasets=datasets)
    problems = []
    if whole.config.shards != 1:
        problems.append(f"shards must be 1 in an ablation, got {whole.config.shards}: add replicas instead")
    problems += [
        f"limits.{name} holds for a single run, got {value:g} for an ablation, which is several: leave it out"
        for name, value in whole.config.limits.by_name.items()
        if value > 0
    ]
    try:
        settings = _settings(whole, names)
    except InputError as refused:
        raise InputError([*problems, *refused.problems]) from None
    if problems:
        raise InputError(problems)
    tables = {arm: _arm_table(table, arm, own, whole) for arm, own in settings.items()}
    return {arm: make_plan(own, base, datasets=datasets) for arm, own in tables.items()}


def _settings(whole: Plan, names: list[str]) -> dict[str, dict[str, Any]]:
    if whole.spec.name != "mental_arena":
        raise InputError(f'protocol.name must be "mental_arena" in an ablation, got "{whole.spec.name}": set it')
    return arm_settings(read_rules(ArenaRules, whole.table["protocol"]), names or tuple(ARMS))


def _arm_table(table: Mapping[str, Any], arm: str, settings: Mapping[str, Any], whole: Plan) -> dict[str, Any]:
    protocol = {**table.get("protocol", {}), **settings}
    return {**table, "name": f"{whole.config.name}-{arm}", "protocol": protocol}


class Ablation:
    """One ablation in one directory, whose lock the caller holds. `arms` are plans by the name of the arm."""

    def __init__(self, arms: Mapping[str, Plan], directory: Path) -> None:
        self.directory = directory
        self._arms = self._taken_up(arms)
        self._panel = make_panel(sys.stderr.isatty())

    @property
    def places(self) -> dict[str, Path]:
        """The run directory of each arm."""
        return {arm: self.directory / arm for arm in self._arms}

    @property
    def figures(self) -> dict[str, Any]:
        """What the arms are, JSON-ready."""
        arms = {
            arm: {"directory": str(self.places[arm]), "what": ARMS[arm], "protocol": plan.table["protocol"]}
            for arm, plan in self._arms.items()
        }
        return {"directory": str(self.directory), "exchanges": self._num_exchanges, "arms": arms}

    @property
    def notes(self) -> list[str]:
        """What a reader of the tables must know."""
        parts = [f"{arm}: {ARMS[arm]}." for arm in self._arms]
        return [
            f"Every arm has {self._num_exchanges} exchanges: under a similarity of 1 every guided round is played, for "
            "nothing reaches it but a text that repeats its gold.",
            " ".join(parts),
            "A patient who was not told of something cannot disclose it: without cognition less of the story is known.",
        ]

    @property
    def _num_exchanges(self) -> int:
        rules: Any = self._arms[FULL].rules
        return int(rules.exchanges + rules.max_decoder_rounds)

    def _taken_up(self, arms: Mapping[str, Plan]) -> dict[str, Plan]:
        """Return the plans as those of the runs that are there. Raises InputError when one of them is another run."""
        problems: list[str] = []
        found = {}
        for arm, plan in arms.items():
            try:
                found[arm] = _take_up(kept_inside(plan, self.directory.name), self.directory / arm)
            except InputError as refused:
                problems += [f"{arm}: {problem}" for problem in refused.problems]
            except ProtocolDrift as changed:
                problems.append(f"{arm}: {changed}")
        if problems:
            raise InputError(problems)
        return found

    async def play(self) -> int:
        """Play what is left of every arm, one after the other; return the exit code."""
        _end_left_overs(RunDirectory(self.directory))
        waiting = {arm: plan for arm, plan in self._arms.items() if not await self._is_finished(arm)}
        if not waiting:
            return 0
        paths = prepare_models(self._arms[FULL])
        for arm, plan in waiting.items():
            figures = forecast_plan(plan, paths)
            calls = f"{figures.least.calls} to {figures.most.calls} calls each"
            self._panel.say(f"{arm}: {figures.episodes} episodes, {calls}")
        needs_embedder = any(plan.spec.needs_embedder for plan in waiting.values())
        config = self._arms[FULL].config
        places = (await settle(config, set(config.roles.values()), models=paths)).node_ids
        crew = LocalCrew(config, paths, needs_embedder=needs_embedder, places=places)
        await crew.check()
        try:
            crew.attach(RunDirectory(self.directory), self._panel.say)
            for arm, plan in waiting.items():
                if code := await self._play_arm(arm, plan, crew):
                    return code
        finally:
            await crew.close()
        return 0

    async def _play_arm(self, arm: str, plan: Plan, crew: LocalCrew) -> int:
        """Play one arm; return the exit code of its run."""
        panel = make_panel(sys.stderr.isatty())
        panel.say(f"playing {arm}")
        rundir = open_run(plan, self.directory / arm)
        with rundir.lock():
            result = await play(plan, rundir, Lent(crew), panel)
            leave_copy(rundir, plan.config.corpus, is_hasty=result.interrupted is not None)
        return result.interrupted or (1 if result.num_unplayed else 0)

    async def _is_finished(self, arm: str) -> bool:
        plan, path = self._arms[arm], self.directory / arm
        if not _is_whole(plan, path):
            return False
        rundir = RunDirectory.open(path)
        with rundir.lock():
            # An arm may have been gone on with by itself, and its driver killed.
            _end_left_overs(rundir)
            return (await read_progress(plan, rundir)).is_finished(plan)


def _end_left_overs(rundir: RunDirectory) -> None:
    """End what a killed driver left running. The caller holds the directory's lock."""
    for table in rundir.process_tables():
        ProcessTable(table).end_left_overs()


def _take_up(plan: Plan, path: Path) -> Plan:
    """Return a plan as that of the run at `path`, if one was made there. Raises as `take_up` does, and InputError."""
    if _is_whole(plan, path):
        rundir = RunDirectory.open(path)
        if read_serving(rundir):
            raise InputError(
                f"an arm must keep the models of its configuration, got a swap in {path}: choose another --out"
            )
        return take_up(plan, rundir)
    ours = {*DIRECTORIES, "config.toml", "driver.lock", "gate.lock"}
    strange = sorted(entry.name for entry in path.iterdir() if entry.name not in ours) if path.is_dir() else []
    if strange:
        raise InputError(
            f"an arm needs a directory of its own, got {path} with {strange[0]} in it: choose another --out"
        )
    return plan


def _is_whole(plan: Plan, path: Path) -> bool:
    """Whether a run was made there to its end: before, nothing can have been played."""
    return all((path / name).exists() for name in freeze(plan))


def make_place(directory: Path) -> None:
    """Make an ablation's directory, or take one that is there. Raises InputError for a place that is something else."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        strange = sorted(entry.name for entry in directory.iterdir() if entry.name not in OWN | ARMS.keys())
    except OSError as error:
        raise InputError(f"an ablation needs a writable directory, got {error}: choose another --out") from error
    if strange and not any((directory / arm / "config.toml").exists() for arm in ARMS):
        what = f"{directory} with {strange[0]} in it"
        raise InputError(f"an ablation needs a directory of its own, got {what}: choose another --out")
    directory.chmod(0o700)


def clear_place(directory: Path) -> None:
    """Remove an ablation's directory in which no arm was made."""
    with suppress(OSError):
        if {entry.name for entry in directory.iterdir()} <= OWN:
            shutil.rmtree(directory)
