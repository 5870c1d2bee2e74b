"""The `sandplay` command: the only place that composes the layers; it imports inside functions to answer at once.

Results go to stdout, everything said on the way to stderr. Exit codes: 0 every case has a terminal record, 1 the run
could not go on or reached a limit, 2 bad usage or input, 130 and 143 interrupted.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from engine.commands.ablate import ablate
from engine.commands.agree import agree
from engine.commands.compare import compare
from engine.commands.exam import exam
from engine.commands.fetch import fetch
from engine.commands.fetch_run import fetch_run
from engine.commands.judge import judge
from engine.commands.quality import quality
from engine.commands.report import report
from engine.commands.rounds import rounds
from engine.commands.scan import scan
from engine.commands.serve import serve
from engine.commands.swap import swap
from engine.commands.train import train
from engine.run_places import READ, run_to_read, run_to_write
from engine.simulation.command import simulate
from training.command import samples

app = typer.Typer(
    name="sandplay",
    help="Play patient against therapist on really served models, and keep the episodes as a corpus.",
    epilog="Research use, synthetic people; not for anyone in crisis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings that replace the file's.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
RunDir = Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.", parser=run_to_write)]
ReadRun = Annotated[Path, typer.Argument(metavar="DIR|URI", help=READ, parser=run_to_read)]


app.command()(simulate)
app.command()(samples)
app.command()(rounds)
app.command()(fetch)
app.command("fetch-run")(fetch_run)
app.command()(exam)
app.command()(judge)
app.command()(agree)
app.command()(compare)
app.command()(ablate)
app.command()(quality)
app.command()(scan)
app.command()(report)
app.command()(train)
app.command()(swap)
app.command()(serve)


def main() -> None:
    """Run the command line; errors raised on purpose become one message and an exit code."""
    from engine.signals import exit_on_signals, leave_stores

    exit_on_signals()
    try:
        _run()
    except SystemExit as left:
        leave_stores(left.code)
        raise


def _run() -> None:
    from engine.errors import InputError, SandplayError

    try:
        app()
    except InputError as refused:
        _fail("\n".join(refused.problems), 2)
    except SandplayError as stopped:
        _fail(str(stopped), 1)
    except Exception as bug:  # noqa: BLE001 - a traceback is printed as ever, but for the keys that a message may quote
        _crash(bug)


def _crash(bug: Exception) -> NoReturn:
    import traceback

    from engine.api_keys import hide, hide_known

    sys.stderr.write(hide_known(hide("".join(traceback.format_exception(bug)))))
    sys.exit(1)


def _fail(message: str, code: int) -> NoReturn:
    from engine.api_keys import hide, hide_known
    from engine.transcript import printable

    for line in hide_known(hide(message)).splitlines():
        print(f"sandplay: {printable(line, markup=False)}", file=sys.stderr)
    sys.exit(code)


@app.command()
def generate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to play.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run directory to make (default: runs/NAME-TIME).")] = None,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be asked, and its cost.")] = False,
    like: Annotated[
        Path | None, typer.Option(metavar="RUN", help="With --dry-run: expect what episodes of this run took.")
    ] = None,
) -> None:
    """Generate a corpus of episodes into a new run directory."""
    import uvloop

    from engine import config as configuration
    from engine.commands.datasets import bring_datasets
    from engine.commands.dry_run import print_forecast
    from engine.commands.placing import plan_placement
    from engine.commands.preparing import default_directory, forecast_plan, prepare_models
    from engine.commands.running import run_new
    from engine.planning import make_plan

    if like is not None and not dry_run:
        raise typer.BadParameter("--like says what to expect: add --dry-run")
    table = configuration.apply_overrides(configuration.read_table(config), overrides or [])
    datasets = bring_datasets(table, is_local_only=dry_run)
    plan = make_plan(table, config.parent.absolute(), datasets=datasets)
    paths = prepare_models(plan, is_dry=dry_run)
    figures = forecast_plan(plan, paths, is_dry=dry_run)
    if dry_run:
        placement = uvloop.run(plan_placement(plan.config, set(plan.config.roles.values())))
        print_forecast(plan, figures, placement, like, as_json)
        return
    uvloop.run(run_new(plan, paths, out or default_directory(plan.config.name), as_json))


@app.command()
def resume(
    directory: RunDir,
    overrides: Overrides = None,
    as_json: Json = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Play failed episodes again.")] = False,
) -> None:
    """Go on with an interrupted run; a finished one asks nothing."""
    import uvloop

    from engine.commands.rounds import is_rounds, resume_rounds
    from engine.commands.running import run_on
    from engine.planning import thaw
    from engine.rundir import RunDirectory

    if is_rounds(directory):
        resume_rounds(directory, overrides or [], as_json)
    rundir = RunDirectory.open(directory)
    with rundir.lock():
        plan = thaw(rundir, overrides or [])
        uvloop.run(run_on(plan, rundir, as_json, retry_failed))


@app.command()
def status(directory: ReadRun, as_json: Json = False) -> None:
    """Say how far a run is."""
    from engine.commands.rounds import is_rounds, show_rounds
    from engine.rundir import RunDirectory
    from engine.status import read_status, status_lines
    from engine.tables import write

    if is_rounds(directory):
        show_rounds(directory, as_json)
        return
    figures = read_status(RunDirectory.open(directory))
    if as_json:
        print(json.dumps(figures))
    else:
        write("\n".join(status_lines(figures)))


@app.command()
def show(
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR|URI]", help=READ, parser=run_to_read)] = None,
    episode: Annotated[str | None, typer.Argument(metavar="[EPISODE]", help="One episode's name.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Show a hand-written, scripted episode.")] = False,
    excerpt: Annotated[int, typer.Option(help="Print the first N turns as Markdown instead.")] = 0,
    as_json: Json = False,
) -> None:
    """Read episodes: patient and therapist side by side, decoder rounds, diagnoses, plans, calls."""
    from engine.show import show_command

    if directory is None and not example:
        raise typer.BadParameter("give a run directory, or --example")
    show_command(directory, episode, is_example=example, excerpt_turns=excerpt, as_json=as_json)


@app.command()
def export(
    directory: ReadRun,
    kind: Annotated[str, typer.Option("--format", help="records | messages | prompt-completion | sharegpt")],
    to: Annotated[Path, typer.Option(help="Where to write: a directory, or a file ending in .jsonl.")],
    as_json: Json = False,
) -> None:
    """Export a corpus as training data, with a card."""
    import msgspec

    from engine.export import export_run
    from engine.rundir import RunDirectory
    from engine.tables import write, write_json

    summary = export_run(RunDirectory.open(directory), kind, to)
    if as_json:
        write_json(msgspec.json.encode(summary))
    else:
        write(f"{summary.rows} rows of {summary.episodes} episodes in {to}")


@app.command()
def calibrate(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG.toml]", help="Take its \\[embedder], or \\[models].")
    ] = None,
    overrides: Overrides = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure how fast its local models are here instead, and keep it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fit the similarity cut to the embedder and print both distributions and the error rates."""
    import uvloop

    from engine import config as configuration
    from engine.commands.calibrating import fit_cut, measure_speeds

    if speed:
        if config is None:
            raise typer.BadParameter("--speed measures the models of a configuration: name one")
        measure_speeds(config, overrides or [], as_json)
        return
    table = configuration.read_table(config) if config else {}
    uvloop.run(fit_cut(configuration.apply_overrides(table, overrides or []), as_json))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: versions, memory, GPU, default model, what is missing and how to get it."""
    from engine.doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps([finding.as_dict() for finding in findings]))
    else:
        print("\n".join(finding.line for finding in findings))
    raise typer.Exit(0 if all(finding.is_fine for finding in findings) else 1)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(metavar="NAME|all", help="What to measure.")],
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the record here as well.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Repeats (default: each row's own number).")] = None,
    brief: Annotated[bool, typer.Option("--brief", help="Seconds instead of minutes; not for the table.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin a new record instead of going on with the last.")] = False,
    within: Annotated[float, typer.Option(help="Minutes that `all` may take; the rest waits for the next time.")] = 90,
) -> None:
    """Measure throughput row by row, and print figures against goals; goes on where it was stopped."""
    from benchmarks.command import run_bench

    code = run_bench(name, json_path=json_path, repeats=repeats, is_brief=brief, is_new=new, within_min=within)
    raise typer.Exit(code)
