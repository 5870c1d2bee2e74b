"""`sandplay train`: samples to a checkpoint, outside of rounds; asked again, it goes on, or says what came of it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engine.checkpoints import Checkpoint
    from training.job import Trained, TrainJob
    from training.sample_log import Mark
    from training.train_plan import TrainPlan

SAMPLES = "samples.jsonl"
HELD_OUT = "held-out.jsonl"
REQUEST = "train.json"


def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="Its \\[training], \\[samples] and \\[models].")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings that replace the file's.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A run directory, six-field records, or chats (JSONL with messages).")
    ] = None,
    held_out: Annotated[Path | None, typer.Option(help="The like, not trained on: its loss is measured.")] = None,
    model: Annotated[str, typer.Option(help="Which of \\[models] is trained (default: the only local one).")] = "",
    to: Annotated[Path | None, typer.Option(help="Directory to make or go on with (default: runs/train-TIME).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Train a model on samples, and publish what comes of it as a checkpoint."""
    import uvloop

    from actors.models import prepare_model
    from engine import config as configuration
    from engine.commands.preparing import default_directory, token_counter
    from engine.rundir import RunDirectory
    from engine.tables import write
    from training.train_plan import plan_training

    table = configuration.apply_overrides(configuration.read_table(config), overrides or [])
    plan = plan_training(table, model, data, held_out)
    _say(f"preparing models.{plan.model}: {plan.config.model}")
    path = prepare_model(plan.config.model, revision=plan.config.revision)
    directory = (to or default_directory("train")).absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with RunDirectory(directory).lock():
        mark = _make_logs(plan, directory, token_counter({plan.model: path}))
        job = _job(plan, directory, path)
        trained = uvloop.run(_train(plan, job, directory))
        checkpoint, place = _publish(plan, job, trained, directory, path)
    if as_json:
        print(json.dumps(_summary(trained, checkpoint, place, mark)), flush=True)
    else:
        write("\n".join(_lines(plan, trained, checkpoint, place, mark)))


def _make_logs(plan: "TrainPlan", directory: Path, count: Any) -> "Mark":
    """Write the sample logs that are not there yet; return the mark of the one that is trained on."""
    from training.data import read_mark, write_log
    from training.train_plan import claim

    claim(plan, directory / REQUEST)
    for source, name in ((plan.data, SAMPLES), (plan.held_out, HELD_OUT)):
        if source is not None and not (directory / name).exists():
            write_log(source, directory / name, plan.samples, count)
    return read_mark(directory / SAMPLES)


def _job(plan: "TrainPlan", directory: Path, path: Path) -> "TrainJob":
    from training.job import TrainJob

    return TrainJob(
        model=str(path),
        samples=str(directory / SAMPLES),
        held_out=str(directory / HELD_OUT) if plan.held_out else "",
        directory=str(directory / "training"),
        settings=plan.training,
    )


async def _train(plan: "TrainPlan", job: "TrainJob", directory: Path) -> "Trained":
    from actors.cluster import join_cluster, leave_cluster
    from actors.processes import ProcessTable
    from actors.rendering import load_renderer
    from training.job import find_trained
    from training.pool import train as train_job

    if (done := find_trained(job)) is not None:
        return done
    processes = ProcessTable(directory / "processes.json")
    processes.end_left_overs()
    await join_cluster(plan.ray.address, processes, _say)
    try:
        return await train_job(job, load_renderer, _say)
    finally:
        await leave_cluster(processes)


def _say(text: str) -> None:
    from engine.tables import say

    say(text)


def _publish(
    plan: "TrainPlan", job: "TrainJob", trained: "Trained", directory: Path, base: Path
) -> "tuple[Checkpoint, Path]":
    """Move the weights to where checkpoints are, once, and read them through."""
    import hashlib

    import msgspec

    from engine.checkpoints import Lineage, Registry, verify
    from engine.commands.publishing import publish_trained
    from engine.weights_file import file_digest
    from training.job import read_job

    asked = read_job(Path(job.directory)) or job
    lineage = Lineage(
        corpus=file_digest(Path(job.samples)), config=hashlib.sha256(msgspec.json.encode(asked.settings)).hexdigest()
    )
    version = f"sft-{hashlib.sha256(f'{lineage.corpus} {lineage.config}'.encode()).hexdigest()[:8]}"
    registry = Registry(directory / "checkpoints")
    is_full = plan.training.method == "full"
    place = publish_trained(registry, version, Path(trained.weights), base, lineage, is_full=is_full)
    registry.set_current(version)
    return verify(place, base), place


def _summary(trained: "Trained", checkpoint: "Checkpoint", place: Path, mark: "Mark") -> dict[str, Any]:
    import msgspec

    figures = msgspec.to_builtins(trained)
    del figures["weights"]
    return {
        "checkpoint": str(place),
        "version": checkpoint.version,
        "kind": checkpoint.kind,
        "samples": mark.num_samples,
        "left_out": mark.dropped,
        **figures,
    }


def _lines(plan: "TrainPlan", trained: "Trained", checkpoint: "Checkpoint", place: Path, mark: "Mark") -> list[str]:
    lines = [
        f"{trained.num_steps:,} steps on {trained.num_rows:,} rows, {trained.num_tokens:,} tokens taught,"
        f" {trained.elapsed_s:.0f} s: loss {trained.losses[0]:.3f} at first, {trained.loss:.3f} at last"
    ]
    if trained.held_out_before is not None and trained.held_out_after is not None:
        lines.append(f"held out: loss {trained.held_out_before:.3f} before, {trained.held_out_after:.3f} after")
    left_out = {**mark.dropped, **trained.dropped}
    if left_out:
        lines.append("left out: " + ", ".join(f"{number:,} {reason}" for reason, number in left_out.items()))
    lines.append(f"checkpoint {checkpoint.version} ({checkpoint.kind}): {place}")
    if checkpoint.kind == "full":
        lines.append(f"play with it: sandplay generate CONFIG.toml models.{plan.model}.model={place}")
    lines.append(f"swap it into a live run: sandplay swap RUN {place}")
    return lines
