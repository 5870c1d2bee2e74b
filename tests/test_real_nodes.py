"""Real vLLM on two Ray nodes that were started as people start them, behind a token, each model on one of them."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.record import EpisodeRecord
from tests.running import start
from tests.started_nodes import StartedCluster, started_cluster
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


@pytest.fixture
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


def test_two_models_on_two_nodes_behind_a_token(
    tmp_path: Path, cluster: StartedCluster, models: tuple[Path, Path]
) -> None:
    run_dir = tmp_path / "run"
    config = write_config(tmp_path, cluster, models, cases=4)
    summary, err = finish(start("generate", config, "--out", run_dir, "--json", env=cluster.env))
    assert summary["episodes"] == {"completed": 4, "failed": 0, "cancelled": 0}
    records = records_of(run_dir)
    assert_each_ended_once(records, 4)
    assert "one: 1 x (0 GPUs, 1 CPU), each on one node: 127.0.0." in err
    replicas = {(step.role, step.reply.replica) for record in records for step in record.steps if step.reply}
    assert replicas == {("patient", "one/0"), ("therapist", "two/0")}
