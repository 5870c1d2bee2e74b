"""`sandplay rounds`: play, train, swap, examine, round after round; and going on with it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.config import Config
    from engine.egress import Outlet
    from engine.planning import Plan
    from engine.protocol import ProtocolSpec
    from eval.exam.dev import DevExam, Resolution
    from training.round_log import RoundLog
    from training.round_planning import RoundsPlan


def rounds(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to play, teach and examine.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings that replace the file's.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory to make (default: runs/NAME-TIME).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Play rounds: generate, train on what was played, swap the checkpoint in, examine it, keep it or roll back."""
    from engine import config as configuration
    from engine.commands.datasets import bring_datasets
    from engine.commands.dev_exam import plan_with_exam
    from engine.commands.preparing import (
        commit_files,
        default_directory,
        forecast_plan,
        prepare_models,
        say_personal,
    )
    from engine.planning import make_plan

    base = config.parent.absolute()
    table = configuration.apply_overrides(configuration.read_table(config), overrides or [])
    datasets = bring_datasets(table)
    plan, dev = plan_with_exam(table, base, datasets)
    first = make_plan(plan.run, base, datasets=datasets)
    say_personal(plan.personal)
    paths = prepare_models(first, more=rounds_outlets(plan, first))
    forecast_plan(first, paths)
    if dev is not None:
        forecast_plan(dev.plan(plan.run, plan.model, base), paths)
    settle_rounds(plan, first.config, paths)
    directory = (out or default_directory(str(plan.run["name"]))).absolute()
    create(directory, plan, dev, commit_files(paths, first.commits))
    _go(plan, directory, paths, as_json)


def is_rounds(directory: Path) -> bool:
    """Whether a directory holds a run of rounds."""
    from training.round_planning import CONFIG

    return (directory / CONFIG).is_file()


def resume_rounds(directory: Path, overrides: list[str], as_json: bool) -> NoReturn:
    """Go on with a run of rounds."""
    from actors.processes import ProcessTable
    from engine.commands.preparing import kept_commits, prepare_models
    from engine.rundir import RunDirectory
    from training.round_planning import replan

    directory = directory.absolute()
    plan = replan(directory, overrides)
    rundir = RunDirectory(directory)
    with rundir.lock():
        for table in rundir.process_tables():
            ProcessTable(table).end_left_overs()
    first = plan.round(directory, 0)
    paths = prepare_models(first, kept_commits(directory), more=rounds_outlets(plan, first))
    settle_rounds(plan, first.config, paths)
    _go(plan, directory, paths, as_json)


def rounds_outlets(plan: "RoundsPlan", first: "Plan") -> "list[Outlet]":
    """Return where texts go beside those of the dialogues, which `first` plays: to who is examined, to who trains, and
    to the embedder that compares the rows of rounds.
    """
    import msgspec

    from engine.egress import outlets, rows_outlet, tuning_outlet

    config, spec = first.config, _exam_spec(plan)
    found = []
    if spec is not None:
        examined = msgspec.structs.replace(config, roles=dict.fromkeys(spec.roles, plan.model))
        found += outlets(examined, spec, "exam")
    if plan.is_hosted:
        found.append(tuning_outlet(config, plan.model))
    if first.spec.needs_embedder or (spec is not None and spec.needs_embedder):
        found.append(rows_outlet(config))
    return found


def _exam_spec(plan: "RoundsPlan") -> "ProtocolSpec | None":
    """Return the protocol of the exam as its rules need it, None where there is no exam."""
    from engine.planning import read_rules
    from engine.protocols.exam import PROTOCOL as EXAM
    from eval.exam import PROTOCOL as ITEMS

    if not plan.settings.exam.tasks:
        return EXAM if plan.items else None
    assert ITEMS.suited is not None
    return ITEMS.suited(read_rules(ITEMS.rules, plan.settings.exam.protocol))


def settle_rounds(plan: "RoundsPlan", config: "Config", models: "Mapping[str, Path]") -> None:
    """Say where replicas and training go, side by side or in turn. Raises InputError where there is no room."""
    import asyncio

    from engine.commands.placing import settle

    pools, training = set(config.roles.values()), None if plan.is_hosted else plan.settings.training
    if plan.settings.rounds.placement == "dedicated":
        asyncio.run(settle(config, pools, training, models))
        return
    asyncio.run(settle(config, pools, models=models))
    asyncio.run(settle(config, (), training, models))


def show_rounds(directory: Path, as_json: bool) -> None:
    """Say how far a run of rounds is, without disturbing its driver."""
    from engine.commands.dev_exam import stored_resolution
    from training.round_log import FILE, RoundLog, read_steps

    path = directory / FILE
    _show(RoundLog(path, read_steps(path)[0]), directory, as_json, stored_resolution(directory))


def create(
    directory: Path, plan: "RoundsPlan", dev: "DevExam | None" = None, more: dict[str, bytes] | None = None
) -> None:
    """Make the directory of a run of rounds, with its exam's items and more files. Raises InputError when something is
    there.
    """
    from engine.errors import InputError
    from engine.files import write_atomic

    try:
        if directory.exists() and any(directory.iterdir()):
            advice = f"`sandplay resume {directory}` goes on with it, or choose another --out"
            raise InputError(f"rounds need a new directory, got {directory} with files in it: {advice}")
        (directory / "inputs").mkdir(parents=True, exist_ok=True)
        for path in (directory, directory / "inputs"):
            path.chmod(0o700)
        for name, data in {**plan.files(), **(dev.files() if dev is not None else {}), **(more or {})}.items():
            write_atomic(directory / name, data)
    except OSError as error:
        raise InputError(f"a run of rounds needs a writable directory, got {error}: choose another --out") from error


def _go(plan: "RoundsPlan", directory: Path, paths: dict[str, Path], as_json: bool) -> NoReturn:
    """Play what is left to play, and say what came of it."""
    import uvloop

    from engine.rundir import RunDirectory
    from training.round_log import FILE, RoundLog

    resolution = _say_exam(plan, directory)
    with RunDirectory(directory).lock():
        _note_egress(plan, directory)
        log = RoundLog.open(directory / FILE)
        try:
            interrupted = uvloop.run(_play(plan, directory, paths, log))
        except BaseException:
            _say_resume(directory)
            raise
        _write_page(log, directory, str(plan.run["name"]), resolution)
    if interrupted is not None:
        _say_resume(directory)
        sys.exit(interrupted)
    _show(log, directory, as_json, resolution)
    sys.exit(0)


def _note_egress(plan: "RoundsPlan", directory: Path) -> None:
    """Note where the texts of all rounds go, those that are trained on among them."""
    import time

    from engine.egress import outlets
    from engine.egress_log import note_egress

    first = plan.round(directory, 0)
    found = [*outlets(first.config, first.spec), *rounds_outlets(plan, first)]
    note_egress(directory, first.config.privacy.egress, found, time.time())


def _say_exam(plan: "RoundsPlan", directory: Path) -> "Resolution | None":
    """Say what an exam of items can show, and what might spoil it. Raises ConfigError for a rule it cannot decide."""
    from engine.commands.dev_exam import case_warning, kept_exam, resolution_of
    from engine.tables import say

    dev = kept_exam(plan.settings.exam, directory)
    if dev is None:
        return None
    resolution = resolution_of(plan.settings, dev)
    say(resolution.sentence)
    if warning := case_warning(plan, dev):
        say(warning)
    return resolution


async def _play(plan: "RoundsPlan", directory: Path, paths: dict[str, Path], log: "RoundLog") -> int | None:
    """Play all rounds; return the exit code of an interrupt, None when there was none."""
    import asyncio

    from engine.commands.stages import LocalStages
    from engine.interrupt import COPY_GRACE_S, GRACE_S, Interrupt
    from engine.panel import make_panel
    from training.rounds import Rounds

    panel = make_panel(False)
    stages = LocalStages(plan, directory, paths, panel)
    task: asyncio.Future[Any] = asyncio.ensure_future(
        Rounds(log, stages, plan.settings.rounds, panel.say).run(), loop=asyncio.get_running_loop()
    )
    grace_s = COPY_GRACE_S if plan.round(directory, 0).config.journal.local_dir else GRACE_S
    with Interrupt(lambda: stages.stop(task), stages.abort, grace_s) as interrupt:
        try:
            await task
        except (asyncio.CancelledError, Exception):
            if interrupt.code is None:
                raise
        finally:
            await stages.close()
        return interrupt.code


def _write_page(log: "RoundLog", directory: Path, name: str, resolution: "Resolution | None") -> None:
    from engine.files import write_atomic
    from training.rounds_page import page

    notes = [resolution.sentence] if resolution is not None else []
    write_atomic(directory / "rounds.html", page(log, name, notes).encode())


def _show(log: "RoundLog", directory: Path, as_json: bool, resolution: "Resolution | None") -> None:
    from engine.tables import make_table, plain, print_view, write
    from training.rounds_page import HEADS, rows_of

    if as_json:
        print(json.dumps(_summary(log, directory, resolution)), flush=True)
        return
    table = make_table(HEADS, title="Rounds")
    for row in rows_of(log):
        table.add_row(*map(plain, row))
    print_view(table)
    current = log.serves
    write(f"current: {directory / 'checkpoints' / current if current else 'the base model'}")
    if resolution is not None:
        write(resolution.sentence)
    write(f"page: {directory / 'rounds.html'}")
    write(f"read a round's episodes: sandplay show {directory / 'round-0'}")


def _summary(log: "RoundLog", directory: Path, resolution: "Resolution | None") -> dict[str, Any]:
    import msgspec

    return {
        "directory": str(directory),
        "current": log.serves,
        "exam": msgspec.to_builtins(resolution) if resolution is not None else None,
        "steps": msgspec.to_builtins(log.steps),
    }


def _say_resume(directory: Path) -> None:
    from engine.tables import say

    say(f"stopped; go on with: sandplay resume {directory}")
