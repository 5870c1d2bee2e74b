"""`sandplay swap` against runs that cannot be swapped: every problem at once, with what to do."""

from pathlib import Path

import pytest

from engine.rundir import RunDirectory
from engine.serving import SwapLog
from tests.running import run, run_json, start, stub_process, write_config


def test_a_run_that_nobody_plays_and_bad_arguments_are_refused(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with stub_process(tmp_path) as stub:
        run_json("generate", write_config(tmp_path, stub.url), "cases.limit=1", "--out", run_dir)
    assert f"got none that listens: start it with sandplay resume {run_dir}" in run("swap", run_dir, "base", expect=2)
    said = run("swap", run_dir, tmp_path / "nothing", "--policy", "later", expect=2)
    assert "--policy must be finish_on_old, drain or mix, got 'later'" in said
    assert f"CHECKPOINT must be a checkpoint directory or `base`, got {tmp_path / 'nothing'}" in said
    assert "must be a run directory" in run("swap", tmp_path / "elsewhere", "base", expect=2)
    assert not (run_dir / "control.sock").exists()


def test_a_run_of_rounds_is_refused_it_decides_itself_what_it_serves(tmp_path: Path) -> None:
    (tmp_path / "rounds.toml").touch()
    (tmp_path / "round-0").mkdir()
    for place in (tmp_path, tmp_path / "round-0"):
        assert f"decides itself what it serves, got {place}" in run("swap", place, "base", expect=2)


@pytest.mark.timeout(200)
def test_a_run_that_is_played_is_swapped_recorded_and_goes_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        process = start("generate", config, 'cases.source="sampled"', "cases.limit=400", "--out", run_dir)
        while stub.num_lines < 50:
            assert process.poll() is None
        assert (run_dir / "control.sock").stat().st_mode & 0o777 == 0o600
        assert "stub -> stub; nothing stood still" in run("swap", run_dir, "base")
        said = run("swap", run_dir, "base", "--model", "other", expect=2)
        assert "--model must name one that can be swapped (base), got 'other'" in said
        _, err = process.communicate(timeout=150)
        assert process.returncode == 0, err
    assert not (run_dir / "control.sock").exists()
    assert [line["event"] for line in SwapLog(RunDirectory.open(run_dir)).lines()] == ["begin", "end"]
