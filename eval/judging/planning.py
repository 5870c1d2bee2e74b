"""From a stored run to the plan of judging it: its transcripts are the cases; starts nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine.cases.typed import GIVEN
from engine.config import read_table
from engine.corpus import Corpus, latest_tries
from engine.errors import InputError
from engine.planning import Given, Plan, make_plan
from engine.rundir import RunDirectory
from engine.show import protocol_of
from eval.judging.rules import JUDGE, JudgeRules
from eval.rubric import shipped_rubrics
from eval.transcripts import Transcript, transcript_of

PROTOCOL: Final = "judging"
TAKEN: Final = ("models", "scheduler", "ray", "seed")
"""Tables of the judged run that hold for judging it too, unless a configuration of its own is given."""


def judging_table(rundir: RunDirectory, own: Mapping[str, Any], rubric: str, pipeline: str) -> dict[str, Any]:
    """Return the tables of a judging: those of its own configuration, and what of the judged run's holds for it."""
    stored = read_table(rundir.config)
    kept: dict[str, Any] = {name: stored[name] for name in TAKEN if name in stored}
    protocol = {"name": PROTOCOL, "rubric": rubric, "pipeline": pipeline} | dict(own.get("protocol", {}))
    return {"name": f"{stored.get('name', 'run')}-judged", **kept, **own, "protocol": protocol}


def plan_judging(rundir: RunDirectory, table: Mapping[str, Any], base: Path) -> Plan:
    """Resolve the judging of a run by its tables; relative paths hold from `base`.

    Where no roles are given, all are the judge of the run, or else its model. Raises InputError with every problem.
    """
    transcripts = read_transcripts(rundir)
    if not transcripts:
        advice = f"`sandplay resume {rundir.path}` plays on"
        raise InputError(f"{rundir.path}: must hold at least one completed episode, got none: {advice}")
    protocol = _with_whole_path(dict(table.get("protocol", {})), base)
    run = {**table, "protocol": protocol, "cases": {"source": GIVEN}}
    if "roles" not in table:
        model = _judging_model(read_table(rundir.config), run.get("models", {}))
        run["roles"] = dict.fromkeys(_roles(run["protocol"]), model)
    return make_plan(run, base, given=Given(transcripts))


def read_transcripts(rundir: RunDirectory) -> list[Transcript]:
    """Return the dialogues of a run's completed episodes, the latest try of each, in order of name."""
    records = latest_tries(Corpus.open(rundir).iterate(status="completed"))
    spoken = protocol_of(rundir).turns
    return [transcript_of(record, spoken) for record in records]


def _with_whole_path(protocol: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return the rules with the path of a rubric of one's own made absolute, so that `resume` finds it."""
    rubric = protocol.get("rubric")
    if isinstance(rubric, str) and rubric not in shipped_rubrics() and (base / rubric).is_file():
        protocol["rubric"] = str((base / rubric).absolute())
    return protocol


def _judging_model(stored: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """Return the model that judges: that of the run's judge, else the only one there is, else the first of a role."""
    played = stored.get("roles", {}).get(JUDGE)
    if played in models:
        return str(played)
    used = [name for name in stored.get("roles", {}).values() if name in models]
    return next(iter([*used, *models]), "")


def _roles(protocol: Mapping[str, Any]) -> tuple[str, ...]:
    pipeline, number = protocol.get("pipeline"), protocol.get("num_judges", JudgeRules().num_judges)
    if pipeline == "panel" and isinstance(number, int) and number > 0:
        return JudgeRules(pipeline="panel", num_judges=number).roles
    return (JUDGE,)
