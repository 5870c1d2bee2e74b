"""`sandplay compare`: exams side by side, with what can and cannot be told from them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.protocol import Section
    from eval.comparison import Comparison, ExamResult


def compare(
    directories: Annotated[list[Path], typer.Argument(metavar="A B [C...]", help="Exams, the oldest first.")],
    paper: Annotated[bool, typer.Option("--paper", help="Also show the published results beside these.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Compare exams of two models or several rounds: paired differences, intervals, corrected p."""
    import msgspec
    from rich.console import Group

    from engine.errors import InputError
    from engine.show import section_view
    from engine.tables import print_view, spaced
    from eval.comparison import over_rounds
    from eval.exam.results import read_result

    if len(directories) < 2:
        raise InputError(f"exams to compare must be two or more, got {len(directories)}: name another one")
    results = _named_apart([read_result(directory) for directory in directories], directories)
    course = over_rounds(results)
    if as_json:
        sys.stdout.write(msgspec.json.encode(course).decode() + "\n")
        return
    pairs = course.against_first if len(results) == 2 else (*course.against_first, *course.against_before[1:])
    sections = [section for one in pairs for section in (_section(one), *_further(one))]
    print_view(Group(*spaced([section_view(one) for one in [*sections, *(_paper(results) if paper else [])]])))


def _named_apart(results: "list[ExamResult]", directories: list[Path]) -> "list[ExamResult]":
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
