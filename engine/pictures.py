"""Plots as inline SVG for pages without script. matplotlib is imported late.

The same figures give the same bytes, and text stays text, so that a page can be searched. Knows nothing of what is
drawn.
"""

import io
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.files import write_atomic


def canvas_of(height: float, width: float = 8.0) -> tuple[Any, Any]:
    """Return a matplotlib figure of that many inches, and its axes. Raises InputError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise InputError("plots need matplotlib, which is not installed: pip install matplotlib") from None
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "sandplay", "svg.fonttype": "none"})
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(width, height), layout="constrained")
    return canvas, canvas.add_subplot()


def plain_label(text: str) -> str:
    """Return a label that is drawn as it stands: dollar signs would begin mathematics."""
    return text.replace("$", "\\$")


def svg_of(canvas: Any) -> str:
    """Return the figure as an SVG element."""
    stream = io.StringIO()
    canvas.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def write_svg(path: Path, svg: str) -> None:
    """Write a picture. Raises InputError for a path that can be no SVG."""
    if path.suffix != ".svg" or not path.parent.is_dir():
        raise InputError(f"--plot must name an .svg file in an existing directory, got {path}: correct it")
    write_atomic(path, svg.encode())
