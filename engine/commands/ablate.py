"""`sandplay ablate`: the same cases under variants of MentalArena, at equal turns, and what each part does."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.commands.ablating import Ablation


def ablate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to play; its protocol is mental_arena.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings that replace the file's.")
    ] = None,
    arms: Annotated[
        str, typer.Option(help="full,no_cognition,no_behaviour,no_decoder,undelivered (default: all; full is a must).")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Directory to make or go on with (default: runs/NAME-TIME).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Play the same cases and seeds with one part taken away, each arm a run of its own; compare each with `full`."""
    import uvloop

    from engine import config as configuration
    from engine.commands.ablating import Ablation, clear_place, make_place, plan_arms
    from engine.commands.datasets import bring_datasets
    from engine.commands.preparing import default_directory
    from engine.rundir import RunDirectory

    table = configuration.apply_overrides(configuration.read_table(config), overrides or [])
    names = [name.strip() for name in arms.split(",") if name.strip()]
    plans = plan_arms(table, config.parent.absolute(), names, bring_datasets(table))
    directory = (out or default_directory(f"{plans['full'].config.name}-ablation")).absolute()
    make_place(directory)
    with RunDirectory(directory).lock():
        ablation = Ablation(plans, directory)
        try:
            code = uvloop.run(ablation.play())
        except BaseException:
            clear_place(directory)
            _say_again(config, overrides or [], arms, directory)
            raise
        if not code:
            _show(ablation, as_json)
    if code:
        _say_again(config, overrides or [], arms, directory)
        sys.exit(code)


def _say_again(config: Path, overrides: list[str], arms: str, directory: Path) -> None:
    """Say how to go on, if anything was begun."""
    if directory.exists():
        words = [str(config), *overrides, *(["--arms", arms] if arms else []), "--out", str(directory)]
        print(f"stopped; go on with: sandplay ablate {shlex.join(words)}", file=sys.stderr)


def _show(ablation: "Ablation", as_json: bool) -> None:
    """Compare the arms; write the report and, where it can be drawn, the picture; print what came of it."""
    from engine.commands.ablating import PICTURE, REPORT
    from engine.commands.compare import show_sections
    from engine.errors import InputError
    from engine.files import write_atomic
    from engine.pictures import write_svg
    from engine.tables import write
    from eval.dialogues.comparison import compare_runs
    from eval.dialogues.report import curve_picture, report_of
    from eval.dialogues.runs import read_run
    from training.labels import canonical_label

    found = compare_runs([read_run(place, canonical_label) for place in ablation.places.values()])
    report = report_of(found, ablation.notes)
    figures = {**ablation.figures, **report.figures}
    write_atomic(ablation.directory / REPORT, json.dumps(figures, indent=2).encode())
    try:
        write_svg(ablation.directory / PICTURE, curve_picture(found.runs))
    except InputError as missing:
        print(f"{PICTURE} is not written: {missing}", file=sys.stderr)
    if as_json:
        print(json.dumps(figures), flush=True)
        return
    show_sections(report.sections)
    for name, place in {"report": ablation.directory / REPORT, **ablation.places}.items():
        write(f"{name}: {place}")
