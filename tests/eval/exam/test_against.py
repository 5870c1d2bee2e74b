"""`sandplay exam --against`: what the training corpus had shown is said before anything is asked, and kept."""

import json
from pathlib import Path

from engine.config import read_table
from engine.planning import freeze
from eval.exam import Materials
from eval.exam.planning import plan_exam
from eval.exam.report import read_scores
from tests.eval.exam.making import QUESTIONS
from tests.eval.exam.test_exam_command import by_table, write_config
from tests.running import run, run_json
from tests.stub import serve


def row_of(number: int) -> str:
    text, options, _ = QUESTIONS[number]
    return json.dumps({"messages": [{"role": "user", "content": f"{text} {' '.join(options)}"}]}) + "\n"


def test_overlap_is_said_first_and_the_clean_score_stands_beside_the_whole(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(row_of(0) + row_of(1), "utf-8")
    # Right on both items that were trained on, and on one of the four others.
    table = {text: gold for text, _, gold in QUESTIONS[:3]}
    with serve(by_table(table, "no idea")) as stub:
        config, out = write_config(tmp_path, stub), tmp_path / "out"
        found = run_json("exam", config, "task=forms", "--against", rows, "--out", out)["tasks"]["forms"]
        rows.unlink()
        assert run_json("resume", out)["tasks"]["forms"] == found and len(stub.chats) == 6
        shown = run("resume", out)
    clean = found["clean"]
    assert found["accuracy"] == 3 / 6 and (clean["num_overlapping"], clean["num_items"]) == (2, 4)
    assert clean["accuracy"] == 1 / 4 and clean["share"] == 2 / clean["num_checked"]
    assert clean["interval"][0] < 0.25 < clean["interval"][1]
    assert "Items that stand in the training corpus" in shown and "25.0" in shown
    (kept,) = read_scores(out).sets
    assert kept.clean is not None and kept.clean.accuracy == 1 / 4


def test_it_is_printed_and_paths_that_are_not_there_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(row_of(0), "utf-8")
    with serve(lambda _: "A") as stub:
        config = write_config(tmp_path, stub)
        gone = [tmp_path / "gone.jsonl", tmp_path / "neither"]
        said = run("exam", config, "--against", gone[0], "--against", gone[1], "protocol.max_tokens=0", expect=2)
        assert all(str(path) in said for path in gone) and "max_tokens" in said and not stub.chats


def test_without_a_corpus_nothing_changes(tmp_path: Path) -> None:
    with serve(lambda _: "A") as stub:
        config = write_config(tmp_path, stub)
    (tmp_path / "rows.jsonl").write_text(row_of(0), "utf-8")
    table = read_table(config)
    plain, looked = plan_exam(table, tmp_path), plan_exam(table, tmp_path, [tmp_path / "rows.jsonl"])
    assert set(json.loads(freeze(plain)["inputs/shared.json"])) == {"pools", "sources"}
    assert isinstance(looked.shared, Materials) and looked.shared.exposure is not None
    assert [one.id for one in looked.shared.exposure.found] == ["forms/1"]
    changed = {name for name, data in freeze(looked).items() if data != freeze(plain)[name]}
    assert changed == {"inputs/shared.json"}
