"""Runs with a target, as a user plays them: it may be down, refuse or hang, and the run is played and copied later."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.commands.keeping import kept_inside
from engine.config import read_table
from engine.corpus_parts import decode_manifest
from engine.planning import make_plan
from tests.running import StubProcess, free_port, run, start, stub_process, write_config
from tests.s3_stub import KEYS, Store, serve_store

FOLDER = "bucket/runs/first"
MANIFEST = f"{FOLDER}/episodes/000.manifest.jsonl"


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[StubProcess]:
    with stub_process(tmp_path) as running:
        yield running


@pytest.fixture
def store() -> Iterator[Store]:
    with serve_store() as served:
        yield served


def arguments(config: Path, uri: str, out: Path, episodes: int = 4) -> list[Any]:
    settings = [f"cases.limit={episodes}", "scheduler.seal_every=2", f"corpus.target={uri}"]
    return ["generate", config, *settings, "--out", out]


def finish(process: "subprocess.Popen[str]", expect: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=110)
    assert process.returncode == expect, f"{out}\n{err}"
    assert "Traceback" not in err and "FinalizeS3" not in err and "hush" not in out + err
    return out, err


def files_of(directory: Path) -> dict[str, bytes]:
    """The files of a run that stand at its target as well."""
    kept = [path for path in directory.rglob("*") if path.is_file() and path.parent.name != "journals"]
    mine = ("driver.lock", "gate.lock", "processes.json", "control.sock")
    return {f"{FOLDER}/{path.relative_to(directory)}": path.read_bytes() for path in kept if path.name not in mine}


def num_named(store: Store) -> int:
    parts = decode_manifest(store.objects[MANIFEST], "target").parts if MANIFEST in store.objects else ()
    for part in parts:
        assert len(store.objects[f"{FOLDER}/episodes/{part.file}"]) == part.size
    return len(parts)


@pytest.mark.timeout(300)
def test_a_run_stands_whole_at_its_target_and_is_read_there(tmp_path: Path, stub: StubProcess, store: Store) -> None:
    out = tmp_path / "first"
    said = finish(
        start(*arguments(write_config(tmp_path, stub.url), store.uri("bucket/runs"), out), "--json", env=KEYS)
    )
    summary = json.loads(said[0].splitlines()[-1])
    assert summary["target"] == {"place": f"s3://{FOLDER}", "parts": 2, "problem": ""}
    assert f"2 parts and the rest of the run are at s3://{FOLDER}" in said[1]
    assert store.objects == files_of(out) and num_named(store) == 2
    assert "target/parts" in json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])

    uri = store.uri(FOLDER)
    data = tmp_path / "data.jsonl"
    assert "4 completed" in run("status", uri, env=KEYS)
    assert run("export", uri, "--format", "records", "--to", data, env=KEYS).startswith("4 rows of 4 episodes")
    run("samples", uri, "--kind", "diagnosis", "--to", tmp_path / "rows.jsonl", env=KEYS)
    page = tmp_path / "page.html"
    assert "add --to report.html" in run("report", uri, expect=2, env=KEYS)
    assert str(page) in run("report", uri, "--to", page, env=KEYS) and page.read_text("utf-8").startswith("<!")
    assert "sandplay fetch-run s3://bucket/runs/first DIR" in run("resume", uri, expect=2, env=KEYS)

    back = tmp_path / "back"
    run("fetch-run", uri, back, env=KEYS)
    kept = dict(store.objects)
    num_calls = stub.num_lines
    run("resume", back, env=KEYS)
    assert stub.num_lines == num_calls and store.objects.keys() == kept.keys()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["down", "refused"])
def test_a_target_that_fails_fails_no_run_and_resume_makes_up_for_it(
    tmp_path: Path, stub: StubProcess, store: Store, how: str
) -> None:
    out, port = tmp_path / "first", free_port()
    uri = store.uri("bucket/runs") if how == "refused" else store.uri("bucket/runs").replace(str(store.port), str(port))
    store.fault = lambda method, key: 403
    said = finish(start(*arguments(write_config(tmp_path, stub.url), uri, out), "--json", env=KEYS))
    assert "the run is played, and copied once that works" in said[1]
    assert "so the target may lack some of it; copy the rest with: sandplay resume" in said[1]
    summary = json.loads(said[0].splitlines()[-1])
    assert summary["episodes"]["completed"] == 4
    assert summary["target"]["problem"].startswith("the target cannot be written: ")
    assert store.objects == {}
    store.fault = lambda method, key: None
    num_calls = stub.num_lines
    finish(start("resume", out, f"corpus.target={store.uri('bucket/runs')}", env=KEYS))
    assert stub.num_lines == num_calls and store.objects == files_of(out)


@pytest.mark.timeout(300)
def test_a_driver_that_is_killed_between_part_and_manifest(tmp_path: Path, stub: StubProcess, store: Store) -> None:
    out, asked, goes_on = tmp_path / "first", threading.Event(), threading.Event()

    def fault(method: str, key: str) -> int | None:
        if method == "PUT" and key == MANIFEST and not goes_on.is_set():
            asked.set()
            goes_on.wait(60)
            return 0
        return None

    store.fault = fault
    process = start(*arguments(write_config(tmp_path, stub.url), store.uri("bucket/runs"), out, 28), env=KEYS)
    assert asked.wait(60)
    process.kill()
    process.communicate()
    goes_on.set()
    assert f"{FOLDER}/episodes/000-00000.parquet" in store.objects and num_named(store) == 0
    finish(start("resume", out, env=KEYS))
    assert num_named(store) == len(list((out / "episodes").glob("*.parquet"))) > 1
    assert store.objects == files_of(out)


def test_ctrl_c_waits_for_no_store_that_hangs(tmp_path: Path, stub: StubProcess, store: Store) -> None:
    out, asked, answers = tmp_path / "first", threading.Event(), threading.Event()

    def fault(method: str, key: str) -> int | None:
        if method == "PUT" and key.endswith(".parquet") and not answers.is_set():
            asked.set()
            answers.wait(60)
            return 0
        return None

    store.fault = fault
    more = ["cases.repeats=20", "scheduler.max_live=8"]
    process = start(*arguments(write_config(tmp_path, stub.url), store.uri("bucket/runs"), out, 28), *more, env=KEYS)
    try:
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=25)[1]  # the store's client alone would wait longer
    finally:
        process.kill()
        answers.set()
    assert process.returncode == 130 and "the run was interrupted, so the target may lack some of it" in said


def test_a_folder_that_is_taken_is_refused_before_anything_is_played(
    tmp_path: Path, stub: StubProcess, store: Store
) -> None:
    store.objects[f"{FOLDER}/config.toml"] = b"another"
    config = write_config(tmp_path, stub.url)
    _, said = finish(start(*arguments(config, store.uri("bucket/runs"), tmp_path / "first"), env=KEYS), expect=2)
    assert f"the folder s3://{FOLDER} must be empty or this run's, got one with config.toml in it" in said
    assert not (tmp_path / "first").exists() and stub.num_lines == 0


def test_a_target_elsewhere_needs_leave_for_texts_to_go_there(tmp_path: Path, stub: StubProcess) -> None:
    out = tmp_path / "first"
    config = write_config(tmp_path, stub.url)
    elsewhere = "corpus.target=s3://bucket/runs?region=x"
    said = run("generate", config, "cases.limit=1", elsewhere, "--out", out, expect=2)
    assert "the copy must be kept on this machine or its cluster, got corpus.target at bucket" in said
    assert not out.exists()
    run("generate", config, "cases.limit=1", "--out", out)
    assert 'privacy.egress = "allow"' in run("resume", out, elsewhere, expect=2)


def test_credentials_in_a_configuration_are_refused_unseen(tmp_path: Path, stub: StubProcess) -> None:
    config = write_config(tmp_path, stub.url, '[corpus]\ntarget = "s3://hush:hush@bucket/runs"\n')
    said = run("generate", config, "--out", tmp_path / "first", expect=2)
    assert "corpus.target must name nobody" in said and "hush" not in said


def test_a_target_may_change_on_resume(tmp_path: Path, stub: StubProcess, store: Store) -> None:
    out = tmp_path / "first"
    config = write_config(tmp_path, stub.url)
    finish(start(*arguments(config, (tmp_path / "near").as_uri(), out), env=KEYS))
    assert (tmp_path / "near" / "first" / "report.html").is_file()
    finish(start("resume", out, f"corpus.target={store.uri('bucket/runs')}", env=KEYS))
    assert store.objects == files_of(out)
    assert read_table(out / "config.toml")["corpus"]["target"] == (tmp_path / "near").as_uri()


def test_runs_of_rounds_lie_in_a_folder_of_all_of_them(tmp_path: Path) -> None:
    config = write_config(tmp_path, "http://127.0.0.1:1/v1", '[corpus]\ntarget = "s3://b/all?region=x"\n')
    plan = make_plan(read_table(config), tmp_path)
    inner = kept_inside(plan, "my rounds")
    assert inner.config.corpus.target == inner.table["corpus"]["target"] == "s3://b/all/my%20rounds?region=x"
    assert plan.config.corpus.target == plan.table["corpus"]["target"] == "s3://b/all?region=x"
    assert kept_inside(inner, "x").config.cases == plan.config.cases
