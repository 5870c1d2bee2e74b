"""What a run says at its end: measured facts, one transcript, where everything lies, what to do next.

Claims nothing that was not measured; every text of a model is cleaned. Only `print_endscreen` prints.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.bill import bill_table, money
from engine.metrics import last_line
from engine.panel import duration
from engine.planning import Plan
from engine.protocol import ProtocolSpec, Report, Rules
from engine.record import EpisodeRecord
from engine.rundir import RunDirectory
from engine.show import dialogue_view, section_view
from engine.tables import MISSING, make_console, make_table, percent, plain, print_view
from engine.transcript import turns

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

NUM_TURNS: Final = 6
"""Turns of the transcript at the end of a run."""
DEFAULT_MODEL: Final = "smollm2-135m"
DEFAULT_MODEL_NOTE: Final = (
    "Every part of this run is real: the served model, the scheduler, the journal, the similarities. The words are "
    "those of a model of 135 million parameters, and read like it: the quality of the text follows the model. "
    "To use another one, change one line of the configuration, under {tables}:"
)
MODEL_LINE: Final = 'model = "your-org/your-model"'


def print_endscreen(plan: Plan, rundir: RunDirectory, summary: Mapping[str, Any]) -> None:
    """Print the end screen of a run on standard output. `summary` is what `--json` prints instead."""
    from engine.corpus import Corpus

    screen = end_screen(
        {**summary, "driver": last_line(rundir.metrics)},
        example=choose_example(Corpus.open(rundir).iterate(status="completed")),
        spec=plan.spec,
        rundir=rundir,
        default_pools=default_pools(plan.table),
        settings=_settings(plan),
        width=make_console().width,
    )
    print_view(screen)


def print_report(report: Report, summary: Mapping[str, Any]) -> None:
    """Print what a run came to by its protocol's own report, then what was measured and where it lies."""
    from rich.console import Group

    blocks: list[RenderableType] = []
    for section in report.sections:
        blocks += [section_view(section), ""]
    places = [("run", str(summary["directory"])), *((path.stem, str(path)) for path in report.files)]
    blocks += [plain("What was measured", "bold"), facts_table(summary), *_bill(summary), ""]
    blocks += [plain("Where it lies", "bold")]
    print_view(Group(*blocks, _pairs(places)))


def choose_example(corpus: Iterable[EpisodeRecord]) -> EpisodeRecord | None:
    """Return the first completed episode, None when there is none."""
    return next((record for record in corpus if record.status == "completed"), None)


def default_pools(table: Mapping[str, Any]) -> list[str]:
    """Return the pools of a resolved configuration that play a role with the default model."""
    played = set(table.get("roles", {}).values())
    models = table.get("models", {})
    return [name for name, model in models.items() if name in played and model.get("model") == DEFAULT_MODEL]


def _settings(plan: Plan) -> "Table":
    """Settings beside the paper's; those that differ from the defaults when the protocol names no paper."""
    paper = getattr(plan.spec, "paper", None)
    if paper:
        return settings_beside_paper(plan.rules, paper)
    here, defaults = msgspec.to_builtins(plan.rules), msgspec.to_builtins(plan.spec.rules())
    changed = {name: value for name, value in defaults.items() if name != "name" and here[name] != value}
    return settings_beside_paper(plan.rules, changed, whose="protocol")


def end_screen(
    summary: Mapping[str, Any],
    *,
    example: EpisodeRecord | None,
    spec: ProtocolSpec,
    rundir: RunDirectory,
    default_pools: Sequence[str] = (),
    settings: "Table | None" = None,
    width: int = 120,
) -> "Group":
    """Return the end screen.

    `summary["driver"]`, where present, is the last line of `metrics.jsonl`. `default_pools` are those whose words are
    the default model's. `settings` comes from `settings_beside_paper`.
    """
    from rich.console import Group

    blocks: list[RenderableType] = [plain("What was measured", "bold"), facts_table(summary), *_bill(summary)]
    blocks += [plain(f"Warning: {warning}", "yellow") for warning in summary["warnings"]]
    if settings is not None and settings.row_count:
        blocks += ["", settings]
    if example is not None:
        spoken = turns(example, spec.turns)
        models = ", ".join(dict.fromkeys(example.models.values())) or "unknown"
        title = f"Episode {example.episode}, {min(NUM_TURNS, len(spoken))} of {len(spoken)} turns, model {models}"
        blocks += ["", plain(title, "bold"), dialogue_view(spoken[:NUM_TURNS], width)]
    blocks += ["", plain("Where it lies", "bold"), _pairs(_places(rundir))]
    blocks += ["", plain("What to do next", "bold"), _pairs(next_commands(summary, example))]
    if default_pools:
        tables = ", ".join(f"[models.{name}]" for name in default_pools)
        blocks += ["", plain(DEFAULT_MODEL_NOTE.format(tables=tables)), plain(f"    {MODEL_LINE}", "bold")]
    return Group(*blocks)


def facts_table(summary: Mapping[str, Any]) -> "Table":
    """Return the measured facts: counts and tokens of the whole run, speeds of this invocation."""
    prompt, cached, completion = (summary[f"{kind}_tokens"] for kind in ("prompt", "cached", "completion"))
    # The last line of the metrics is another invocation's where this one played nothing.
    driver = (summary.get("driver") or {}) if summary["elapsed_s"] else {}
    rows = [
        (
            "episodes",
            (_counted(summary["episodes"]) or "none ended")
            + (f", {summary['unplayed']:,} open" if summary["unplayed"] else ""),
        ),
        ("time", f"{duration(summary['elapsed_s'])} after {duration(summary['startup_s'])} of starting up"),
        ("speed", _speed(summary["episodes_per_s"], driver)),
        ("calls", f"{summary['calls']:,}, every attempt counted"),
        ("tokens", f"{prompt:,} in, {percent(cached, prompt)} of them from prefix caches; {completion:,} out"),
        *([("counted for limits", _spent(summary["spent"]))] if summary.get("spent") else []),
        *((f"mean {name}", f"{value:.3g}") for name, value in summary["facts"].items()),
        ("missing values", _counted(summary["missing"]) or "none"),
    ]
    return _pairs(rows)


def _bill(summary: Mapping[str, Any]) -> "list[RenderableType]":
    return ["", bill_table(summary["roles"], summary["cost"])] if summary.get("roles") else []


def _spent(spent: Mapping[str, Any]) -> str:
    parts = [f"{spent['calls']:,} calls", f"{spent['tokens']:,} tokens", f"{spent['hours']:.3g} hours"]
    parts += [] if spent["cost"] is None else [f"cost {money(spent['cost'])}"]
    return f"{', '.join(parts)}, episodes that have not ended included"


def _speed(episodes_per_s: float, driver: Mapping[str, Any]) -> str:
    elapsed_s, num_turns = driver.get("run/elapsed_s") or 0.0, driver.get("turns/total") or 0
    completion = driver.get("tokens/completion") or 0
    parts = [f"{_figure(episodes_per_s)} episodes/s" if episodes_per_s else ""]
    if elapsed_s:
        parts += [f"{_figure(num_turns / elapsed_s)} turns/s", f"{_figure(completion / elapsed_s)} tokens/s out"]
    return ", ".join(part for part in parts if part) or "nothing was played this time"


def next_commands(summary: Mapping[str, Any], example: EpisodeRecord | None) -> list[tuple[str, str]]:
    """Return (purpose, command) pairs that fit the run."""
    run = shlex.quote(str(summary["directory"]))
    commands = [("list all episodes", f"sandplay show {run}")]
    if example is not None:
        commands.insert(0, ("read an episode", f"sandplay show {run} {shlex.quote(example.episode)}"))
        commands.append(("make training data", f"sandplay export {run} --format messages --to DATASET"))
    if summary["unplayed"]:
        raised = "".join(f" limits.{name}=..." for name in summary.get("reached", ()))
        commands.append(("go on", f"sandplay resume {run}{raised}"))
    if summary["episodes"].get("failed"):
        commands.append(("play failed ones again", f"sandplay resume {run} --retry-failed"))
    return commands


def settings_beside_paper(rules: Rules, paper: Mapping[str, Any], whose: str = "paper") -> "Table":
    """Return the rules in force beside the published ones, differences marked.

    `paper` maps a rule's name to the published value; a name that the rules lack is shown as absent.
    """
    table = make_table(("setting", "here", whose, ""), title=f"Settings beside the {whose}'s")
    here = msgspec.to_builtins(rules)
    for name, published in paper.items():
        is_same = name in here and here[name] == published
        value = _setting(here[name]) if name in here else MISSING
        table.add_row(*(plain(cell) for cell in (name, value, _setting(published), "" if is_same else "differs")))
    return table


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _places(rundir: RunDirectory) -> list[tuple[str, str]]:
    places: dict[str, Path] = {
        "configuration": rundir.config,
        "corpus": rundir.episodes,
        "metrics": rundir.metrics,
        "page": rundir.report,
    }
    return [(name, str(path)) for name, path in places.items()]


def _pairs(rows: Sequence[tuple[str, str]]) -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(plain(name), plain(value))
    return table


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
