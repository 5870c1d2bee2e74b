"""The `sandplay` command: the only place that composes the layers; it imports inside functions to answer at once.

Results go to stdout, everything said on the way to stderr. Exit codes: 0 every case has a terminal record, 1 the run
could not go on, 2 bad usage or input, 130 and 143 interrupted.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from engine.commands.rounds import rounds
from engine.commands.swap import swap
from engine.commands.train import train
from engine.simulation.command import simulate
from training.command import samples

if TYPE_CHECKING:
    from engine.planning import Plan
    from engine.run import Result
    from engine.rundir import RunDirectory

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
RunDir = Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")]


app.command()(simulate)
app.command()(samples)
app.command()(rounds)
app.command()(train)
app.command()(swap)


def main() -> None:
    """Run the command line; errors raised on purpose become one message and an exit code."""
    from engine.errors import InputError, SandplayError
    from engine.interrupt import exit_on_signals

    exit_on_signals()
    try:
        app()
    except InputError as refused:
        _fail("\n".join(refused.problems), 2)
    except SandplayError as stopped:
        _fail(str(stopped), 1)


def _fail(message: str, code: int) -> NoReturn:
    from engine.transcript import printable

    for line in message.splitlines():
        print(f"sandplay: {printable(line, markup=False)}", file=sys.stderr)
    sys.exit(code)


@app.command()
def generate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to play.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run directory to make (default: runs/NAME-TIME).")] = None,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be asked.")] = False,
) -> None:
    """Generate a corpus of episodes into a new run directory."""
    import uvloop

    from engine import config as configuration
    from engine.commands.preparing import default_directory, forecast_plan, prepare_models
    from engine.planning import make_plan

    table = configuration.apply_overrides(configuration.read_table(config), overrides or [])
    plan = make_plan(table, config.parent.absolute())
    paths = prepare_models(plan)
    figures = forecast_plan(plan, paths)
    if dry_run:
        _print_forecast(plan, figures, as_json)
        return
    uvloop.run(_generate(plan, paths, out or default_directory(plan.config.name), as_json))


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
    from engine.planning import thaw
    from engine.rundir import RunDirectory

    if is_rounds(directory):
        resume_rounds(directory, overrides or [], as_json)
    rundir = RunDirectory.open(directory)
    with rundir.lock():
        plan = thaw(rundir, overrides or [])
        uvloop.run(_resume(plan, rundir, as_json, retry_failed))


@app.command()
def status(directory: RunDir, as_json: Json = False) -> None:
    """Say how far a run is."""
    from engine.commands.rounds import is_rounds, show_rounds
    from engine.rundir import RunDirectory
    from engine.status import read_status, status_lines

    if is_rounds(directory):
        show_rounds(directory, as_json)
        return
    figures = read_status(RunDirectory.open(directory))
    if as_json:
        print(json.dumps(figures))
    else:
        print("\n".join(status_lines(figures)))


@app.command()
def show(
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="A run directory.")] = None,
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
    directory: RunDir,
    kind: Annotated[str, typer.Option("--format", help="records | messages | prompt-completion | sharegpt")],
    to: Annotated[Path, typer.Option(help="Where to write: a directory, or a file ending in .jsonl.")],
    as_json: Json = False,
) -> None:
    """Export a corpus as training data, with a card."""
    import msgspec

    from engine.export import export_run
    from engine.rundir import RunDirectory

    summary = export_run(RunDirectory.open(directory), kind, to)
    if as_json:
        print(msgspec.json.encode(summary).decode())
    else:
        print(f"{summary.rows} rows of {summary.episodes} episodes in {to}")


@app.command()
def calibrate(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.toml]", help="Take its [embedder].")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Fit the similarity cut to the embedder and print both distributions and the error rates."""
    import uvloop

    from engine import config as configuration

    table = configuration.read_table(config) if config else {}
    table = configuration.apply_overrides(table, overrides or [])
    uvloop.run(_calibrate(table, as_json))


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


def _print_forecast(plan: "Plan", figures: Any, as_json: bool) -> None:
    import msgspec
    import tomli_w

    if as_json:
        print(json.dumps({"config": plan.table, "forecast": msgspec.to_builtins(figures)}))
        return
    print(tomli_w.dumps(plan.table))
    print(f"# {figures.episodes} episodes; retries and re-asks come on top")
    for name in ("least", "most"):
        course = getattr(figures, name)
        print(
            f"# {name}: {course.calls} calls, {course.prompt_tokens} prompt + {course.completion_tokens} completion"
            f" tokens per episode; {course.calls * figures.episodes} calls in all"
        )
    print(f"# longest possible context: {figures.most.max_context} tokens")


async def _generate(plan: "Plan", paths: dict[str, Path], out: Path, as_json: bool) -> None:
    import shutil

    from engine.planning import freeze
    from engine.rundir import RunDirectory

    crew = _crew(plan, paths)
    await crew.check()
    rundir = RunDirectory.create(out, freeze(plan))
    with rundir.lock():
        try:
            result = await _play(plan, rundir, crew, paths, [])
        except BaseException:
            if await _has_started(rundir, plan.config.shards):
                _say_resume(rundir)
            else:
                shutil.rmtree(rundir.path, ignore_errors=True)
            raise
    _finish(plan, rundir, result, as_json)


async def _resume(plan: "Plan", rundir: "RunDirectory", as_json: bool, retry_failed: bool) -> None:
    from actors.processes import ProcessTable
    from engine.commands.preparing import forecast_plan, prepare_models
    from engine.journal import Journal
    from engine.run import retry_keys
    from engine.serving import read_serving

    for table in rundir.process_tables():
        ProcessTable(table).end_left_overs()
    ended: dict[Any, Any] = {}
    num_live = 0
    for index in range(plan.config.shards):
        journal = Journal.open(rundir, index=index)
        ended |= journal.ended()
        num_live += len(journal.live())
        await journal.close()
    extra = retry_keys(ended) if retry_failed else []
    is_finished = not num_live and not extra and all(key in ended for key in plan.keys())
    paths = {} if is_finished else prepare_models(plan)
    crew = _crew(plan, paths, {} if is_finished else read_serving(rundir))
    if not is_finished:
        forecast_plan(plan, paths)
        await crew.check()
    try:
        result = await _play(plan, rundir, crew, paths, extra)
    except BaseException:
        _say_resume(rundir)
        raise
    _finish(plan, rundir, result, as_json)


async def _play(plan: "Plan", rundir: "RunDirectory", crew: Any, paths: dict[str, Path], extra: list[Any]) -> "Result":
    """Play the plan's episodes and `extra` tries, here or on shards."""
    from engine.panel import make_panel
    from engine.run import play

    panel = make_panel(sys.stderr.isatty())
    if plan.config.shards > 1:
        from actors.shards import play_shards

        await crew.close()
        return await play_shards(plan, rundir, paths, panel, extra)
    crew.attach(rundir, panel.say)
    return await play(plan, rundir, crew, panel, [*plan.keys(), *extra])


async def _has_started(rundir: "RunDirectory", num_journals: int) -> bool:
    """Whether any episode was ever admitted; when that cannot be told, nothing is thrown away."""
    from engine.errors import JournalError
    from engine.journal import Journal

    for index in range(num_journals):
        try:
            journal = Journal.open(rundir, index=index)
            await journal.close()
        except JournalError:
            return True
        if journal.live() or journal.ended():
            return True
    return False


def _finish(plan: "Plan", rundir: "RunDirectory", result: "Result", as_json: bool) -> NoReturn:
    """Print what happened and exit with the run's code."""
    from engine.corpus import Corpus
    from engine.endscreen import print_endscreen
    from engine.summary import findings, summarize

    corpus = Corpus.open(rundir)
    outcomes = (json.loads(record.outcome) for record in corpus if record.outcome)
    found = findings(plan.spec, outcomes)
    summary = summarize(result, found, str(rundir.path))
    if as_json:
        print(json.dumps(summary), flush=True)
    elif result.interrupted is None:
        print_endscreen(plan, rundir, summary)
    if result.interrupted is not None or result.num_unplayed:
        _say_resume(rundir)
    sys.exit(result.interrupted or (1 if result.num_unplayed else 0))


def _say_resume(rundir: "RunDirectory") -> None:
    print(f"interrupted; go on with: sandplay resume {rundir.path}", file=sys.stderr)


def _crew(plan: "Plan", paths: dict[str, Path], serving: dict[str, Path] | None = None) -> Any:
    from actors.crew import LocalCrew

    return LocalCrew(plan.config, paths, needs_embedder=plan.needs_embedder, serving=serving)


async def _calibrate(table: dict[str, Any], as_json: bool) -> None:
    from actors.crew import open_embedder
    from engine.config import EmbedderConfig
    from engine.config_decode import decode
    from engine.errors import ConfigError
    from engine.protocols.mental_arena.calibration import calibrate as fit
    from engine.protocols.mental_arena.calibration import calibration_lines

    chosen, problems = decode(EmbedderConfig, table.get("embedder", {}), "embedder.")
    if chosen is None:
        raise ConfigError(problems)
    async with open_embedder(chosen) as embedder:
        figures = await fit(embedder)
    import msgspec

    print(msgspec.json.encode(figures).decode() if as_json else "\n".join(calibration_lines(figures)))
