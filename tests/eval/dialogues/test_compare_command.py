"""`sandplay compare` on dialogues: what goes with what, what is printed, what is refused."""

import json
from pathlib import Path

import pytest

from engine.commands.compare import KINDS, compare
from engine.errors import InputError
from engine.rundir import RunDirectory
from tests.eval.quality.records import TALK, keep_run, make_record

LONGER = (*TALK, ("therapist", "And the shutters?"), ("patient", "Closed. The cellist asked on Tuesday."))


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    keep_run(tmp_path / "before", [make_record()])
    keep_run(tmp_path / "after", [make_record(talk=LONGER)])
    return [tmp_path / "before", tmp_path / "after"]


def other(path: Path, protocol: str) -> Path:
    return RunDirectory.create(path, {"config.toml": f'[protocol]\nname = "{protocol}"\n'.encode()}).path


def test_dialogues_are_compared_with_a_picture(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(runs, False, tmp_path / "curve.svg", True)
    found = json.loads(capsys.readouterr().out)["dialogues"]
    assert [one["name"] for one in found["runs"]] == ["before", "after"] and found["turn"] == 2
    before, after = (one["curve"] for one in found["runs"])
    assert after[:2] == before[:2] and after[2] > after[1]
    assert "The number of patient turns differs (before 2, after 3)" in found["notes"][0]
    assert (tmp_path / "curve.svg").is_file()
    compare(runs, False, None, False)
    shown = capsys.readouterr().out
    assert "before against after" in shown and "counts words, not meaning" in shown


def test_runs_of_one_name_are_told_apart(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    compare([runs[0], runs[0]], False, None, True)
    found = json.loads(capsys.readouterr().out)["dialogues"]
    assert [one["name"] for one in found["runs"]] == [str(runs[0])] * 2


def test_kinds_are_not_mixed_and_unknown_ones_are_named(runs: list[Path], tmp_path: Path) -> None:
    strange, exam = other(tmp_path / "own", "my.py:talk"), other(tmp_path / "exam", "items")
    for wrong in ([runs[0], exam], [runs[0], strange], [strange, strange]):
        with pytest.raises(InputError) as refused:
            compare(wrong, False, None, False)
        (problem,) = refused.value.problems
        assert (
            problem.startswith("runs to compare must be of one kind (items") and "mental_arena, counseling" in problem
        )
        assert all(f"{path} (" in problem for path in wrong)
    assert set(KINDS) >= {"items", "mental_arena", "counseling"}


def test_options_of_the_other_kind_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--paper must be given with exams"):
        compare(runs, True, None, False)
    with pytest.raises(InputError, match="must be two or more, got 1"):
        compare(runs[:1], False, None, False)
