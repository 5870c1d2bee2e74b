"""Small training jobs on a tiny random model, and what their workers leave."""

from pathlib import Path
from typing import Any

from training.job import TrainJob
from training.sample_log import Mark, SampleWriter
from training.training_settings import TrainingSettings

FEELINGS = ("calm", "tense", "tired", "hopeful", "angry", "lonely", "proud", "lost")

FAST: dict[str, Any] = {
    "rank": 8,
    "learning_rate": 5e-3,
    "batch_size": 2,
    "epochs": 2,
    "max_length": 256,
    "threads": 1,
    "log_every": 4,
    "save_every": 10,
}


def make_chat(number: int) -> dict[str, Any]:
    """A chat of two turns, the like of which can be learnt."""
    feeling = FEELINGS[number % len(FEELINGS)]
    return {
        "messages": [
            {"role": "system", "content": "You listen."},
            {"role": "user", "content": f"Case {number}: I feel {feeling}."},
            {"role": "assistant", "content": f"So you feel {feeling}. Since when?"},
            {"role": "user", "content": "Since May."},
            {"role": "assistant", "content": f"What made you {feeling} in May?"},
        ],
        "kind": "therapist",
        "label": "",
    }


def write_log(path: Path, rows: list[dict[str, Any]], *, is_finished: bool = True) -> SampleWriter:
    writer = SampleWriter.open(path)
    writer.append(rows, Mark())
    if is_finished:
        writer.close(is_finished=True)
    return writer


def make_job(directory: Path, model: Path, samples: Path, held_out: Path | None = None, **changes: Any) -> TrainJob:
    return TrainJob(
        model=str(model),
        samples=str(samples),
        held_out=str(held_out or ""),
        directory=str(directory),
        settings=TrainingSettings(**{**FAST, **changes}),
    )
