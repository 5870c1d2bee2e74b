"""Runs whose cases and principles are data sets of the hub, on a stub of it: what is kept, and resume without a hub."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_stub import CASE, COMMIT, GROUPS, OLDER, Hub, serve_hub
from tests.running import StubProcess, run, stub_process, write_config

SOURCES = """
[cases]
source = "hf:org/cases"
revision = "v1"
[principles]
source = "hf:org/experts"
"""


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[StubProcess]:
    with stub_process(tmp_path) as running:
        yield running


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as served:
        yield served


def environment(hub: Hub, tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0", **more}


def test_a_run_keeps_what_it_read_and_goes_on_without_the_hub(tmp_path: Path, stub: StubProcess, hub: Hub) -> None:
    config, out = write_config(tmp_path, stub.url, SOURCES), tmp_path / "run"
    said = run("generate", config, "--dry-run", expect=2, env=environment(hub, tmp_path))
    assert (
        "cases.source: hf:org/cases at v1 is not in the local cache: sandplay fetch hf:org/cases --revision v1" in said
    )
    assert "principles.source: hf:org/experts is not" in said and hub.requests == []

    told = run("fetch", config, env=environment(hub, tmp_path))
    assert f"hf:org/cases at {OLDER[:12]}: 1 files" in told
    run("generate", config, "--dry-run", env=environment(hub, tmp_path, HF_HUB_OFFLINE="1"))
    assert hub.downloads() == ["data/train.jsonl", "experts.json"]

    run("generate", config, "--out", out, env=environment(hub, tmp_path))
    commits = json.loads((out / "inputs" / "commits.json").read_bytes())
    assert commits == {"cases.source": OLDER, "principles.source": COMMIT}
    assert json.loads((out / "inputs" / "cases.jsonl").read_bytes())["id"] == CASE["id"]
    assert json.loads((out / "inputs" / "principles.json").read_bytes()) == GROUPS

    hub.requests.clear()
    empty = environment(hub, tmp_path / "elsewhere")
    assert "1 completed" in run("resume", out, env=empty)
    said = run("resume", out, "cases.revision=main", expect=2, env=empty)
    assert "cases.revision is part of the run's identity: it was 'v1', got 'main'" in said
    assert hub.requests == []


def test_problems_of_all_sources_come_together(tmp_path: Path, stub: StubProcess, hub: Hub) -> None:
    sources = SOURCES.replace("org/cases", "org/gated").replace("hf:org/experts", "hf:org/none:x.csv")
    config = write_config(tmp_path, stub.url, sources.replace('revision = "v1"', ""))
    said = run("generate", config, "--out", tmp_path / "run", expect=2, env=environment(hub, tmp_path))
    assert "cases.source: org/gated is gated: accept its licence at https://huggingface.co/datasets/org/gated" in said
    assert "principles.source: a data set must be one of the hub, got hf:org/none:x.csv" in said
    assert not (tmp_path / "run").exists() and "Traceback" not in said


def test_a_revision_or_columns_of_what_has_none(tmp_path: Path, stub: StubProcess) -> None:
    config = write_config(tmp_path, stub.url, '[cases]\nrevision = "v1"')
    said = run("generate", config, "--out", tmp_path / "run", expect=2)
    assert "cases.revision must be left out for bundled, got 'v1': only a data set of the hub has revisions" in said
