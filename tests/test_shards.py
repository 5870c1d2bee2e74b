"""Several schedulers on real Ray nodes: every case once, a killed shard goes on from its journal, and so does a run."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.processes import ProcessRecord, ProcessTable
from engine.corpus import Corpus
from engine.egress_log import read_egress
from engine.rundir import RunDirectory
from tests.ray_nodes import ray_nodes
from tests.running import StubProcess, run, run_json, start, stub_process, write_config

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """Address of a cluster of two nodes."""
    with ray_nodes([{"num_cpus": 1}, {"num_cpus": 1}]) as address:
        yield address


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[StubProcess]:
    with stub_process(tmp_path) as running:
        yield running


def overrides(address: str, repeats: int) -> list[str]:
    return ["shards=2", f'ray.address="{address}"', f"cases.repeats={repeats}", "cases.limit=20"]


def keys_of(run_dir: Path) -> list[tuple[str, int]]:
    return [(record.key.case, record.key.repeat) for record in Corpus.open(RunDirectory.open(run_dir))]


def shard_records(run_dir: Path) -> list[ProcessRecord]:
    path = run_dir / "processes.json"
    records = ProcessTable(path).records if path.exists() else ()
    return [record for record in records if record.replica.startswith("shard/")]


def test_two_shards_play_every_case_once(tmp_path: Path, stub: StubProcess, ray_address: str) -> None:
    run_dir = tmp_path / "run"
    summary = run_json("generate", write_config(tmp_path, stub.url), *overrides(ray_address, 2), "--out", run_dir)
    assert summary["episodes"] == {"completed": 40, "failed": 0, "cancelled": 0}
    assert summary["calls"] == 40 * 26 == len(stub.calls())
    assert len(set(keys_of(run_dir))) == 40
    assert {path.name for path in (run_dir / "journals").glob("*.db")} == {"000.db", "001.db"}
    assert [len(one.outlets) for one in read_egress(run_dir)] == [4]
    homes = {
        name: {record.key.case for record in Corpus.open(RunDirectory.open(run_dir)).iterate(journal=name)}
        for name in (0, 1)
    }
    assert len(homes[0]) == len(homes[1]) == 10 and not homes[0] & homes[1]
    again = run_json("resume", run_dir)
    assert again["episodes"] == summary["episodes"] and len(stub.calls()) == summary["calls"]
    assert shard_records(run_dir) == []


def test_a_killed_shard_and_then_a_killed_driver_lose_nothing(
    tmp_path: Path, stub: StubProcess, ray_address: str
) -> None:
    run_dir = tmp_path / "run"
    process = start("generate", write_config(tmp_path, stub.url), *overrides(ray_address, 15), "--out", run_dir)
    wait_for_calls(stub, 300, process)
    victim = shard_records(run_dir)[0]
    os.kill(victim.pid, signal.SIGKILL)
    wait_for(lambda: victim not in (found := shard_records(run_dir)) and len(found) == 2, process)
    wait_for_calls(stub, len(stub.calls()) + 500, process)
    process.kill()
    process.communicate()
    summary = run_json("resume", run_dir)
    assert summary["episodes"] == {"completed": 300, "failed": 0, "cancelled": 0}
    assert len(set(keys_of(run_dir))) == len(keys_of(run_dir)) == 300
    asked = Counter((call["episode"], call["step"]) for call in stub.calls())
    assert len(asked) == 300 * 26
    assert sum(asked.values()) - len(asked) <= 3 * 256


def test_shards_keep_their_journals_on_disks_of_their_nodes(
    tmp_path: Path, stub: StubProcess, ray_address: str
) -> None:
    run_dir, node = tmp_path / "run", tmp_path / "node"
    node.mkdir()
    local = [f"journal.local_dir={node}", "journal.copy_every_s=0.5"]
    settings = [*overrides(ray_address, 10), *local]
    process = start("generate", write_config(tmp_path, stub.url), *settings, "--out", run_dir)
    wait_for_calls(stub, 300, process)
    assert {path.name for path in node.glob("*/*.db") if path.stem.isdigit()} == {"000.db", "001.db"}
    os.kill(shard_records(run_dir)[0].pid, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert f": journal in {node}, copied to the run directory every 0.5 s" in said
    assert "it is started again from its journal" in said and "is not to be had" not in said
    assert list(node.iterdir()) == []
    assert len(set(keys_of(run_dir))) == len(keys_of(run_dir)) == 200
    asked = Counter((call["episode"], call["step"]) for call in stub.calls())
    assert len(asked) == 200 * 26
    assert sum(asked.values()) - len(asked) <= 256


def wait_for_calls(stub: StubProcess, number: int, process: "subprocess.Popen[str]") -> None:
    wait_for(lambda: stub.num_lines >= number, process)


def wait_for(is_so: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_more_shards_than_replicas_are_refused(tmp_path: Path) -> None:
    table = 'models.base={kind="vllm", model="smollm2-135m", replicas=2}'
    said = run("generate", write_config(tmp_path, "http://127.0.0.1:9/v1"), table, "shards=3", "--dry-run", expect=2)
    assert "models.base.replicas must be >= shards=3, got 2" in said
