"""`sandplay simulate`: what a configuration would do, in seconds and without hardware.

Results go to stdout, problems are raised as InputError. Heavy modules are imported inside functions.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engine.record import EpisodeRecord
    from engine.simulation.pools import Settings
    from engine.simulation.prediction import Prediction

Sweep = tuple[str, list[str]]


def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to play.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings to replace.")] = None,
    coefficients: Annotated[
        str, typer.Option(metavar="FILE", help="Step times: cpu, h200-8b, fitted JSON, or JSONL of recorded steps.")
    ] = "cpu",
    lengths: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take reply lengths and choices from this run.")
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="KEY=A,B,C", help="Simulate each value, as replicas=1,2,4.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="PATH.svg", help="Draw the sweep.")] = None,
    match: Annotated[float, typer.Option(help="Probability that two texts are found similar.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per run.")] = False,
) -> None:
    """Predict a run on a simulated fleet: episodes per second, cache, load, and what limits it."""
    from engine import config as configuration
    from engine.errors import InputError

    swept = parse_sweep(sweep) if sweep is not None else None
    problems = [] if 0 <= match <= 1 else [f"--match must be 0..1, got {match}"]
    if plot is not None and swept is None:
        problems.append(f"--plot draws a sweep, got none: add --sweep replicas=1,2,4 or leave out --plot {plot}")
    if problems:
        raise InputError(problems)
    table = configuration.apply_overrides(configuration.read_table(config), overrides or [])
    settings = _settings(coefficients, lengths, match)
    base = config.parent.absolute()
    if swept is None:
        _print_one(_run(table, base, settings), as_json)
        return
    name, values = swept
    found = [(value, _run(swept_table(table, name, value), base, settings)) for value in values]
    _print_sweep(name, found, as_json)
    if plot is not None:
        from engine.simulation.plot import plot_sweep

        plot_sweep(plot, name, found)


def parse_sweep(text: str) -> Sweep:
    """Split `KEY=A,B,C`. Raises InputError."""
    from engine.errors import InputError

    name, equals, values = text.partition("=")
    chosen = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or not name.strip() or not chosen:
        raise InputError(f"--sweep must look like replicas=1,2,4, got {text!r}")
    return name.strip(), chosen


def swept_table(table: dict[str, Any], name: str, value: str) -> dict[str, Any]:
    """Return the table with a swept value set; `replicas` stands for those of every vllm model."""
    from engine import config as configuration

    if name != "replicas":
        return configuration.apply_overrides(table, [f"{name}={value}"])
    models = table.get("models")
    served = [key for key, model in models.items() if _is_served(model)] if isinstance(models, dict) else []
    return configuration.apply_overrides(table, [f"models.{key}.replicas={value}" for key in served])


def _is_served(model: object) -> bool:
    return isinstance(model, dict) and model.get("kind") == "vllm"


def _settings(coefficients: str, lengths: Path | None, match: float) -> "Settings":
    from engine.simulation.latency import read_coefficients
    from engine.simulation.pools import Settings

    return Settings(coefficients=read_coefficients(coefficients), records=_records(lengths), match=match)


def _records(directory: Path | None) -> "list[EpisodeRecord]":
    if directory is None:
        return []
    from engine.corpus import Corpus
    from engine.rundir import RunDirectory

    return list(Corpus.open(RunDirectory.open(directory)).iterate(columns=("steps",)))


def _run(table: dict[str, Any], base: Path, settings: "Settings") -> "Prediction":
    from engine.commands.datasets import bring_datasets
    from engine.planning import make_plan
    from engine.simulation.shards import simulate_run

    return simulate_run(make_plan(table, base, datasets=bring_datasets(table)), settings)


def _print_one(prediction: "Prediction", as_json: bool) -> None:
    import msgspec

    from engine.simulation.tables import prediction_table
    from engine.tables import print_view, write, write_json

    if as_json:
        write_json(msgspec.json.encode(prediction))
        return
    print_view(prediction_table(prediction))
    write(f"limited by: {prediction.limited_by}")
    for assumption in prediction.assumptions:
        write(f"assumed: {assumption}")


def _print_sweep(name: str, found: "list[tuple[str, Prediction]]", as_json: bool) -> None:
    import msgspec

    from engine.simulation.tables import sweep_table
    from engine.tables import print_view, write, write_json

    if as_json:
        for value, prediction in found:
            write_json(msgspec.json.encode({name: value, **msgspec.to_builtins(prediction)}))
        return
    print_view(sweep_table(name, found))
    for value, prediction in found:
        write(f"{name}={value}: limited by {prediction.limited_by}")
