"""Playing a plan into its run directory, from the first episode or from where it was stopped.

Both end the process with the run's exit code, after saying what came of it.
"""

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from engine.bill import make_bill
from engine.commands.keeping import leave_copy, look_at_target, refuse_target
from engine.commands.placing import settle
from engine.commands.preparing import commit_files, forecast_plan, kept_commits, prepare_models
from engine.commands.report import leave_report
from engine.config_sections import prices_of
from engine.corpus import Corpus
from engine.egress_log import note_run
from engine.endscreen import print_endscreen, print_report
from engine.errors import JournalError
from engine.journal import Journal
from engine.journal_local import bring_home, is_away
from engine.limits import Reached
from engine.panel import make_panel
from engine.planning import Plan, freeze
from engine.record import EpisodeKey, Status
from engine.report.writing import AT_END, FINISHED, IN_HASTE, open_state
from engine.roster import Ledger, retry_keys
from engine.run import Result, play
from engine.rundir import RunDirectory
from engine.serving import read_serving
from engine.summary import findings, summarize
from engine.tables import say


def start(plan: Plan, out: Path, as_json: bool) -> None:
    """Make the models of a plan ready, see whether it fits, and play it into a new directory. Raises as these do."""
    import uvloop

    paths = prepare_models(plan)
    forecast_plan(plan, paths)
    uvloop.run(run_new(plan, paths, out, as_json))


async def run_new(plan: Plan, paths: dict[str, Path], out: Path, as_json: bool) -> None:
    """Play a plan into a new directory. Raises InputError when models or the place are refused, RunError in the run."""
    placement = await settle(plan.config, set(plan.config.roles.values()), models=paths)
    crew = _crew(plan, paths, places=placement.node_ids)
    await crew.check()
    try:
        await look_at_target(out, plan.config.corpus)
        rundir = RunDirectory.create(out, freeze(plan) | commit_files(paths, plan.commits))
    except BaseException:
        await crew.close()
        raise
    with rundir.lock():
        name = rundir.name_in_lock()
        try:
            _note_for_shards(plan, rundir)
            result = await _play(plan, rundir, crew, paths, [])
        except BaseException:
            if rundir.name_in_lock() != name or await _has_started(rundir, plan.config.shards):
                _say_resume(rundir)
            else:
                shutil.rmtree(rundir.path, ignore_errors=True)
            raise
    finish(plan, rundir, result, as_json)


async def run_on(plan: Plan, rundir: RunDirectory, as_json: bool, retry_failed: bool) -> None:
    """Go on with a run whose lock is held; a finished one asks nothing. Raises as `run_new` does."""
    from actors.processes import ProcessTable

    for table in rundir.process_tables():
        ProcessTable(table).end_left_overs()
    progress = await read_progress(plan, rundir)
    extra = retry_keys(progress.ended) if retry_failed else []
    is_finished = progress.is_finished(plan) and not extra
    plan = _in_place(plan) if is_finished else plan
    refuse_target(plan.config)  # a finished run asks nobody, and is copied all the same
    paths = {} if is_finished else prepare_models(plan, kept_commits(rundir.path))
    serving = {} if is_finished else read_serving(rundir)
    needed = {**paths, **{f"{name}, as served": path for name, path in serving.items()}}
    placement = await settle(plan.config, () if is_finished else set(plan.config.roles.values()), models=needed)
    crew = _crew(plan, paths, serving, placement.node_ids)
    if not is_finished:
        forecast_plan(plan, paths)
        await crew.check()
        _note_for_shards(plan, rundir)
    try:
        result = await _play(plan, rundir, crew, paths, extra)
    except BaseException:
        _say_resume(rundir)
        raise
    finish(plan, rundir, result, as_json)


def _in_place(plan: Plan) -> Plan:
    """Return the plan of a finished run, which needs no disk of this node."""
    journal = msgspec.structs.replace(plan.config.journal, local_dir="")
    config = msgspec.structs.replace(plan.config, journal=journal)
    return msgspec.structs.replace(plan, config=config, table={**plan.table, "journal": msgspec.to_builtins(journal)})


def _note_for_shards(plan: Plan, rundir: RunDirectory) -> None:
    """Note where texts go, which a run of a single scheduler does itself."""
    if plan.config.shards > 1:
        note_run(plan, rundir.path, time.time())


class Progress(msgspec.Struct, frozen=True):
    """How far a run's journals are: the status of every try that ended, and how many live."""

    ended: Mapping[EpisodeKey, Status]
    num_live: int

    def is_finished(self, plan: Plan) -> bool:
        """Whether nothing of the plan is left to play."""
        return not self.num_live and all(key in self.ended for key in plan.roster())


async def read_progress(plan: Plan, rundir: RunDirectory) -> Progress:
    """Return how far a run is. The caller holds the directory's lock."""
    ended = Ledger(plan.roster())
    num_live = 0
    for index in range(plan.config.shards):
        # One that lives on another node stays there; what its copy says goes for the moment.
        bring_home(rundir, index)
        journal = Journal.open(rundir, index=index, exclusive=True, ended=ended)
        num_live += len(journal.live())
        await journal.close()
    return Progress(ended, num_live)


async def _play(plan: Plan, rundir: RunDirectory, crew: Any, paths: dict[str, Path], extra: list[Any]) -> Result:
    """Play the plan's episodes and `extra` tries, here or on shards."""
    panel = make_panel(sys.stderr.isatty())
    if plan.config.shards > 1:
        from actors.shards import play_shards

        await crew.close()
        return await play_shards(plan, rundir, paths, panel, extra)
    crew.attach(rundir, panel.say)
    try:
        return await play(plan, rundir, crew, panel, extra)
    finally:
        await crew.hang_up()


async def _has_started(rundir: RunDirectory, num_journals: int) -> bool:
    """Whether any episode was ever admitted; when that cannot be told, nothing is thrown away."""
    for index in range(num_journals):
        try:
            if is_away(rundir, index):
                return True
            journal = Journal.open(rundir, index=index, exclusive=True)
            await journal.close()
        except JournalError:
            return True
        if journal.live() or journal.ended():
            return True
    return False


def finish(plan: Plan, rundir: RunDirectory, result: Result, as_json: bool) -> NoReturn:
    """Print what happened and exit with the run's code."""
    corpus = Corpus.open(rundir)
    outcomes = (json.loads(record.outcome) for record in corpus.iterate(columns=("outcome",)) if record.outcome)
    found = findings(plan.spec, outcomes)
    prices = {name: prices_of(model) for name, model in plan.config.models.items()}
    summary = summarize(result, found, str(rundir.path), make_bill(result.after, plan.config.roles, prices))
    is_whole = result.interrupted is None and not result.num_unplayed
    report = plan.spec.report(rundir) if plan.spec.report and is_whole else None
    leave_report(
        rundir,
        plan.spec,
        state=FINISHED if is_whole else open_state(rundir),
        size=AT_END if result.interrupted is None else IN_HASTE,
        sections=report.sections if report else (),
        limits=plan.config.limits,
        spent=result.spent,
    )
    summary |= leave_copy(rundir, plan.config.corpus, is_hasty=result.interrupted is not None)
    if as_json:
        print(json.dumps(summary | (report.figures if report else {})), flush=True)
    elif report is not None:
        print_report(report, summary)
    elif result.interrupted is None:
        print_endscreen(plan, rundir, summary)
    if result.interrupted is None and result.reached:
        _say_reached(rundir, result.reached, plan.config.shards)
    elif result.interrupted is not None or result.num_unplayed:
        _say_resume(rundir)
    sys.exit(result.interrupted or (1 if result.num_unplayed else 0))


def _say_resume(rundir: RunDirectory) -> None:
    say(f"interrupted; go on with: sandplay resume {rundir.path}")


def _say_reached(rundir: RunDirectory, reached: Sequence[Reached], num_shards: int) -> None:
    whose = " (the share of one shard)" if num_shards > 1 else ""
    for one in reached:
        say(f"{one}{whose}")
    more = " ".join(dict.fromkeys(f"limits.{one.name}=..." for one in reached))
    say(f"go on with: sandplay resume {rundir.path} {more}")


def _crew(
    plan: Plan,
    paths: dict[str, Path],
    serving: dict[str, Path] | None = None,
    places: dict[str, tuple[str, ...]] | None = None,
) -> Any:
    from actors.crew import LocalCrew

    embeds = plan.spec.needs_embedder
    return LocalCrew(plan.config, paths, needs_embedder=embeds, serving=serving, places=places)
