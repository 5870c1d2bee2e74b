from pathlib import Path

import msgspec
import pytest

from engine.cases.errors import CaseError
from engine.cases.typed import load_typed


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    text: str = ""


def written(directory: Path, *lines: str) -> str:
    path = directory / "notes.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    return str(path)


def test_records_are_read_in_order(tmp_path: Path) -> None:
    source = written(tmp_path, '{"id": "b", "text": "one\u2028two"}', "", '{"id": "a"}')
    assert load_typed(source, Note) == [Note("b", "one\u2028two"), Note("a")]
    assert load_typed(source, Note, limit=1) == [Note("b", "one\u2028two")]


def test_every_fault_is_named_with_its_line(tmp_path: Path) -> None:
    source = written(tmp_path, '{"id": "a"}', "{", '{"id": "a"}', '{"id": ""}', '{"id": "c", "colour": 1}')
    with pytest.raises(CaseError) as refused:
        load_typed(source, Note, limit=1)
    problems = refused.value.problems
    assert [problem.split(": ")[1] for problem in problems] == ["line 2", "line 3", "line 4", "line 5"]
    assert "that of line 1" in problems[1] and "1..200 characters" in problems[2] and "colour" in problems[3]


def test_an_empty_file_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="at least one record"):
        load_typed(written(tmp_path, ""), Note)
    with pytest.raises(CaseError, match="no such file"):
        load_typed(str(tmp_path / "absent.jsonl"), Note)
