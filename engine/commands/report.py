"""`sandplay report`: the page of a run, written again; and the page that every run leaves at its end."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.run_places import READ, run_to_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config_sections import LimitsConfig
    from engine.limits import Spent
    from engine.protocol import ProtocolSpec, Section
    from engine.rundir import RunDirectory


def report(
    directory: Annotated[str, typer.Argument(metavar="DIR|URI", help=READ)],
    episodes: Annotated[int, typer.Option(min=0, help="Read at most that many episodes whole; 0: all.")] = 2000,
    to: Annotated[Path | None, typer.Option(help="Where to write (default: into the run; a URI needs it).")] = None,
) -> None:
    """Write report.html into a run, also one that is unfinished or being played."""
    from engine.commands.rounds import is_rounds
    from engine.errors import InputError
    from engine.report.writing import write_report
    from engine.rundir import RunDirectory
    from engine.show import protocol_of
    from engine.tables import write
    from engine.targets import is_uri

    if is_uri(directory) and to is None:
        raise InputError("the page of a run at a target needs a place, got none: add --to report.html")
    place = run_to_read(directory)
    if is_rounds(place):
        raise InputError(
            f"must be one run, got the rounds of {directory}: name a run in it, such as {directory}/round-0"
        )
    rundir = RunDirectory.open(place)
    spec = protocol_of(rundir)
    try:
        write(str(write_report(rundir, spec, size=episodes, sections=_result(rundir, spec), to=to)))
    except OSError as error:
        where = rundir.path if to is None else to
        raise InputError(f"report.html must be writable, got {error}: check the owner of {where}") from error


def _result(rundir: "RunDirectory", spec: "ProtocolSpec") -> "Sequence[Section]":
    """Return what the protocol reports of a run that is finished and that nobody plays."""
    from engine.config import read_table
    from engine.corpus import Corpus
    from engine.report.writing import FINISHED, state_of
    from engine.status import num_episodes

    if spec.report is None:
        return ()
    state = state_of(rundir, len(Corpus.open(rundir)), num_episodes(rundir, read_table(rundir.config)))
    return spec.report(rundir).sections if state == FINISHED else ()


def leave_report(
    rundir: "RunDirectory",
    spec: "ProtocolSpec",
    *,
    state: str,
    size: int,
    sections: "Sequence[Section]" = (),
    limits: "LimitsConfig | None" = None,
    spent: "Spent | None" = None,
) -> None:
    """Write the page at the end of a run; what keeps it from being written is said, and never fails the run."""
    from engine.api_keys import hide
    from engine.report.writing import write_report
    from engine.transcript import one_line

    try:
        write_report(rundir, spec, state=state, size=size, sections=sections, limits=limits, spent=spent)
    except Exception as problem:  # noqa: BLE001 - hooks of a protocol are anybody's code, and the run itself is whole
        said = one_line(hide(f"{type(problem).__name__}: {problem}"), 300)
        print(f"report.html is not written: {said}", file=sys.stderr)
