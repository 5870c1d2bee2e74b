"""`sandplay judge`: any rubric and any pipeline on the dialogues of a stored run."""

from pathlib import Path
from typing import Annotated

import typer

from engine.run_places import READ, run_to_read


def judge(
    directory: Annotated[Path, typer.Argument(metavar="DIR|URI", help=READ, parser=run_to_read)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[a.b=c]...", help="Settings of the judging, e.g. protocol.num_judges=5."),
    ] = None,
    rubric: Annotated[
        str, typer.Option(help="counselling | faithfulness | safety | human_or_ai, or a file.")
    ] = "counselling",
    pipeline: Annotated[str, typer.Option(help="single | dual | debate | majority | panel")] = "single",
    config: Annotated[
        Path | None, typer.Option(metavar="CONFIG.toml", help="Models and roles of the judges (default: the run's).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory to make (default: runs/NAME-TIME).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Judge the dialogues of a stored run by a rubric; verdicts are constrained, and missing where none came."""
    from engine import config as configuration
    from engine.commands.preparing import default_directory
    from engine.commands.running import start
    from engine.rundir import RunDirectory
    from eval.judging.planning import judging_table, plan_judging

    rundir = RunDirectory.open(directory)
    own = configuration.read_table(config) if config is not None else {}
    table = configuration.apply_overrides(judging_table(rundir, own, rubric, pipeline), overrides or [])
    plan = plan_judging(rundir, table, (config.parent if config is not None else Path()).absolute())
    start(plan, out or default_directory(f"{plan.config.name}-{rubric}-{pipeline}"), as_json)
