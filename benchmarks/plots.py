"""One page of plots: figures against goals, throughput over replicas, efficiency. HTML without script, inline SVG.

    python -m benchmarks.plots OUT.html [RECORD.json]

Without a record the newest figures of every row are drawn. All text is escaped, in the page and in the pictures.
"""

import html
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure
from benchmarks.results import load_record, newest_rows, records, results_directory
from benchmarks.table import Rows, cells, ordered
from engine.pictures import canvas_of, plain_label, svg_of

REACHED, MISSED, SPREAD = "#2a7f62", "#b3402a", "#444444"
STYLE: Final = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;font-size:13px}td,th{border-bottom:1px solid #ddd;padding:.2rem .5rem;
text-align:left}tr.missed td{color:#b3402a}figure{margin:1rem 0}svg{max-width:100%;height:auto}"""


def share_of_goal(figure: Figure, value: float) -> float:
    """Return how far a value is on its way to the goal: 1 reaches it, whichever side the goal is on."""
    assert figure.goal is not None
    if figure.is_at_most:
        return figure.goal / max(value, figure.goal / 10) if figure.goal else 1.0
    return value / figure.goal


def page(rows: Rows, source: str) -> str:
    """Return the whole page. Raises InputError without matplotlib."""
    figures = [figure for _, found in ordered(rows) for figure in found]
    parts = [
        ("Figures against their goals", plot_goals(figures)),
        ("Throughput over replicas", plot_replicas(figures)),
        ("Efficiency against the bare replica", plot_efficiency(figures)),
    ]
    pictures = "".join(f"<h2>{html.escape(title)}</h2><figure>{svg}</figure>" for title, svg in parts if svg)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>Sandplay benchmarks</title>'
        f"<style>{STYLE}</style></head><body><h1>Sandplay benchmarks</h1><p>{html.escape(source)}</p>"
        f"{pictures}<h2>All figures</h2>{_table(rows)}</body></html>\n"
    )


def _table(rows: Rows) -> str:
    lines = ["<tr><th>row<th>figure<th>median (min-max)<th>unit<th>goal<th></tr>"]
    for name, found in ordered(rows):
        for figure in found:
            kind = ' class="missed"' if figure.is_reached is False else ""
            lines.append(f"<tr{kind}>{''.join(f'<td>{html.escape(text)}' for text in (name, *cells(figure)))}</tr>")
    return f"<table>{''.join(lines)}</table>"


def plot_goals(figures: Sequence[Figure]) -> str:
    """Return a bar per figure with a goal, as a share of it; "" when there is none."""
    aimed = [figure for figure in figures if figure.goal]
    if not aimed:
        return ""
    canvas, axes = canvas_of(0.26 * len(aimed) + 1.0)
    for place, figure in enumerate(reversed(aimed)):
        value = share_of_goal(figure, figure.median)
        ends = sorted(share_of_goal(figure, one) for one in (figure.min, figure.max))
        axes.barh(place, value, color=REACHED if figure.is_reached else MISSED, height=0.7)
        axes.plot(ends, [place, place], color=SPREAD, linewidth=1)
    axes.set_yticks(range(len(aimed)), [plain_label(figure.name) for figure in reversed(aimed)], fontsize=7)
    axes.axvline(1.0, color=SPREAD, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("share of the goal (log); the line is min to max")
    return svg_of(canvas)


def plot_replicas(figures: Sequence[Figure]) -> str:
    """Return tokens per second over replicas, with the straight line of perfect scaling; "" when not measured."""
    scaled = [figure for figure in figures if "tokens_per_s" in figure.configuration]
    if not scaled:
        return ""
    canvas, axes = canvas_of(3.6)
    for figure in scaled:
        sizes, rates = figure.configuration["replicas"], figure.configuration["tokens_per_s"]
        axes.plot(sizes, rates, marker="o", label=plain_label(figure.name))
        axes.plot(sizes, [rates[0] / sizes[0] * size for size in sizes], linestyle=":", color=SPREAD)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("replicas")
    axes.set_ylabel("tokens per second")
    axes.legend()
    return svg_of(canvas)


def plot_efficiency(figures: Sequence[Figure]) -> str:
    """Return every efficiency with its spread; "" when there is none."""
    found = [figure for figure in figures if figure.name.startswith("efficiency")]
    if not found:
        return ""
    canvas, axes = canvas_of(0.35 * len(found) + 1.0)
    for place, figure in enumerate(reversed(found)):
        axes.plot([figure.min, figure.max], [place, place], color=SPREAD, linewidth=1)
        axes.plot(figure.median, place, "o", color=MISSED if figure.is_reached is False else REACHED)
        if figure.goal is not None:
            axes.plot(figure.goal, place, "|", color=SPREAD, markersize=12)
    axes.set_yticks(range(len(found)), [plain_label(figure.name) for figure in reversed(found)], fontsize=7)
    axes.axvline(1.0, color=SPREAD, linestyle=":")
    axes.set_xlabel("rate over the bare replica's; the mark is the goal")
    return svg_of(canvas)


def main() -> None:
    """Write the page."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m benchmarks.plots OUT.html [RECORD.json]")
    rows: Rows
    if len(sys.argv) == 3:
        record = load_record(Path(sys.argv[2]))
        rows, source = record.rows, f"{Path(sys.argv[2]).name}, {record.date}"
    else:
        newest = newest_rows(records(results_directory()))
        rows = {name: figures for name, (_, figures) in newest.items()}
        source = ", ".join(dict.fromkeys(path.name for path, _ in newest.values()))
    Path(sys.argv[1]).write_text(page(rows, source), "utf-8")


if __name__ == "__main__":
    main()
