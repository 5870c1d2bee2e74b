"""Real vLLM in Ray, things dying in the middle: all episodes still end, none twice, and no process is left."""

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from actors.processes import ProcessRecord, ProcessTable, find_process
from tests.running import run_json, start
from tests.test_real_run import CONFIG, records_of, write_real_config

SMALL = CONFIG.replace("limit = 2", "limit = 16")

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(1800)]


def wait_until_calls(run_dir: Path, number: int, process: "subprocess.Popen[str]") -> None:
    """Wait until the run's own metrics count that many calls."""
    path, deadline = run_dir / "metrics.jsonl", time.monotonic() + 900
    while process.poll() is None and time.monotonic() < deadline:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        if lines and json.loads(lines[-1])["calls/total"] >= number:
            return
        time.sleep(0.5)
    raise AssertionError(f"the run never reached {number} calls: {process.communicate()}")


def replica_processes(run_dir: Path, replica: str) -> list[psutil.Process]:
    records = [record for record in ProcessTable(run_dir / "processes.json").records if record.replica == replica]
    found = [find_process(record) for record in records]
    return [process for process in found if process is not None]


def recorded(run_dir: Path) -> tuple[ProcessRecord, ...]:
    return ProcessTable(run_dir / "processes.json").records


def assert_all_ended_once(run_dir: Path) -> Counter[str]:
    records = records_of(run_dir)
    assert len({record.key.case for record in records}) == len(records) == 16
    return Counter(record.status for record in records)


def test_a_replica_killed_and_a_replica_hung_cost_no_episode(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    overrides = ["models.base.replicas=2", "models.base.stall_timeout_s=30", "scheduler.metrics_interval_s=1"]
    process = start("generate", write_real_config(tmp_path, SMALL), *overrides, "--out", run_dir, "--json")
    wait_until_calls(run_dir, 30, process)
    for killed in replica_processes(run_dir, "base/0"):
        killed.kill()
    wait_until_calls(run_dir, 60, process)
    for hung in replica_processes(run_dir, "base/1"):
        hung.suspend()
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["episodes"]["completed"] >= 14
    assert assert_all_ended_once(run_dir)["completed"] >= 14
    kinds = {past.kind for record in records_of(run_dir) for step in record.steps for past in step.attempts}
    assert "replica_lost" in kinds
    assert recorded(run_dir) == ()


def test_nothing_is_left_of_a_killed_run_after_a_resume(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    config = write_real_config(tmp_path, SMALL)
    process = start("generate", config, "scheduler.metrics_interval_s=1", "--out", run_dir)
    wait_until_calls(run_dir, 20, process)
    old = recorded(run_dir)
    assert len([record for record in old if record.replica == "base/0"]) >= 3
    for victim in reversed(replica_processes(run_dir, "base/0")):
        victim.kill()
    process.kill()
    process.communicate()
    summary = run_json("resume", run_dir, timeout_s=1500)
    assert summary["episodes"]["completed"] >= 14
    assert_all_ended_once(run_dir)
    assert [record for record in old if find_process(record) is not None] == []
    assert recorded(run_dir) == ()
