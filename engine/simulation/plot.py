"""A sweep as a picture: an SVG of episodes per second, with the straight line that perfect scaling would be."""

from collections.abc import Sequence
from pathlib import Path

from engine.errors import InputError
from engine.simulation.prediction import Prediction


def plot_sweep(path: Path, name: str, found: Sequence[tuple[str, Prediction]]) -> None:
    """Write the SVG. Raises InputError without matplotlib, or for a path that is not an SVG in a directory."""
    if path.suffix != ".svg" or not path.parent.is_dir():
        raise InputError(f"--plot must name an .svg file in an existing directory, got {path}")
    try:
        import matplotlib
    except ImportError:
        raise InputError("--plot needs matplotlib, which is not installed: pip install matplotlib") from None
    matplotlib.use("svg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    positions = range(len(found))
    whole = [one.episodes_per_s for _, one in found]
    axes.plot(positions, whole, marker="o", label="whole run")
    axes.plot(positions, [one.steady_episodes_per_s for _, one in found], marker="s", label="steady state")
    first = found[0][1]
    per_replica = first.episodes_per_s / first.replicas
    axes.plot(positions, [per_replica * one.replicas for _, one in found], linestyle=":", label="in proportion")
    axes.set_xticks(list(positions), [value for value, _ in found])
    axes.set_xlabel(name)
    axes.set_ylabel("episodes per second (simulated)")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, format="svg", metadata={"Date": None})
