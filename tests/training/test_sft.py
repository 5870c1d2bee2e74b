"""Training for real: Ray-placed workers, gloo, DeepSpeed, TRL and PEFT on a tiny random model."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from actors.cluster import join_cluster, leave_cluster
from actors.models import prepare_model
from actors.processes import ProcessTable
from actors.rendering import load_renderer
from engine.checkpoints import Checkpoint, publish, verify
from engine.errors import RunError
from engine.weights_file import fingerprint_weights, read_header
from tests.tiny_model import write_tiny_model
from tests.training.jobs import make_chat, make_job, write_log
from training.job import Trained, TrainJob
from training.pool import train
from training.sample_log import Mark

pytestmark = [pytest.mark.timeout(600)]

NUM_ROWS = 42


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    table = ProcessTable(tmp_path_factory.mktemp("ray") / "processes.json")
    # The thread that starts Ray must outlive it: its servers die with the thread that started them.
    with asyncio.Runner() as runner:
        runner.run(join_cluster(None, table, lambda _text: None))
        yield
        runner.run(leave_cluster(table))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's jobs are: samples, held-out samples, and what comes of them."""
    directory = tmp_path_factory.mktemp("jobs")
    # One row is too long: it is dropped, and all workers stay in step.
    long = make_chat(0)
    long["messages"][1]["content"] += " word" * 300
    write_log(directory / "samples.jsonl", [*(make_chat(number) for number in range(NUM_ROWS - 1)), long])
    write_log(directory / "held-out.jsonl", [make_chat(number) for number in range(100, 107)])
    return directory


class Said:
    """What a job said; `until` waits for a word."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(text)


async def play(job: TrainJob, said: Said | None = None) -> Trained:
    return await train(job, load_renderer, said or Said())


@pytest.fixture(scope="module")
def plain(cluster: None, model: Path, place: Path) -> tuple[TrainJob, Trained]:
    """A job of two workers with dropout that nothing disturbs."""
    job = make_job(place / "plain", model, place / "samples.jsonl", place / "held-out.jsonl", workers=2)
    return job, asyncio.run(play(job))


def weights(directory: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: one for file in sorted(directory.glob("*.safetensors")) for name, one in load_file(file).items()}


def as_checkpoint(directory: Path, base: Path, kind: Any) -> Path:
    """Publish a copy of what was trained, and read it through as before a swap."""
    import shutil

    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)
    target = directory.with_name("r1")
    publish(copy, target, Checkpoint(version="r1", kind=kind, base=fingerprint_weights(base), files={}))
    verify(target, base)
    return target


def test_deepspeed_trains_an_adapter_that_fits_the_base(plain: tuple[TrainJob, Trained], model: Path) -> None:
    job, trained = plain
    assert trained.engine == "DeepSpeedEngine" and trained.restarts == 0
    # 42 rows, 2 workers of 2 rows each: 11 steps an epoch.
    assert (trained.num_steps, trained.num_rows) == (22, 2 * (NUM_ROWS - 1))
    assert trained.dropped == {"longer than max_length": 2}
    assert trained.losses[-1] < trained.losses[0] - 0.5 and trained.loss == trained.losses[-1]
    assert trained.held_out_before is not None and trained.held_out_after is not None
    assert trained.held_out_after < trained.held_out_before - 0.5
    directory = Path(job.directory)
    lines = [msgspec.json.decode(line) for line in (directory / "metrics.jsonl").read_bytes().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 22]
    assert [line["loss"] for line in lines] == list(trained.losses)
    assert lines[-1]["taught"] == trained.num_tokens and all(line["grad_norm"] > 0 for line in lines)
    assert sorted(path.name for path in directory.iterdir()) == ["job.json", "metrics.jsonl", "trained.json", "weights"]
    config = msgspec.json.decode((directory / "weights" / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == "" and config["r"] == 8
    assert {name.split(".")[-3] for name in weights(directory / "weights")} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in directory.rglob("*") if path.is_file()} == {0o600}
    as_checkpoint(directory / "weights", model, "lora")


def worker_pid(rank: int) -> int:
    """Return the process of a worker that this process has placed."""
    while True:
        for process in psutil.Process().children(recursive=True):
            try:
                if process.cmdline()[:1] == ["ray::Worker.train"] and process.environ().get("RANK") == str(rank):
                    return process.pid
            except (psutil.Error, OSError):
                continue
        time.sleep(0.05)


def wait_for_state(job: TrainJob, step: int) -> None:
    """Wait until a training state is whole."""
    while not (Path(job.directory) / "state" / f"step-{step:08d}").exists():
        time.sleep(0.01)


async def test_a_worker_that_is_killed_costs_no_step(plain: tuple[TrainJob, Trained], model: Path, place: Path) -> None:
    job = msgspec.structs.replace(plain[0], directory=str(place / "killed"))
    said = Said()

    async def kill() -> None:
        pid = await asyncio.to_thread(worker_pid, 1)
        await asyncio.to_thread(wait_for_state, job, 10)
        os.kill(pid, signal.SIGKILL)

    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(kill())
        training = group.create_task(play(job, said))
    trained, expected = training.result(), plain[1]
    assert trained.restarts == 1
    assert any("worker 1 of 2 died; restarting from step-00000010" in line for line in said.lines)
    same = ("num_steps", "num_rows", "num_tokens", "dropped")
    assert [getattr(trained, name) for name in same] == [getattr(expected, name) for name in same]
    assert trained.losses == pytest.approx(expected.losses, abs=1e-4)
    assert trained.held_out_before == expected.held_out_before
    assert trained.held_out_after == pytest.approx(expected.held_out_after, abs=1e-4)
    found, wanted = weights(Path(trained.weights)), weights(Path(expected.weights))
    assert found.keys() == wanted.keys()
    assert max(float((found[name] - wanted[name]).abs().max()) for name in found) < 1e-5
    lines = (place / "killed" / "metrics.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line)["step"] for line in lines] == [4, 8, 12, 16, 20, 22]


async def test_a_whole_model_keeps_its_form_and_a_growing_log_is_read_to_its_end(
    cluster: None, model: Path, place: Path
) -> None:
    """ZeRO-3, rows padded instead of packed, accumulated batches, on a log that is closed while workers wait."""
    writer = write_log(place / "growing.jsonl", [make_chat(number) for number in range(5)], is_finished=False)
    changes = {"method": "full", "zero_stage": 3, "packing": False, "accumulate": 2, "learning_rate": 1e-3}
    job = make_job(place / "full", model, place / "growing.jsonl", workers=2, log_every=1, **changes)

    async def grow() -> None:
        await asyncio.to_thread(worker_pid, 0)
        await asyncio.to_thread(writer.append, [make_chat(number) for number in range(5, 9)], Mark())
        writer.close(is_finished=True)

    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(grow())
        training = group.create_task(play(job))
    trained = training.result()
    # 9 rows in 3 batches of both workers an epoch, 6 in both: 3 steps of two.
    assert (trained.num_rows, trained.num_steps) == (18, 3) and trained.engine == "DeepSpeedEngine"
    assert trained.losses[-1] < trained.losses[0]
    assert_has_form_of(model, Path(trained.weights))
    as_checkpoint(Path(trained.weights), model, "full")


def assert_has_form_of(model: Path, made: Path) -> None:
    headers = [read_header(directory / "model.safetensors")[0] for directory in (model, made)]
    assert headers[0].keys() == headers[1].keys()
    assert {path.name for path in made.iterdir()} == {path.name for path in model.iterdir()}
    before, after = weights(model), weights(made)
    assert all(before[name].dtype == after[name].dtype for name in before)
    assert all(not before[name].equal(after[name]) for name in before), "every weight is trained"


async def test_a_loss_that_is_not_finite_ends_training_with_its_step(
    cluster: None, model: Path, place: Path, tmp_path: Path
) -> None:
    import shutil

    from safetensors.torch import save_file

    broken = shutil.copytree(model, tmp_path / "broken")
    found = weights(broken)
    found["model.norm.weight"][3] = float("inf")
    save_file(found, broken / "model.safetensors", metadata={"format": "pt"})
    job = make_job(tmp_path / "job", broken, place / "samples.jsonl")
    with pytest.raises(
        RunError, match=r"the loss must be finite, got (nan|inf) in step 1: lower training.learning_rate"
    ):
        await play(job)
    assert not (tmp_path / "job" / "trained.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "method"), [(0, "lora"), (1, "full"), (2, "full"), (3, "full"), (3, "lora")])
async def test_every_stage_goes_on_where_it_was(
    cluster: None, model: Path, place: Path, tmp_path: Path, stage: int, method: str
) -> None:
    changes = {"zero_stage": stage, "method": method, "workers": 2, "save_every": 5, "learning_rate": 1e-3}
    whole = await play(make_job(tmp_path / "whole", model, place / "samples.jsonl", **changes))
    job = make_job(tmp_path / "killed", model, place / "samples.jsonl", **changes)

    async def kill() -> None:
        pid = await asyncio.to_thread(worker_pid, 0)
        await asyncio.to_thread(wait_for_state, job, 5)
        os.kill(pid, signal.SIGKILL)

    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(kill())
        training = group.create_task(play(job))
    trained = training.result()
    assert trained.restarts == 1 and trained.num_steps == whole.num_steps
    found, wanted = weights(Path(trained.weights)), weights(Path(whole.weights))
    assert max(float((found[name] - wanted[name]).abs().max()) for name in wanted) < 1e-5


@pytest.mark.slow
async def test_an_adapter_goes_on_and_the_default_model_learns(cluster: None, place: Path, tmp_path: Path) -> None:
    base = prepare_model("smollm2-135m")
    changes = {"epochs": 1, "rank": 16, "learning_rate": 5e-4, "log_every": 1, "threads": None}
    job = make_job(tmp_path / "first", base, place / "samples.jsonl", place / "held-out.jsonl", **changes)
    first = await play(job)
    assert first.held_out_before is not None and first.held_out_after is not None
    assert first.held_out_after < first.held_out_before
    again = msgspec.structs.replace(job, adapter=first.weights, directory=str(tmp_path / "second"))
    second = await play(again)
    assert second.held_out_before == pytest.approx(first.held_out_after, abs=1e-3)
    assert second.held_out_after is not None and second.held_out_after < first.held_out_after
    as_checkpoint(Path(second.weights), base, "lora")
