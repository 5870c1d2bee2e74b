"""`sandplay compare`: runs of one kind side by side, with what can and cannot be told from them."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeVar

import typer

from engine.run_places import run_to_read

if TYPE_CHECKING:
    from engine.protocol import Section
    from eval.comparison import Comparison, ExamResult
    from eval.dialogues.runs import DialogueRun

    Named = TypeVar("Named", ExamResult, DialogueRun)


class Wish(NamedTuple):
    """How a comparison is to be shown."""

    paper: bool
    plot: Path | None
    as_json: bool


def compare(
    directories: Annotated[
        list[Path], typer.Argument(metavar="A B [C...]", help="Runs of one kind, the oldest first.", parser=run_to_read)
    ],
    paper: Annotated[
        bool, typer.Option("--paper", help="Exams: also show the published results beside these.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Exams, dialogues: plot accuracy, or disclosure, here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Compare exams, dialogues or judgings of two models or several rounds: paired differences, corrected p."""
    from engine.errors import InputError

    if len(directories) < 2:
        raise InputError(f"runs to compare must be two or more, got {len(directories)}: name another one")
    _kind_of(directories)(directories, Wish(paper, plot, as_json))


def _kind_of(directories: Sequence[Path]) -> "Callable[[Sequence[Path], Wish], None]":
    """Return what compares these runs. Raises InputError when they are of several kinds, or of none that is known."""
    from engine.errors import InputError

    names = [_protocol_name(directory) for directory in directories]
    found = {KINDS.get(name) for name in names}
    kind = found.pop()
    if found or kind is None:
        kinds = "; ".join(
            ", ".join(name for name, other in KINDS.items() if other is one) for one in dict.fromkeys(KINDS.values())
        )
        shown = ", ".join(f"{directory} ({name})" for directory, name in zip(directories, names, strict=True))
        raise InputError(f"runs to compare must be of one kind ({kinds}), got {shown}: name runs of one kind")
    return kind


def _protocol_name(directory: Path) -> str:
    from engine.config import read_table
    from engine.rundir import RunDirectory

    return str(dict(read_table(RunDirectory.open(directory).config).get("protocol", {})).get("name", ""))


def _exams(directories: Sequence[Path], wish: Wish) -> None:
    import msgspec

    from engine.pictures import write_svg
    from engine.tables import write_json
    from eval.comparison import over_rounds
    from eval.course_plot import course_picture
    from eval.exam.results import read_result

    results = _named_apart([read_result(directory) for directory in directories], directories)
    course = over_rounds(results)
    if wish.plot is not None:
        write_svg(wish.plot, course_picture(course))
    if wish.as_json:
        write_json(msgspec.json.encode(course))
        return
    pairs = course.against_first if len(results) == 2 else (*course.against_first, *course.against_before[1:])
    sections = [section for one in pairs for section in (_section(one), *_further(one))]
    show_sections([*sections, *(_paper(results) if wish.paper else [])])


def _dialogues(directories: Sequence[Path], wish: Wish) -> None:
    import json

    from engine.errors import InputError
    from engine.pictures import write_svg
    from eval.dialogues.comparison import compare_runs
    from eval.dialogues.report import curve_picture, report_of
    from eval.dialogues.runs import read_run
    from training.labels import canonical_label

    if wish.paper:
        raise InputError("--paper must be given with exams, got dialogues: leave it out")
    runs = _named_apart([read_run(directory, canonical_label) for directory in directories], directories)
    found = compare_runs(runs)
    if wish.plot is not None:
        write_svg(wish.plot, curve_picture(found.runs))
    report = report_of(found)
    if wish.as_json:
        sys.stdout.write(json.dumps(report.figures) + "\n")
        return
    show_sections(report.sections)


def _judgings(directories: Sequence[Path], wish: Wish) -> None:
    import json

    from engine.errors import InputError
    from engine.rundir import RunDirectory
    from eval.judging.comparison import compare_judgings

    if wish.paper or wish.plot is not None:
        raise InputError("--paper must be given with exams, --plot with exams or dialogues, got judgings: leave it out")
    names = [directory.name for directory in directories]
    apart = names if len({*names}) == len(names) else list(map(str, directories))
    report = compare_judgings([RunDirectory.open(directory) for directory in directories], apart)
    if wish.as_json:
        sys.stdout.write(json.dumps(report.figures) + "\n")
        return
    show_sections(report.sections)


KINDS: "Final[dict[str, Callable[[Sequence[Path], Wish], None]]]" = {
    "items": _exams,
    "judging": _judgings,
    "mental_arena": _dialogues,
    "counseling": _dialogues,
}
"""What compares runs of a protocol, by its name."""


def show_sections(sections: "Sequence[Section]") -> None:
    """Print tables on standard output."""
    from rich.console import Group

    from engine.show import section_view
    from engine.tables import print_view, spaced

    print_view(Group(*spaced([section_view(one) for one in sections])))


def _named_apart(results: "list[Named]", directories: Sequence[Path]) -> "list[Named]":
    """Return the results under names that differ: those of their directories, or their whole paths."""
    import msgspec

    if len({one.name for one in results}) == len(results):
        return results
    return [
        msgspec.structs.replace(one, name=str(directory)) for one, directory in zip(results, directories, strict=True)
    ]


def _section(one: "Comparison") -> "Section":
    from engine.protocol import Section
    from eval.comparison import HEADS, table_rows

    left_out = f"Only one of them took: {', '.join(one.left_out)}." if one.left_out else ""
    return Section(title=f"{one.first} against {one.second}", columns=HEADS, rows=tuple(table_rows(one)), note=left_out)


def _further(one: "Comparison") -> "list[Section]":
    """Return the further scores of the tasks side by side, as shares of 1; nothing is tested on them."""
    from engine.protocol import Section

    rows = tuple(
        (task.task, name, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}")
        for task in one.tasks
        for name, (before, after) in task.scores.items()
    )
    title = f"Further scores of {one.first} and {one.second}, not tested"
    heads = ("task", "score", "first", "second", "difference")
    return [Section(title=title, columns=heads, rows=rows)] if rows else []


def _paper(results: "list[ExamResult]") -> "list[Section]":
    from engine.protocol import Section
    from eval.paper import BELOW, MEANINGS, SYMBOLS, TASKS, beside, text_rows

    meanings = "; ".join(f"{SYMBOLS[mark]} {text}" for mark, text in MEANINGS.items() if SYMBOLS[mark].strip())
    note = f"{BELOW} does not beat the most frequent answer; {meanings}"
    heads = ("model", *TASKS, "average")
    rows = tuple(text_rows(beside(results)))
    return [Section(title="Beside the published results", columns=heads, rows=rows, note=note)]
