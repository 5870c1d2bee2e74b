"""The driver's side: what a job must be, what a failure means, what a worker takes. No Ray."""

import asyncio
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import InputError, RunError
from tests.training.jobs import make_job
from training.job import Ended, Progress, Trained, claim_directory, find_trained, read_job, read_trained, write_json
from training.pool import _raise_failure, _refuse_on_cpu, _WorkersLost, progress_line, resolve_share, train
from training.training_settings import TrainingSettings
from training.worker import worker_environment

TRAINED = Trained(
    num_steps=1,
    num_rows=2,
    num_tokens=3,
    loss=1.5,
    losses=(1.5,),
    held_out_before=None,
    held_out_after=None,
    elapsed_s=1.0,
    waited_s=0.0,
    restarts=0,
    weights="w",
)


def never(path: str) -> Any:
    raise AssertionError(path)


async def test_a_job_that_is_done_does_nothing(tmp_path: Path) -> None:
    write_json(tmp_path / "trained.json", TRAINED)
    job = make_job(tmp_path, tmp_path / "gone", tmp_path / "gone")
    assert await train(job, never, never) == TRAINED == read_trained(tmp_path)


async def test_what_cannot_be_begun_is_refused_with_all_problems(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", tmp_path / "gone", tmp_path / "s", tmp_path / "h", method="full", rank=0)
    with pytest.raises(InputError) as refused:
        await train(msgspec.structs.replace(job, adapter=str(tmp_path)), never, never)
    rank, model, held_out, adapter = refused.value.problems
    assert "training.rank must be at least 1, got 0" in rank
    assert "its model as a directory" in model and "must be a sample log" in held_out and 'got "full"' in adapter
    assert not (tmp_path / "job").exists()


def test_a_directory_holds_one_job(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", tmp_path, tmp_path / "s")
    claim_directory(job)
    assert (tmp_path / "job").stat().st_mode & 0o777 == 0o700
    same = make_job(tmp_path / "job", tmp_path, tmp_path / "s", save_every=7, max_restarts=0)
    assert claim_directory(same) == tmp_path / "job" and read_job(tmp_path / "job") == job
    assert find_trained(same) is None
    write_json(tmp_path / "job" / "trained.json", TRAINED)
    assert find_trained(same) == TRAINED
    with pytest.raises(InputError, match="settings.epochs was 2, got 3") as refused:
        find_trained(make_job(tmp_path / "job", tmp_path, tmp_path / "t", epochs=3))
    assert len(refused.value.problems) == 2


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"dropout": 1.0}, "training.dropout must be less than 1"),
        ({"learning_rate": 0.0}, "training.learning_rate must be between 0 and 1"),
        ({"batch_size": 0, "threads": 0}, "training.threads must be at least 1"),
        ({"gpus_per_worker": math.nan}, "training.gpus_per_worker must be at least 0, got nan"),
        (
            {"gpus_per_worker": math.inf},
            "training.gpus_per_worker must be a whole number or a part of one GPU, got inf",
        ),
        ({"gpus_per_worker": 1.5}, "training.gpus_per_worker must be a whole number or a part of one GPU, got 1.5"),
        ({"method": "qlora"}, "needs bitsandbytes"),
        ({"report_to": ("wandb",)}, "pip install wandb"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], rule: str) -> None:
    assert any(rule in problem for problem in TrainingSettings(**changes).problems())
    assert TrainingSettings().problems() == []


async def failure(*ended: Ended | None) -> BaseException:
    """Return what the pool makes of these ends."""
    loop = asyncio.get_running_loop()
    running: list[asyncio.Future[Ended | None]] = []
    for one in ended:
        running.append(loop.create_future())
        running[-1].set_result(one)
    with pytest.raises((RunError, _WorkersLost)) as raised:
        await _raise_failure(running)
    return raised.value


async def test_a_failure_that_would_come_again_ends_the_job_others_restart() -> None:
    peer, error = Ended(kind="peer", text="gloo closed\nmore"), Ended(kind="error", text="KeyError: 'x'")
    refused = Ended(kind="refused", text="the loss must be finite, got nan in step 3: lower it")
    for ends, kind, text in (
        ((peer, refused), RunError, "got nan in step 3"),
        ((peer, None), _WorkersLost, "worker 1 of 2 died"),
        ((error, None), _WorkersLost, "worker 1 of 2 died"),
        ((error, peer), RunError, "failed in worker 0: KeyError"),
        ((peer, peer), _WorkersLost, r"lost each other \(gloo closed\)"),
    ):
        found = await failure(*ends)
        assert type(found) is kind
        with pytest.raises(kind, match=text):
            raise found


def test_what_a_worker_takes_suits_the_cluster() -> None:
    assert resolve_share(TrainingSettings(), {"CPU": 2.0}) == {"CPU": 0.5}
    assert resolve_share(TrainingSettings(workers=2), {"CPU": 2.0}) == {"CPU": 0.25}
    assert resolve_share(TrainingSettings(workers=4), {"CPU": 64.0, "GPU": 8.0}) == {"CPU": 1.0, "GPU": 1.0}
    assert resolve_share(TrainingSettings(gpus_per_worker=0), {"CPU": 64.0, "GPU": 8.0}) == {"CPU": 1.0}
    with pytest.raises(InputError, match="training.bf16 must be"):
        _refuse_on_cpu(TrainingSettings(bf16=True), {"CPU": 1.0})
    _refuse_on_cpu(TrainingSettings(bf16=True), {"CPU": 1.0, "GPU": 1.0})


def test_on_cpu_nothing_is_compiled_and_no_gpu_is_seen() -> None:
    on_cpu = worker_environment(1, 2, 3, is_cpu=True)
    assert (on_cpu["RANK"], on_cpu["WORLD_SIZE"], on_cpu["OMP_NUM_THREADS"]) == ("1", "2", "3")
    assert on_cpu["DS_ACCELERATOR"] == "cpu" and on_cpu["TORCHDYNAMO_DISABLE"] == "1"
    assert on_cpu["CUDA_VISIBLE_DEVICES"] == ""
    assert not {"DS_ACCELERATOR", "CUDA_VISIBLE_DEVICES"} & worker_environment(0, 1, 1, is_cpu=False).keys()


def test_progress_is_said_in_words() -> None:
    assert progress_line(Progress(phase="importing torch")) == "training: importing torch"
    far = Progress(phase="training", step=3, loss=2.5, tokens_per_s=1234.5, rows_waiting=1000)
    assert progress_line(far) == "training: step 3, loss 2.500, 1,234 tokens/s, 1,000 rows waiting"
    assert "loss -," in progress_line(Progress(phase="training"))
