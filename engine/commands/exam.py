"""`sandplay exam`: put the items of published tests to a served model, and score them."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def exam(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Which tests, which model.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[task=NAME] [subject=NAME] [a.b=c]...", help="Settings that replace the file's."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Training rows or a run to look for the items in; may be given repeatedly."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory to make (default: runs/NAME-TIME).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Examine a model: items of published tests, many in flight, scored strictly and by the published rules."""
    from engine import config as configuration
    from engine.commands.preparing import default_directory
    from engine.commands.running import start
    from engine.transcript import printable
    from eval.exam.planning import plan_exam

    table = configuration.apply_overrides(configuration.read_table(config), overrides or [])
    plan = plan_exam(table, config.parent.absolute(), against or ())
    if plan.shared.exposure is not None:
        print(printable(plan.shared.exposure.sentence, markup=False), file=sys.stderr, flush=True)
    start(plan, out or default_directory(plan.config.name), as_json)
