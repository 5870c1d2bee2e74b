import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.command import _run, choose, run_bench
from benchmarks.figures import Figure, figure
from benchmarks.results import load_record
from benchmarks.rows import ROWS, Row
from engine.errors import InputError

LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(str(child.pid))
"""


def test_a_brief_row_is_measured_recorded_and_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy.json"
    code = run_bench("simulation_speed", json_path=copy, is_brief=True, directory=tmp_path / "results")
    assert code == 0
    [path] = (tmp_path / "results").iterdir()
    record = load_record(path)
    assert record == load_record(copy)
    [speed, turns] = record.rows["simulation_speed"]
    assert speed.name == "simulation_speed"
    assert speed.median > 0
    assert turns.repeats == 1
    printed = capfd.readouterr()
    assert "simulation_speed" in printed.out
    assert "record:" not in printed.out
    assert f"record: {path}" in printed.err


def test_a_row_that_fails_is_said_and_tried_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The row's own process does not know this row, and refuses it.
    monkeypatch.setitem(ROWS, "absent", Row(measure=lambda _count, _is_brief: []))
    assert run_bench("absent", directory=tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert "failed: absent; the same command tries them again" in capfd.readouterr().err


def test_all_leaves_what_would_not_end_in_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(row: str, repeats: int, *, is_brief: bool) -> list[Figure]:
        measured.append(row)
        return [figure(row, "s", [1.0])]

    monkeypatch.setattr("benchmarks.command.measure", measure)
    assert run_bench("all", directory=tmp_path, within_min=10) == 0
    assert measured and set(measured) == {name for name in choose("all", is_brief=False) if ROWS[name].minutes < 10}
    said = capfd.readouterr().err
    assert "left for the next time, to end within 10 minutes: real_episodes, real, " in said
    measured.clear()
    assert run_bench("all", directory=tmp_path) == 0
    assert measured[0] == "real_episodes" and "left for the next time" not in capfd.readouterr().err


def test_what_a_row_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    assert _run([sys.executable, "-c", LEAVES_A_CHILD, str(note)]) == 0
    try:
        psutil.Process(int(note.read_text())).wait(10)
    except psutil.NoSuchProcess:
        pass


def test_brief_offers_only_rows_with_a_brief_variant() -> None:
    assert choose("all", is_brief=False) == [name for name, row in ROWS.items() if row.is_in_all]
    assert choose("lockstep", is_brief=False) == ["lockstep"]
    assert choose("all", is_brief=True) == [name for name, row in ROWS.items() if row.has_brief]
    assert {"real", "scheduler"} <= set(choose("all", is_brief=False))


@pytest.mark.parametrize(("name", "is_brief"), [("no such row", False), ("real", True)])
def test_an_unknown_row_is_refused_with_those_there_are(name: str, is_brief: bool) -> None:
    with pytest.raises(InputError, match="bench must be all or one of the rows.*scheduler"):
        choose(name, is_brief=is_brief)


def test_no_repeats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--repeats must be >= 1, got 0"):
        run_bench("scheduler", repeats=0, directory=tmp_path)


def test_the_command_refuses_an_unknown_row_as_bad_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine", "bench", "absent"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "bench must be all or one of the rows" in done.stderr
