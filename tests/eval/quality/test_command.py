"""The command: runs and rounds found, figures printed, bad paths refused at once."""

import asyncio
import json
from pathlib import Path

import pytest

from engine.errors import InputError
from eval.quality.command import quality, report, runs_in
from tests.eval.quality.records import TALK, keep_run, make_failed, make_record

HOSTILE = "\x1b[2J[bold]very loud words here"


def make_rounds(path: Path, *sizes: int) -> Path:
    for number, size in enumerate(sizes):
        keep_run(path / f"round-{number}", [make_record(f"{number}-{n}") for n in range(size)])
    return path


def test_rounds_stand_in_order_of_their_number(tmp_path: Path) -> None:
    rounds = make_rounds(tmp_path / "rounds", *[1] * 11)
    keep_run(rounds / "exam", [make_record()])
    (rounds / "round-x").mkdir()
    assert [name for name, _ in runs_in([rounds])] == [f"rounds/round-{n}" for n in range(11)]


def test_a_run_and_rounds_alike(tmp_path: Path) -> None:
    run = keep_run(tmp_path / "run", [make_record("a"), make_failed("b")])
    found = asyncio.run(quality([run.path, make_rounds(tmp_path / "rounds", 2, 1)]))
    assert [(one.name, one.num_episodes) for one in found] == [("run", 2), ("rounds/round-0", 2), ("rounds/round-1", 1)]
    assert found[1].duplicates.num == 1


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(asyncio.run(quality([make_rounds(tmp_path / "rounds", 2)])), as_json=True)
    (corpus,) = json.loads(capsys.readouterr().out)["corpora"]
    assert corpus["statuses"] == {"completed": 2}
    assert corpus["turns"]["mean"] == 4.0
    assert corpus["roles"]["patient"]["num_turns"] == 4


def test_the_table_has_a_column_per_corpus_and_no_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = [*TALK, ("therapist", "So you hide your shaking hands from every customer."), ("patient", HOSTILE)]
    records = [make_record("a", talk), make_record("b", is_retried=True), make_record("c"), make_record("d", talk)]
    keep_run(tmp_path / "rounds" / "round-0", records)
    keep_run(tmp_path / "rounds" / "round-1", [make_record()])
    report(asyncio.run(quality([tmp_path / "rounds"])))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    row = next(line for line in shown.splitlines() if line.strip().startswith("turns per episode"))
    assert row.split()[3:] == ["5.0,", "p90", "6", "4.0,", "p90", "4"]
    assert "hide your shaking hands from every" in shown
    assert "retried episodes (1) and others" in shown
    assert "perplexity" not in shown


def test_bad_paths_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as refused:
        runs_in([tmp_path / "none", tmp_path / "empty"])
    assert len(refused.value.problems) == 2
    assert "is no directory" in refused.value.problems[0] and "holds neither" in refused.value.problems[1]
    with pytest.raises(InputError, match="at least one run directory"):
        runs_in([])


def test_a_run_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one finished episode"):
        asyncio.run(quality([keep_run(tmp_path / "run", []).path]))
