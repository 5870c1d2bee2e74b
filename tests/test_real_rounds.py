"""Rounds on real vLLM, real training and a real swap: a tiny random model; the default one is marked slow."""

import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoints import Registry, read_checkpoint
from engine.errors import JournalError
from tests.running import ROOT, run, run_json, start
from tests.test_real_run import records_of
from tests.tiny_model import write_tiny_model
from training.round_log import BEFORE, Decided, Examined, Played, RoundLog, Sampled, Swapped, Trained, read_steps

CONFIG = """
name = "tiny"
[rounds]
held_out = 2
[protocol]
name = "counseling"
max_turns = 2
max_tokens = 16
[samples]
kinds = ["patient", "therapist"]
near = 1
[training]
method = "{method}"
rank = 8
learning_rate = 5e-3
batch_size = 4
epochs = 3
log_every = 1
[exam]
num_items = 8
[cases]
source = "bundled"
limit = 8
[models.base]
kind = "vllm"
model = "{model}"
max_num_seqs = 16
max_model_len = 2048
block_size = 32
kv_cache_gib = 0.5
[roles]
patient = "base"
therapist = "base"
"""

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def write_config(directory: Path, model: Path, method: str = "lora") -> Path:
    path = directory / "rounds.toml"
    path.write_text(CONFIG.format(model=model, method=method), "utf-8")
    return path


def assert_is_sound(directory: Path, num_rounds: int) -> RoundLog:
    """What holds for every run of rounds that kept all of them."""
    log = RoundLog.open(directory / "rounds.jsonl")
    assert [(one.action, one.serves) for one in log.all(Decided)] == [("keep", f"r{n}") for n in range(num_rounds)]
    served = {"": log.find(Played, BEFORE).weights[0]} | {one.version: one.weights for one in log.all(Swapped)}  # type: ignore[union-attr]
    assert len(set(served.values())) == num_rounds + 1, "each checkpoint has weights of its own"
    for number in range(num_rounds):
        played, trained = log.find(Played, number), log.find(Trained, number)
        assert played is not None and trained is not None
        assert played.weights == (served[played.version],), "every episode names the version it was sampled under"
        assert {record.weights for record in records_of(directory / f"round-{number}")} == {played.weights}
        assert trained.held_out_after is not None and trained.held_out_before is not None
    for before, after in itertools.pairwise(log.all(Trained)):
        assert after.held_out_before == pytest.approx(before.held_out_after), "what is measured is what is served"
    registry = Registry(directory / "checkpoints")
    assert registry.current == f"r{num_rounds - 1}" and registry.names() == [f"r{n}" for n in range(num_rounds)]
    assert read_checkpoint(registry.place("r0")).lineage.parent == ""
    assert not json.loads((directory / "processes.json").read_text() or "[]")
    return log


def assert_learns(log: RoundLog) -> None:
    for trained in log.all(Trained):
        assert sum(trained.losses[-3:]) < sum(trained.losses[:3]), "the loss on what is trained falls"


def test_two_rounds_with_an_adapter(tmp_path: Path, model: Path) -> None:
    directory = tmp_path / "out"
    summary = run_json("rounds", write_config(tmp_path, model), "--out", directory, timeout_s=800)
    assert summary["current"] == "r1"
    log = assert_is_sound(directory, 2)
    assert_learns(log)
    held_out = {record.key.case for record in records_of(directory / "held-out")}
    trained_on = {row["case"] for row in rows_of(directory / "round-0" / "samples.jsonl")}
    assert len(held_out) == 2 and len(trained_on) == 6 and not held_out & trained_on
    assert len(list(log.all(Examined))) == 3 and all(one.score.num_items == 8 for one in log.all(Examined))
    assert [one.num_probes for one in log.all(Swapped)] == [4, 4]
    page = (directory / "rounds.html").read_text("utf-8")
    assert "<svg" in page and "r0" in page
    assert "keep" in run("status", directory)
    assert run_json("resume", directory)["current"] == "r1"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for row in map(json.loads, path.read_text("utf-8").splitlines()) if "mark" not in row]


@pytest.mark.slow
@pytest.mark.parametrize("setting", ['rounds.placement="colocated"', "rounds.overlap=true"])
def test_training_in_place_of_the_replicas_and_while_dialogues_are_played(
    tmp_path: Path, model: Path, setting: str
) -> None:
    directory = tmp_path / "out"
    run_json("rounds", write_config(tmp_path, model), setting, "--out", directory, timeout_s=800)
    assert_learns(assert_is_sound(directory, 2))


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_rounds_of_all_weights_killed_behind_every_step(tmp_path: Path) -> None:
    directory = tmp_path / "out"
    config = write_config(tmp_path, write_tiny_model(tmp_path / "tiny", dtype="bfloat16"), "full")
    process = start("rounds", config, "--out", directory)
    for kind, number in ((Played, BEFORE), (Played, 0), (Sampled, 0), (Trained, 0), (Swapped, 0), (Decided, 0)):
        kill_once(
            process, directory, lambda steps, k=kind, n=number: any(isinstance(s, k) and s.round == n for s in steps)
        )  # type: ignore[misc]
        process = start("resume", directory)
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, f"{out}\n{err}"
    assert_learns(assert_is_sound(directory, 2))


def kill_once(process: "subprocess.Popen[str]", directory: Path, is_due: Callable[[list[Any]], bool]) -> None:
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        try:
            steps = read_steps(directory / "rounds.jsonl")[0]
        except JournalError:
            continue
        if is_due(steps):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return
        time.sleep(0.2)
    raise AssertionError(f"the step was never reached: {process.communicate()}")


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("more", [[], ["training.method=full"]], ids=["lora", "full"])
def test_the_example_takes_less_than_a_quarter_of_an_hour(tmp_path: Path, more: list[str]) -> None:
    begun = time.monotonic()
    run_json("rounds", ROOT / "examples" / "rounds.toml", *more, "--out", tmp_path / "out", timeout_s=2300)
    elapsed_s = time.monotonic() - begun
    log = assert_is_sound(tmp_path / "out", 2)
    assert all(one.num_changed > 0 for one in log.all(Swapped)), "what is served now answers otherwise"
    # A random model talks noise, from which nothing can be learnt for other cases: this one does not.
    for trained in log.all(Trained):
        assert trained.held_out_after is not None and trained.held_out_before is not None
        assert trained.held_out_after < trained.held_out_before, "loss on cases that were never trained falls"
    assert elapsed_s < 900


@pytest.mark.slow
def test_a_learning_rate_a_hundred_times_too_high_is_rolled_back(tmp_path: Path, model: Path) -> None:
    directory = tmp_path / "out"
    # A random model of two layers knows nothing that an adapter could spoil: all its weights are moved.
    config = write_config(tmp_path, model, "full")
    run_json("rounds", config, "training.learning_rate=0.5", "rounds.num_rounds=2", "--out", directory, timeout_s=800)
    log = RoundLog.open(directory / "rounds.jsonl")
    decided = log.find(Decided, 0)
    assert decided is not None and decided.action == "roll back" and decided.serves == ""
    assert [one.rule.figure for one in decided.breaches] == ["held_out_ratio"]
    second = log.find(Played, 1)
    assert second is not None and second.version == ""
    assert second.weights == log.find(Played, 0).weights  # type: ignore[union-attr]
