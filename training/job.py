"""A training job and what came of it: what the driver, the workers and the caller tell each other. Pure.

    directory/
        job.json            what was asked; another job is refused here
        state/step-N/       training states, the last two while the job runs
        metrics.jsonl       one line per log interval
        weights/            the result: an adapter, or a whole model
        trained.json        written last: the job is done

A directory holds one job: whoever comes again must ask for the same, operational settings aside.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from engine.config import flatten
from engine.errors import InputError, RunError
from engine.files import write_atomic
from training.chat import Renderer
from training.training_settings import TrainingSettings

JOB: Final = "job.json"
STATE: Final = "state"
METRICS: Final = "metrics.jsonl"
WEIGHTS: Final = "weights"
TRAINED: Final = "trained.json"

LoadRenderer = Callable[[str], Renderer]
"""Gives what renders prompts for a model directory; sent to workers by its name."""

_OPERATIONAL: Final = frozenset(
    f"settings.{name}"
    for name in ("gpus_per_worker", "threads", "save_every", "log_every", "report_to", "max_restarts")
) | {"directory"}


class Diverged(RunError):
    """Training came to something that is no model: a loss or gradient that is not finite. It would come to it again."""


class TrainJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is trained on what. `model` is the directory of the weights that training begins from, `adapter` that of an
    adapter to go on with, "" for a new one.

    `samples` is a sample log, read to its closed end, `settings.epochs` times; `held_out` a closed one, whose loss is
    measured before and after. Paths must mean the same on every node.
    """

    model: str
    samples: str
    directory: str
    settings: TrainingSettings
    adapter: str = ""
    held_out: str = ""


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job. `num_tokens` are taught ones; losses are nats per taught token.

    `loss` is that of the last logged interval, `losses` all of them; `waited_s` is how long the workers had no rows,
    as the first of them saw it; `weights` is the directory of the result. `dropped` counts rows that could not be
    taught, by reason; `engine` is the type of what took the steps.
    """

    num_steps: int
    num_rows: int
    num_tokens: int
    loss: float
    losses: tuple[float, ...]
    held_out_before: float | None
    held_out_after: float | None
    elapsed_s: float
    waited_s: float
    restarts: int
    weights: str
    dropped: dict[str, int] = {}
    engine: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a worker is. `loss` is None before the first logged interval; `rows_waiting` are read by nobody yet."""

    phase: str = "starting"
    step: int = 0
    loss: float | None = None
    tokens_per_s: float = 0.0
    rows_waiting: int = 0
    pid: int = 0


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker's part ended.

    `done`; `refused`: the same would happen again, `text` says what must change; `diverged`: so does this, and it is
    the training's own doing; `peer`: another worker or the network failed; `error`: this worker's code failed.
    """

    kind: Literal["done", "refused", "diverged", "peer", "error"]
    text: str = ""
    result: Trained | None = None


def read_trained(directory: Path) -> Trained | None:
    """Return what came of the job in a directory, None while it is not done."""
    try:
        return msgspec.json.decode((directory / TRAINED).read_bytes(), type=Trained)
    except FileNotFoundError:
        return None


def write_json(path: Path, value: msgspec.Struct) -> None:
    """Write a struct for people to read, whole or not at all."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(value)))


def read_job(directory: Path) -> TrainJob | None:
    """Return the job that a directory holds, as it was first asked for; None when there is none."""
    try:
        return msgspec.json.decode((directory / JOB).read_bytes(), type=TrainJob)
    except FileNotFoundError:
        return None


def find_trained(job: TrainJob) -> Trained | None:
    """Return what came of a job, None while it is not done. Raises InputError when its directory holds another."""
    directory = Path(job.directory)
    before = read_job(directory)
    if before is not None and (changed := _changes(before, job)):
        raise InputError(changed)
    return read_trained(directory)


def claim_directory(job: TrainJob) -> Path:
    """Make the directory of a job, if it is not there, and return it."""
    directory = Path(job.directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if read_job(directory) is None:
        write_json(directory / JOB, job)
    return directory


def _changes(before: TrainJob, after: TrainJob) -> list[str]:
    old, new = (flatten(_table(job)) for job in (before, after))
    return [
        f"{after.directory} holds another job: {name} was {old.get(name)!r}, got {new.get(name)!r}: use a new directory"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and name not in _OPERATIONAL
    ]


def _table(job: TrainJob) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.to_builtins(job)
    return table
