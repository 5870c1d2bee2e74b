"""`sandplay swap`: give the pool of a run that is being played other weights."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def swap(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a run that is being played.")],
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT|base", help="A checkpoint directory, or `base`: the configured model.")
    ],
    policy: Annotated[
        str, typer.Option(help="finish_on_old | drain | mix: how live episodes meet the new weights.")
    ] = "finish_on_old",
    model: Annotated[str, typer.Option(help="Which model, where the run serves several.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, the last line of stdout.")] = False,
) -> None:
    """Serve a checkpoint in a run that is being played; its dialogues go on."""
    from engine.commands.rounds import is_rounds
    from engine.control import ask
    from engine.errors import InputError
    from engine.rundir import RunDirectory
    from engine.transcript import printable

    if is_rounds(directory) or is_rounds(directory.absolute().parent):
        advice = "stop it, and `sandplay resume` it with other settings, or swap in a run of `sandplay generate`"
        raise InputError(f"a run of rounds decides itself what it serves, got {directory}: {advice}")
    rundir = RunDirectory.open(directory)
    place = "" if checkpoint == "base" else str(Path(checkpoint).absolute())
    problems = []
    if policy not in ("finish_on_old", "drain", "mix"):
        problems.append(f"--policy must be finish_on_old, drain or mix, got {policy!r}")
    if place and not Path(place).is_dir():
        problems.append(f"CHECKPOINT must be a checkpoint directory or `base`, got {place}: check the path")
    if _num_shards(rundir.config) > 1:
        problems.append("a run must have one shard to be swapped while it is played, got several: swap between rounds")
    if problems:
        raise InputError(problems)

    def say(text: str) -> None:
        print(printable(text, markup=False), file=sys.stderr, flush=True)

    asked = {"command": "swap", "checkpoint": place, "policy": policy, "model": model}
    report = ask(rundir.control, asked, say)
    print(json.dumps(report) if as_json else report_line(report))


def report_line(report: dict[str, Any]) -> str:
    """Return what a swap came to, for people."""
    rows = report["replicas"]
    stalled_s = max((float(row["stalled_s"]) for row in rows), default=0.0)
    if not rows:
        return f"{report['before']} -> {report['after']}; nothing stood still"
    paused = f", no new episode for {report['paused_s']:.1f} s" if report["paused_s"] else ""
    return (
        f"{report['before'][:12]} -> {report['after'][:12]} on {len(rows)} replicas in {report['elapsed_s']:.1f} s;"
        f" stood still for {stalled_s:.2f} s at most{paused}"
    )


def _num_shards(config: Path) -> int:
    from engine.config import read_table

    return int(read_table(config).get("shards", 1))
