"""Factories for the tests of fine-tuning at a hosted API."""

from pathlib import Path
from typing import Any

import msgspec

from tests.tuning_stub import SteppedClock, TuningStub
from training.openai_tuning import Tuned, TuningJob, TuningSettings, tune
from training.sample_log import Mark, SampleWriter
from training.tuning_job import TuningState, read_state


def make_row(number: int) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "You are a therapist."},
        {"role": "user", "content": f"Patient {number}: ich fühle mich müde."},
        {"role": "assistant", "content": "What goes through your mind then?"},
    ]
    return {"messages": messages, "kind": "therapist", "episode": f"case-{number}.0", "score": 7.0}


def make_log(path: Path, num_rows: int = 12, first: int = 0) -> Path:
    writer = SampleWriter.open(path)
    writer.append([make_row(first + number) for number in range(num_rows)], Mark())
    writer.close(is_finished=True)
    return path


def make_job(stub: TuningStub, path: Path, name: str = "tuning", **changes: Any) -> TuningJob:
    samples = path / "samples.jsonl"
    if not samples.exists():
        make_log(samples)
    job = TuningJob(
        model="gpt-4o-mini",
        samples=str(samples),
        directory=str(path / name),
        base_url=stub.base_url,
        api_key_env=None,
        settings=TuningSettings(poll_s=5),
    )
    return msgspec.structs.replace(job, **changes)


def state_of(job: TuningJob) -> TuningState:
    return read_state(Path(job.directory))


async def play(job: TuningJob, said: list[str] | None = None, clock: SteppedClock | None = None) -> Tuned:
    return await tune(job, (said if said is not None else []).append, clock=clock or SteppedClock())
