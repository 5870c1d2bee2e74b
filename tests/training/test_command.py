"""`sandplay samples` as it is typed: published records, a run directory, cases; and what is refused."""

import json
from pathlib import Path

import pytest

from engine.example_episode import example_episode
from engine.journal import Journal
from engine.rundir import RunDirectory
from tests.running import run, run_json
from tests.training.records import FIELDS, write_records


def read_rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
async def run_dir(tmp_path: Path) -> Path:
    """A run with the example episode, played by hand."""
    record, _ = example_episode()
    rundir = RunDirectory.create(tmp_path / "run", {"config.toml": b'[protocol]\nname = "mental_arena"\n'})
    journal = Journal.open(rundir)
    journal.admit(record.key, record.seed, 0.0)
    journal.end(record)
    await journal.close()
    return rundir.path


def test_records_become_rows_with_a_card(tmp_path: Path) -> None:
    records = write_records(tmp_path / "records.jsonl", FIELDS, FIELDS)
    found = run_json("samples", "--from", records, "--to", tmp_path / "out")
    assert (found["rows"], found["kinds"]) == (2, {"diagnosis": 1, "treatment": 1})
    assert found["dropped"] == {"empty": 2, "duplicate": 2}
    rows = read_rows(tmp_path / "out" / "train.jsonl")
    assert [(row["kind"], row["label"], row["episode"]) for row in rows] == [
        ("diagnosis", "major depressive disorder", "records:1"),
        ("treatment", "", "records:1"),
    ]
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "| empty | 2 |" in card and "Synthetic data for research" in card


def test_legacy_reproduces_the_published_rows(tmp_path: Path) -> None:
    records = write_records(tmp_path / "records.jsonl", FIELDS, FIELDS)
    found = run_json("samples", records, "legacy=true", "--to", tmp_path / "m.jsonl")
    assert (found["rows"], found["dropped"]) == (4, {})
    assert all(set(row) == {"messages"} for row in read_rows(tmp_path / "m.jsonl"))
    found = run_json("samples", records, "legacy=true", "--format", "text", "--to", tmp_path / "t.jsonl")
    assert (found["rows"], found["dropped"]) == (2, {"duplicate": 2})
    assert all(set(row) == {"text"} for row in read_rows(tmp_path / "t.jsonl"))
    assert (tmp_path / "t.jsonl.card.md").is_file()


def test_a_run_directory_gives_answers_turns_and_pairs(run_dir: Path, tmp_path: Path) -> None:
    kinds = [word for kind in ("diagnosis", "patient", "therapist") for word in ("--kind", kind)]
    found = run_json("samples", "--from", run_dir, *kinds, "--to", tmp_path / "a")
    assert found["kinds"] == {"diagnosis": 1, "patient": 1, "therapist": 1}
    found = run_json("samples", "--from", run_dir, "--format", "preference", "--to", tmp_path / "b")
    assert found["kinds"] == {"plan": 2}


def test_cases_give_warm_up_rows(tmp_path: Path) -> None:
    cases = Path(__file__).parents[2] / "engine" / "cases" / "bundled" / "cases.json"
    found = run_json("samples", "--from", cases, "--kind", "warmup", "--to", tmp_path / "a")
    assert found["kinds"] == {"warmup": 56} and not found["dropped"]


def test_what_is_wrong_is_named_all_at_once(tmp_path: Path) -> None:
    records = write_records(tmp_path / "records.jsonl", FIELDS, {"symptom": "x"}, 7)
    assert run("samples", "near=2", "nera=1", expect=2).splitlines() == [
        "sandplay: sources are missing: give --from DIR|FILE",
        "sandplay: the target is missing: give --to PATH",
        "sandplay: unknown configuration key nera: did you mean near?",
    ]
    said = run("samples", records, tmp_path / "gone", "nera=1", "--to", tmp_path / "out", expect=2)
    assert "gone: correct it" in said and "did you mean near?" in said
    said = run("samples", records, "--to", tmp_path / "out", expect=2)
    assert "records.jsonl:2: must have the texts" in said and "records.jsonl:3: must be one JSON object" in said
    assert not (tmp_path / "out").exists()


def test_nothing_left_is_refused_with_the_reasons(tmp_path: Path) -> None:
    records = write_records(tmp_path / "records.jsonl", FIELDS)
    said = run("samples", records, "--kind", "medication", "--to", tmp_path / "out", expect=2)
    assert "at least one row" in said and "1 empty" in said
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]
