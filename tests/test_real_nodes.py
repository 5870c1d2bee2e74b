"""Real vLLM on two Ray nodes that were started as people start them, behind a token, each model on one of them."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from actors.leftovers import LOST
from actors.processes import ProcessTable
from engine.record import EpisodeRecord
from tests.running import run, runs, start
from tests.started_nodes import StartedCluster, StartedNode, separates_nodes, started_cluster
from tests.test_real_faults import wait_until_calls
from tests.test_real_run import records_of
from tests.tiny_model import write_tiny_model

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

CONFIG = """
name = "nodes"
[protocol]
name = "counseling"
max_turns = 2
max_tokens = 16
[cases]
source = "bundled"
limit = {cases}
[models.one]
model = "{one}"
[models.two]
model = "{two}"
[roles]
patient = "one"
therapist = "two"
[ray]
address = "{address}"
cpus_per_replica = 1
"""
MODEL = 'kind = "vllm"\nmax_model_len = 2048\nkv_cache_gib = 0.3\nblock_size = 32\nmax_num_seqs = 16\n'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small random models, of different weights."""
    directory = tmp_path_factory.mktemp("models")
    one, two = (write_tiny_model(directory / name, seed) for seed, name in enumerate(("one", "two")))
    return one, two


@pytest.fixture(scope="module")
def cluster() -> Iterator[StartedCluster]:
    with started_cluster([1, 1]) as started:
        yield started


def write_config(directory: Path, cluster: StartedCluster, models: tuple[Path, Path], cases: int) -> Path:
    text = CONFIG.format(cases=cases, one=models[0], two=models[1], address=cluster.address)
    path = directory / "nodes.toml"
    path.write_text(text.replace(".one]\n", f".one]\n{MODEL}").replace(".two]\n", f".two]\n{MODEL}"), "utf-8")
    return path


def finish(process: "subprocess.Popen[str]", within_s: float = 500) -> tuple[dict[str, object], str]:
    out, err = process.communicate(timeout=within_s)
    assert process.returncode == 0, err
    summary: dict[str, object] = json.loads(out.splitlines()[-1])
    return summary, err


def assert_each_ended_once(records: list[EpisodeRecord], cases: int) -> None:
    assert len({record.key.case for record in records}) == len(records) == cases
    paths = Counter((record.key, step.path) for record in records for step in record.steps)
    assert set(paths.values()) == {1}


def holding(text: str, *directories: Path) -> list[Path]:
    """Return the files in which a text stands."""
    files = [file for directory in directories for file in directory.rglob("*") if file.is_file()]
    assert len(files) > 10
    return [file for file in files if text.encode() in file.read_bytes()]


def test_two_models_on_two_nodes_behind_a_token(
    tmp_path: Path, cluster: StartedCluster, models: tuple[Path, Path]
) -> None:
    run_dir = tmp_path / "run"
    config = write_config(tmp_path, cluster, models, cases=4)
    summary, err = finish(start("generate", config, "--out", run_dir, "--json", env=cluster.env))
    assert summary["episodes"] == {"completed": 4, "failed": 0, "cancelled": 0}
    records = records_of(run_dir)
    assert_each_ended_once(records, 4)
    places = re.findall(r"  (one|two): 1 x \(0 GPUs, 1 CPU\), each on one node: (127\.0\.0\.[23])\n", err)
    assert len(places) == 2 and len(dict(places)) == len({address for _, address in places}) == 2
    assert not holding(cluster.token, run_dir, cluster.directory / "ray") and cluster.token not in err
    replicas = {(step.role, step.reply.replica) for record in records for step in record.steps if step.reply}
    assert replicas == {("patient", "one/0"), ("therapist", "two/0")}


@pytest.mark.skipif(not separates_nodes(), reason="a process may not have mounts of its own here")
def test_a_node_that_runs_something_else_is_refused(
    tmp_path: Path, cluster: StartedCluster, models: tuple[Path, Path]
) -> None:
    vllm = Path(str(importlib.metadata.distribution(VLLM)._path)).resolve()  # type: ignore[attr-defined]
    other = shutil.copytree(vllm, tmp_path / "dist-info")
    text = (other / "METADATA").read_text("utf-8")
    (other / "METADATA").write_text(re.sub(r"(?m)^Version: .*$", "Version: 0.1.2", text), "utf-8")
    (tmp_path / "empty").mkdir()
    odd = cluster.add(instead={vllm: other, models[0]: tmp_path / "empty"})
    config = write_config(tmp_path, cluster, models, cases=4)
    begun = time.monotonic()
    out = tmp_path / "run"
    said = run("generate", config, "--out", out, expect=2, env=cluster.env)
    odd.end()
    assert time.monotonic() - begun < 60 and not out.exists()
    here = importlib.metadata.version(VLLM)
    names = r"127\.0\.0\.2, 127\.0\.0\.3|127\.0\.0\.3, 127\.0\.0\.2"
    assert re.search(rf"vLLM must be the same on every node, got .*{re.escape(here)}.* on ({names})", said)
    assert re.search(rf"0\.1\.2.* on {re.escape(odd.ip)}", said)
    assert re.search(rf"model one must be the same .*none on {re.escape(odd.ip)}: bring it there", said)
    assert "model two must" not in said and "Sandplay must" not in said
    (row,) = (line for line in said.splitlines() if line.startswith(odd.ip))
    assert "0.1.2" in row


def node_of(cluster: StartedCluster, run_dir: Path, replica: str) -> StartedNode:
    """Return the node whose processes that replica is."""
    pids = {record.pid for record in ProcessTable(run_dir / "processes.json").of(replica)}
    for node in cluster.nodes:
        if pids & {child.pid for child in psutil.Process(node.process.pid).children(recursive=True)}:
            return node
    raise AssertionError(f"{replica} runs on none of the nodes")


VLLM = "vllm-cpu"
LONGER = ("protocol.max_turns=5", "protocol.max_tokens=48", "scheduler.metrics_interval_s=0.5")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_node_lost_costs_no_episode_and_nothing_is_answered_twice(tmp_path: Path, models: tuple[Path, Path]) -> None:
    # The head takes no replica, and of the three others one is spare.
    with started_cluster([0, 1, 1, 1]) as cluster:
        run_dir = tmp_path / "run"
        config = write_config(tmp_path, cluster, models, cases=24)
        process = start("generate", config, *LONGER, "--out", run_dir, "--json", env=cluster.env)
        wait_until_calls(run_dir, 40, process)
        lost = ProcessTable(run_dir / "processes.json").of("two/0")
        node = node_of(cluster, run_dir, "two/0")
        node.lose()
        summary, err = finish(process, within_s=900)
        assert not any(runs(record.pid) for record in lost)
        assert summary["episodes"] == {"completed": 24, "failed": 0, "cancelled": 0}, err
        records = records_of(run_dir)
        assert_each_ended_once(records, 24)
        failures = [(step.role, past.kind) for record in records for step in record.steps for past in step.attempts]
        # What was under way on that node is asked again: of each dialogue at most the one call that it waits for.
        assert 0 < len(failures) <= 24 and set(failures) == {("therapist", "replica_lost")}
        assert summary["calls"] == summary["replies"] + len(failures)  # type: ignore[operator]
        kept = ProcessTable(run_dir / "processes.json").records
        assert {(record.replica, record.host) for record in kept} <= {(LOST, node.host)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_without_room_for_what_was_lost_the_run_waits_for_a_node(tmp_path: Path, models: tuple[Path, Path]) -> None:
    with started_cluster([0, 1, 1]) as cluster:
        run_dir = tmp_path / "run"
        config = write_config(tmp_path, cluster, models, cases=24)
        process = start("generate", config, *LONGER, "--out", run_dir, "--json", env=cluster.env)
        wait_until_calls(run_dir, 40, process)
        node_of(cluster, run_dir, "two/0").lose()
        assert process.stderr is not None
        assert any("two/0: waiting for a place, asked CPU 1, free" in line for line in process.stderr)
        cluster.add()
        summary, _ = finish(process, within_s=900)
        assert summary["episodes"] == {"completed": 24, "failed": 0, "cancelled": 0}
        assert_each_ended_once(records_of(run_dir), 24)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_with_no_replica_left_the_run_ends_and_goes_on_once_a_node_is_there(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    with started_cluster([0, 1, 1]) as cluster:
        run_dir = tmp_path / "run"
        config = write_config(tmp_path, cluster, models, cases=24)
        process = start("generate", config, *LONGER, "models.two.max_restarts=0", "--out", run_dir, env=cluster.env)
        wait_until_calls(run_dir, 40, process)
        node_of(cluster, run_dir, "two/0").lose()
        _, err = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "pool two has no replica left; the last one: two/0 died" in err
        assert f"go on with: sandplay resume {run_dir}" in err
        cluster.add()
        summary, _ = finish(start("resume", run_dir, "--json", env=cluster.env), within_s=900)
        assert summary["episodes"] == {"completed": 24, "failed": 0, "cancelled": 0}
        assert_each_ended_once(records_of(run_dir), 24)
