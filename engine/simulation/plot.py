"""A sweep as a picture: an SVG of episodes per second, with the straight line that perfect scaling would be."""

from collections.abc import Sequence
from pathlib import Path

from engine.pictures import canvas_of, plain_label, svg_of, write_svg
from engine.simulation.prediction import Prediction


def plot_sweep(path: Path, name: str, found: Sequence[tuple[str, Prediction]]) -> None:
    """Write the SVG. Raises InputError without matplotlib, or for a path that is not an SVG in a directory."""
    canvas, axes = canvas_of(4.0, 6.4)
    positions = range(len(found))
    whole = [one.episodes_per_s for _, one in found]
    axes.plot(positions, whole, marker="o", label="whole run")
    axes.plot(positions, [one.steady_episodes_per_s for _, one in found], marker="s", label="steady state")
    first = found[0][1]
    per_replica = first.episodes_per_s / first.replicas
    axes.plot(positions, [per_replica * one.replicas for _, one in found], linestyle=":", label="in proportion")
    axes.set_xticks(list(positions), [plain_label(value) for value, _ in found])
    axes.set_xlabel(plain_label(name))
    axes.set_ylabel("episodes per second (simulated)")
    axes.set_ylim(bottom=0)
    axes.legend()
    write_svg(path, svg_of(canvas))
