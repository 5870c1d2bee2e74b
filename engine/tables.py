"""How text and tables reach people: hostile text made harmless, one look for tables, one way to print.

Text goes to rich only as cleaned `Text`, never as markup, and lines are cleaned as they are written. rich is imported
late. Knows nothing of episodes.
"""

import io
import json
import re
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from engine.api_keys import hide
from engine.transcript import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

PAGE_WIDTH: Final = 120
MISSING: Final = "-"

_BEYOND_ASCII: Final = re.compile(r"[^\n -~]+")


def plain(text: str, style: str = "") -> "Text":
    """Return hostile text as a rich Text."""
    from rich.text import Text

    return Text(clean(text), style=style)


def make_table(heads: Sequence[str], *, title: str = "", numbers: Collection[str] = (), lines: bool = False) -> "Table":
    """Return an empty table in the project's look; columns in `numbers` are right-aligned."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        title=plain(title, "bold") if title else None,
        title_justify="left",
        show_lines=lines,
        pad_edge=False,
    )
    for head in heads:
        table.add_column(plain(head, "bold"), justify="right" if head in numbers else "left", overflow="fold")
    return table


def spaced(blocks: "Sequence[RenderableType]") -> "list[RenderableType]":
    """Return the blocks with an empty line between them."""
    parts: list[RenderableType] = []
    for block in blocks:
        parts += [block, ""]
    return parts[:-1]


def percent(part: float, whole: float) -> str:
    """Return a share as text, or a dash when there is no whole."""
    return f"{100 * part / whole:.0f} %" if whole else MISSING


def in_percent(share: float) -> str:
    """Return a share of 1 in percent, with one decimal and without the sign."""
    return f"{100 * share:.1f}"


def make_console() -> "Console":
    """Return the console on standard output; off a terminal it is as wide as a wide page."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    width = None if sys.stdout.isatty() else PAGE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def print_view(what: "RenderableType") -> None:
    """Print on standard output; off a terminal without colors and trailing blanks."""
    console = make_console()
    if sys.stdout.isatty():
        console.print(what)
    else:
        write(rendered(what, console.width))


def write(text: str) -> None:
    """Write lines to standard output, cleaned."""
    sys.stdout.write(f"{clean(text)}\n")


def write_json(data: bytes) -> None:
    """Write a JSON value to standard output, in ASCII: the same to its readers, and nothing that moves a terminal."""
    sys.stdout.write(f"{_BEYOND_ASCII.sub(_spelled, data.decode())}\n")


def _spelled(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1].replace("\x7f", "\\u007f")


def say(text: str) -> None:
    """Write lines to standard error, cleaned and without keys."""
    sys.stderr.write(f"{clean(hide(text))}\n")
    sys.stderr.flush()


def rendered(what: "RenderableType", width: int) -> str:
    """Return a renderable as plain text without colors or trailing blanks."""
    from rich.console import Console

    file = io.StringIO()
    # Not a terminal whatever the environment says (FORCE_COLOR): no style may leak into the text.
    console = Console(file=file, width=width, force_terminal=False, color_system=None, markup=False, emoji=False)
    console.print(what)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
