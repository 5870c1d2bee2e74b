"""Exposure: items found in rows, samples and runs; every bad path and line is said; nothing found is said too."""

import json
from pathlib import Path

import pytest

from engine.errors import InputError
from eval.exposure import find_exposure, overlap_warning, texts_in
from tests.eval.exam.making import make_item
from tests.eval.quality.records import keep_run, make_record

LONG = "Which of these four bones of the body lies in the forearm on the side of the thumb?"
ITEMS = [
    make_item(question=LONG),
    make_item(1),
    make_item(2, question="Why?", options=make_item(2).options[:2], gold="A"),
]
"""The second has eleven words with its options, the third too few to be looked for."""


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_items_are_found_in_rows_samples_and_runs(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": f"Tell me: {LONG}"}, {"role": "assistant", "content": "Radius"}]}
    rows = write(tmp_path / "rows.jsonl", {"text": "nothing"}, chat)
    texts = [option.text for option in ITEMS[1].options]
    samples = write(tmp_path / "samples" / "train.jsonl", {"question": ITEMS[1].question, "choices": texts})
    run = keep_run(tmp_path / "run", [make_record(talk=(("therapist", LONG.upper()),))])
    found = find_exposure(ITEMS, [rows, samples.parent, run.path])
    long, short = found.found
    assert (long.id, long.longest, long.sources[0]) == ("forms/1", 18, f"{rows}:2") and len(long.sources) == 2
    assert (short.id, short.sources) == ("forms/2", (f"{samples}:1",))
    assert found.unchecked == ("forms/3",) and found.num_items == 3 and found.num_texts > 3
    assert long.sources[1].startswith("run/")
    assert found.sentence == (
        f"2 of 2 exam items stand in {rows}, {samples.parent}, {run.path}, so that a good score may be memory:"
        f" forms/1 (18 words in {rows}:2), forms/2 ({short.longest} words in {samples}:1);"
        " 1 more have too few words to tell"
    )


def test_nothing_found_is_said(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", {"text": "nothing of it"})
    found = find_exposure(ITEMS[:2], [rows])
    assert found.sentence == f"0 of 2 exam items stand in {rows}" and not found.found


def test_every_path_and_line_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as refused:
        find_exposure(ITEMS, [tmp_path / "none.jsonl", tmp_path / "empty", tmp_path / "gone"])
    first, second, third = refused.value.problems
    assert "none.jsonl, which is not there" in first and "empty, which holds neither" in second and "gone" in third
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"text": 1}\n\n{"text"\n"\xff"\n' + b"[" * 100_000)
    with pytest.raises(InputError) as refused:
        find_exposure(ITEMS, [bad])
    assert [problem.split(": ")[0] for problem in refused.value.problems] == [f"{bad}:{line}" for line in (3, 4, 5)]
    bad.write_bytes(b"\n")
    with pytest.raises(InputError, match="a corpus must hold at least one text, got none in"):
        find_exposure(ITEMS, [bad])


def test_items_that_stand_in_texts_are_named() -> None:
    item, post = make_item(question=LONG), make_item(1, task="dreaddit", question=LONG, context="I rest well now. " * 4)
    said = overlap_warning([item, post], [("case-1", "nothing"), ("case-2", f"He asked: {LONG.upper()}")], "cases")
    assert said.startswith("1 exam items stand in cases") and "forms/1 (18 words in case-2)" in said
    assert overlap_warning([item, post], [("case-1", "nothing of it")], "cases") == ""


def test_texts_of_plain_data() -> None:
    assert list(texts_in({"a": "x", "b": ["y", {"c": "z"}], "d": 3, "e": ("w",)})) == ["x", "y", "z", "w"]
