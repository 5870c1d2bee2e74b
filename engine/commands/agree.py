"""`sandplay agree`: how far judges agree with each other and with people."""

from pathlib import Path
from typing import Annotated

import typer

from engine.run_places import run_to_read


def agree(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE_OR_JUDGING...", help="Judgings, and .csv files of people's ratings.", parser=run_to_read
        ),
    ],
    dimension: Annotated[str, typer.Option(metavar="NAME", help="Only this dimension (default: all).")] = "",
    votes: Annotated[bool, typer.Option("--votes", help="The single votes inside a judging are the raters.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Measure agreement: of judges, of people, and of each judge with the people's consensus."""
    import msgspec
    from rich.console import Group

    from engine.rundir import RunDirectory
    from engine.show import section_view
    from engine.tables import print_view, spaced, write_json
    from eval.judging.agreement import report

    files = [path for path in sources if path.suffix.lower() == ".csv"]
    directories = [path for path in sources if path not in files]
    names = [path.absolute().name for path in directories]
    if len(set(names)) < len(names):
        names = [str(path) for path in directories]
    rundirs = [RunDirectory.open(path) for path in directories]
    found = report(rundirs, names, files, dimension=dimension, by_vote=votes)
    if as_json:
        write_json(msgspec.json.encode(found.figures))
        return
    print_view(Group(*spaced([section_view(section) for section in found.sections])))
