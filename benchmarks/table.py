"""The one rendered table: figures against goals, misses included, with what limits them.

    python -m benchmarks.table [README.md]

rewrites the part of README.md between `<!-- bench -->` and `<!-- /bench -->` from the newest figures of every row over
all records. The part names the records it was rendered from, so that anyone (and a test) can render it again. Knows no
row: order and grouping are the record's.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Record
from benchmarks.results import ROOT, load_record, newest_rows, records, results_directory
from benchmarks.rows import ROWS
from engine.errors import InputError
from engine.transcript import printable

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
RESULTS = "benchmarks/results"
_PART = re.compile(re.escape(BEGIN) + r"\n(.*?)" + re.escape(END), re.DOTALL)
_SOURCE = re.compile(re.escape(RESULTS) + r"/([0-9a-z-]+\.json)")

Rows = Mapping[str, Sequence[Figure]]


def number(value: float) -> str:
    """Return a number at the precision that a reader can use: three significant digits, thousands set apart."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{float(f'{value:.4g}'):,.0f}"
    return f"{value:.3g}"


def spread(figure: Figure) -> str:
    """Return median (min-max)."""
    if figure.min == figure.max:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.min)}-{number(figure.max)})"


def goal(figure: Figure) -> str:
    """Return the goal with its side, "" without one."""
    if figure.goal is None:
        return ""
    return f"at {'most' if figure.is_at_most else 'least'} {number(figure.goal)}"


def verdict(figure: Figure) -> str:
    """Return whether the goal is reached; a miss says what limits it."""
    if figure.is_reached is None:
        return ""
    if figure.is_reached:
        return "reached"
    return f"MISSED: {figure.note or 'not yet explained'}"


def cells(figure: Figure) -> tuple[str, str, str, str, str]:
    """Return figure, median with its spread, unit, goal and verdict."""
    return figure.name, spread(figure), figure.unit, goal(figure), verdict(figure)


def ordered(rows: Rows) -> Iterable[tuple[str, Sequence[Figure]]]:
    """Return rows in the registry's order, unknown ones last."""
    places = {name: place for place, name in enumerate(ROWS)}
    return sorted(rows.items(), key=lambda item: places.get(item[0], len(places)))


def markdown(rows: Rows) -> str:
    """Return the table as Markdown."""
    lines = ["| row | figure | median (min-max) | unit | goal | |", "|---|---|---|---|---|---|"]
    for name, figures in ordered(rows):
        lines += [f"| {' | '.join(map(_plain, (name, *cells(figure))))} |" for figure in figures]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def describe(machine: Mapping[str, Any]) -> str:
    """Return machine and versions in a line."""
    skipped = {"code", "repeats", "brief", "processor", "cores"}
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in skipped)
    return f"{machine.get('processor', 'unknown processor')}, {machine.get('cores', '?')} cores; {versions}"


def render_part(found: Sequence[tuple[Path, Record]]) -> str:
    """Return what stands between the markers: the newest figures of each row over these records (newest first)."""
    newest = newest_rows(found)
    used = {path for path, _ in newest.values()}
    sources = [(path, record) for path, record in found if path in used]
    lines = [
        f"Measured on {_plain(describe(record.machine))}, {record.date} ([record]({RESULTS}/{path.name}))."
        for path, record in sources
    ]
    return "\n".join([*lines, "", markdown({name: figures for name, (_, figures) in newest.items()})])


def render_again(text: str, directory: Path) -> str:
    """Return the part as its own records render it. Raises InputError when one is gone or the markers are missing."""
    names = dict.fromkeys(_SOURCE.findall(part_of(text)))
    return render_part([(directory / name, load_record(directory / name)) for name in sorted(names, reverse=True)])


def part_of(text: str) -> str:
    """Return what stands between the markers. Raises InputError without them."""
    found = _PART.search(text)
    if found is None:
        raise InputError(f"the text must hold {BEGIN} and {END}, each on a line of its own: add them")
    return found[1]


def rewrite(path: Path, directory: Path) -> None:
    """Rewrite the part of a file from the newest records. Raises InputError without markers or records."""
    text = path.read_text("utf-8")
    part_of(text)
    found = list(records(directory))
    if not newest_rows(found):
        raise InputError(f"{directory} must hold a record, got none: run sandplay bench all")
    part = f"{BEGIN}\n{render_part(found)}{END}"
    path.write_text(_PART.sub(lambda _: part, text), "utf-8")


def print_record(record: Record, names: Sequence[str]) -> None:
    """Print the named rows of a record on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table("row", "figure", "median (min-max)", "unit", "goal", "")
    for name, figures in ordered({name: record.rows[name] for name in names if name in record.rows}):
        for place, one in enumerate(figures):
            style = "red" if one.is_reached is False else None
            table.add_row(*map(printable, ("" if place else name, *cells(one))), style=style)
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def main() -> None:
    """Rewrite README's table."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "README.md"
    try:
        rewrite(path, results_directory())
    except InputError as refused:
        sys.exit("\n".join(refused.problems))


if __name__ == "__main__":
    main()
