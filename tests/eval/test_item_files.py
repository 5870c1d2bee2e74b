"""Item files: places, quoted line breaks, byte order marks, and every fault by file and line."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.errors import InputError
from eval.item_files import read_records


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_jsonl_lines_are_counted_with_the_blank_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": "x\xe2\x80\xa8y"}\r\n\n{"a": 2}')
    assert [(one.line, dict(one.values)) for one in read_records(path)] == [(1, {"a": "x\u2028y"}), (3, {"a": 2})]


def test_csv_rows_may_run_over_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'\xef\xbb\xbfquery,label\n"one\n""two"" ,\n",yes\n\nthree,no\r\n')
    found = [(one.line, one.values["query"], one.values["label"]) for one in read_records(path)]
    assert found == [(2, 'one\n"two" ,\n', "yes"), (6, "three", "no")]


def test_blank_lines_before_the_heads_and_columns_without_one_are_let_be(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\r\n\r\n,q,\r\n1,x,\r\n")
    assert [(one.line, one.values["q"]) for one in read_records(path)] == [(4, "x")]


def test_a_long_csv_field_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "query\n" + "x" * 300_000)
    assert len(read_records(path)[0].values["query"]) == 300_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{"a"', "a.jsonl: line 2: must be a JSON object"),
        ("a.jsonl", "[1]", "a.jsonl: line 1: must be a JSON object, got "),
        ("a.jsonl", "[" * 100_000, "a.jsonl: line 1: must be a JSON object"),
        ("a.jsonl", b'{}\n{"a": "\xff"}', "line 2: must be UTF-8, got byte 0xff"),
        ("a.jsonl", "\n", "must hold at least one record, got none"),
        ("a.csv", 'q,l\nx,y\n"open,y', "a.csv: line 3: must be a CSV row"),
        ("a.csv", "q,l\nx\n", "a.csv: line 2: must have 2 fields as in the first line, got 1"),
        ("a.csv", "q,l,q\nx,y,z\n", "a.csv: line 1: must name each column once, got 'q' 2 times"),
        ("a.txt", "x", "must end in .jsonl or .csv"),
    ],
)
def test_faults_are_named_by_line(tmp_path: Path, name: str, content: bytes | str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_records(write(tmp_path / name, content))
    assert message in str(caught.value)


def test_every_fault_is_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_records(write(tmp_path / "a.jsonl", "x\n{}\ny\n"))
    assert len(caught.value.problems) == 2


def test_a_folder_is_read_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        write(tmp_path / name, json.dumps({"from": name}))
    assert [one.values["from"] for one in read_records(tmp_path)] == ["a.jsonl", "b.jsonl"]


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source must be a .jsonl or .csv file, a folder or a data set name, got "):
        read_records(tmp_path / "none.jsonl")


def test_a_data_set_is_asked_for_by_name_configuration_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **settings: Any) -> list[dict[str, int]]:
        asked.append((args, settings))
        return [{"a": 1}, {"a": 2}]

    fake = ModuleType("datasets")
    fake.__dict__["load_dataset"] = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", fake)
    records = read_records("owner/set:part", split="validation")
    assert asked == [(("owner/set", "part"), {"split": "validation", "streaming": True})]
    assert [(one.line, one.file, one.values["a"]) for one in records] == [
        (1, "owner/set:part", 1),
        (2, "owner/set:part", 2),
    ]


def test_a_data_set_that_cannot_be_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **settings: Any) -> None:
        raise ValueError("no such split")

    fake = ModuleType("datasets")
    fake.__dict__["load_dataset"] = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", fake)
    with pytest.raises(InputError, match="no such split"):
        read_records("owner/set")
