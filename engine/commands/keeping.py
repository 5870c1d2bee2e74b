"""A run and its target, for commands: the look at it before a run begins, and the copy that every run leaves."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from engine.config import Config
from engine.config_sections import CorpusConfig
from engine.planning import Plan
from engine.rundir import RunDirectory
from engine.targets import uri_inside


async def look_at_target(out: Path, config: CorpusConfig) -> None:
    """See that the place of a new run at its target is free; one that does not answer is said, and tried again later.

    Raises InputError for a target that pyarrow does not take, or a folder that holds anything.
    """
    if config.target:
        await asyncio.to_thread(_look, out, config)


def _look(out: Path, config: CorpusConfig) -> None:
    from engine.run_copy import copy_problem, place_of, refuse_taken

    rundir = RunDirectory(out.absolute())
    try:
        refuse_taken(rundir, place_of(rundir, config))
    except OSError as error:
        _say(f"warning: {copy_problem(error)}; the run is played, and copied once that works")


def refuse_target(config: Config) -> None:
    """Raise InputError where a run would be copied to another host than it may send texts to."""
    from engine.egress import refusals, target_outlets
    from engine.errors import InputError

    if problems := refusals(target_outlets(config), config.privacy.egress):
        raise InputError(problems)


def kept_inside(plan: Plan, folder: str) -> Plan:
    """Return the plan of one of several runs, whose folder at the target lies in a folder of all of them."""
    corpus = plan.config.corpus
    if not corpus.target:
        return plan
    corpus = msgspec.structs.replace(corpus, target=uri_inside(corpus.target, folder))
    config = msgspec.structs.replace(plan.config, corpus=corpus)
    return msgspec.structs.replace(plan, config=config, table={**plan.table, "corpus": msgspec.to_builtins(corpus)})


def leave_copy(rundir: RunDirectory, config: CorpusConfig, *, is_hasty: bool) -> dict[str, Any]:
    """Copy what the target lacks at the end of a run and return how it stands there, as part of a summary.

    What keeps it from being copied is said, and never fails the run; in haste nothing is copied.
    """
    from engine.run_copy import complete, copy_problem
    from engine.targets import retried

    if not config.target:
        return {}
    problem = "the run was interrupted" if is_hasty else ""
    try:
        if not is_hasty:
            state = retried(lambda: complete(rundir, config, _say))
            _say(f"{state.parts} parts and the rest of the run are at {state.place}")
            return {"target": {"place": state.place, "parts": state.parts, "problem": ""}}
    except Exception as error:  # noqa: BLE001  whatever a target does, the run itself is whole
        problem = copy_problem(error)
    _say(f"warning: {problem}, so the target may lack some of it; copy the rest with: sandplay resume {rundir.path}")
    return {"target": {"place": config.target, "parts": None, "problem": problem}}


def _say(text: str) -> None:
    from engine.transcript import printable

    print(printable(text, markup=False), file=sys.stderr)
