"""`sandplay swap` on a run of a really served model, with drivers killed in the middle and after; and the resume."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from actors.models import prepare_model
from engine.record import JOINT, EpisodeRecord
from engine.rundir import RunDirectory
from engine.serving import SwapLog, read_serving
from tests.actors.checkpoints import make_adapter, make_full
from tests.running import run, run_json, start
from tests.test_real_faults import wait_until_calls
from tests.test_real_run import CONFIG, records_of, write_real_config

NUM_EPISODES = 8
pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(1800)]


@pytest.fixture
def base() -> Path:
    return prepare_model("smollm2-135m")


def begin(tmp_path: Path, *overrides: str, calls: int = 20) -> tuple[Path, "subprocess.Popen[str]"]:
    """Start a run; return once it has that many calls behind it."""
    run_dir = tmp_path / "run"
    config = write_real_config(tmp_path, CONFIG.replace("limit = 2", f"limit = {NUM_EPISODES}"))
    process = start("generate", config, "scheduler.metrics_interval_s=1", *overrides, "--out", run_dir, "--json")
    wait_until_calls(run_dir, calls, process)
    return run_dir, process


def require_flagged(run_dir: Path) -> list[EpisodeRecord]:
    """All episodes have ended once, and each names every version that it was sampled under."""
    records = records_of(run_dir)
    assert len({record.key.case for record in records}) == len(records) == NUM_EPISODES
    for record in records:
        replies = [step.reply for step in record.steps if step.reply is not None]
        assert set(record.weights) == {one for reply in replies for one in reply.weights.split(JOINT)}
        assert len({step.path for step in record.steps}) == len(record.steps)
    return records


def last_line(run_dir: Path) -> dict[str, Any]:
    return SwapLog(RunDirectory.open(run_dir)).lines()[-1]


def test_an_adapter_is_swapped_into_a_run_and_served_again_after_a_kill(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(base, tmp_path / "r1")
    run_dir, process = begin(tmp_path, "models.base.max_lora_rank=8")
    report = run_json("swap", run_dir, adapter, "--policy", "mix")
    assert report["replicas"][0]["stalled_s"] == 0 and report["after"] != report["before"]
    assert read_serving(RunDirectory.open(run_dir)) == {"base": adapter} and last_line(run_dir)["event"] == "end"
    again = run_json("swap", run_dir, "base", "--policy", "mix")
    assert again["after"] == report["before"] and read_serving(RunDirectory.open(run_dir)) == {}
    assert run_json("swap", run_dir, adapter)["after"] == report["after"]
    process.kill()
    process.communicate()
    assert "got none that listens" in run("swap", run_dir, adapter, expect=2)
    summary = run_json("resume", run_dir, timeout_s=1500)
    assert summary["episodes"]["completed"] >= NUM_EPISODES - 2
    records = require_flagged(run_dir)
    assert {version for record in records for version in record.weights} == {report["before"], report["after"]}
    last = max((step.reply for record in records for step in record.steps if step.reply), key=lambda r: r.started_at)
    assert last.weights == report["after"]


def test_a_driver_killed_between_load_and_commit_comes_up_on_the_old_weights(tmp_path: Path, base: Path) -> None:
    full = make_full(base, tmp_path / "r1")
    run_dir, process = begin(tmp_path, "models.base.replicas=2")
    swapping = start("swap", run_dir, full, "--policy", "finish_on_old")
    assert swapping.stderr is not None
    line = next(line for line in swapping.stderr if ": serves " in line)
    process.kill()
    process.communicate()
    _, err = swapping.communicate()
    assert swapping.returncode == 1 and "went away before it answered" in err
    assert last_line(run_dir)["event"] == "begin" and read_serving(RunDirectory.open(run_dir)) == {}
    summary = run_json("resume", run_dir, timeout_s=1500)
    assert summary["episodes"]["completed"] >= NUM_EPISODES - 2
    assert last_line(run_dir)["event"] == "abandoned"
    records = require_flagged(run_dir)
    last = max((step.reply for record in records for step in record.steps if step.reply), key=lambda r: r.started_at)
    assert not last.weights.startswith(line.split(": serves ")[1][:12])


def test_what_cannot_be_swapped_is_refused_and_the_run_goes_on(tmp_path: Path, base: Path) -> None:
    adapter = make_adapter(base, tmp_path / "r1")
    run_dir, process = begin(tmp_path, calls=5)
    assert "needs max_lora_rank >= 8, got 0" in run("swap", run_dir, adapter, expect=2)
    (adapter / "adapter_model.safetensors").write_bytes(b"cut off")
    said = run("swap", run_dir, adapter, expect=2)
    assert "adapter_model.safetensors must have the SHA-256" in said
    assert "--model must name one that can be swapped (base), got 'other'" in run(
        "swap", run_dir, "base", "--model", "other", expect=2
    )
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["episodes"]["completed"] >= NUM_EPISODES - 2
    require_flagged(run_dir)
