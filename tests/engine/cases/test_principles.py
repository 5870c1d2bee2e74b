"""Loading principles: CSV by creator, grouped JSON, and faults with their place."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cases import CaseError, PrincipleGroup, load_principles
from engine.cases.principles import _from_csv

HEAD = "CreatorID,Principles\n"


def make_csv(num_groups: int = 5) -> str:
    return HEAD + "".join(f"c{n},Speak slowly {n}.\n" for n in range(num_groups))


def faults(path: Path, text: str) -> tuple[str, ...]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaseError) as caught:
        load_principles(str(path))
    return caught.value.problems


def test_csv_groups_by_creator_in_order_of_first_appearance(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(make_csv() + 'c1,"Hesitate,\nthen answer."\nc0,Say "well".\n', encoding="utf-8-sig")
    groups = load_principles(str(path))
    assert [group.id for group in groups] == ["c0", "c1", "c2", "c3", "c4"]
    assert groups[1] == PrincipleGroup("c1", ("Speak slowly 1.", "Hesitate,\nthen answer."))
    assert groups[0].principles == ("Speak slowly 0.", 'Say "well".')


def test_grouped_json(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({str(n): [f"a{n}", "b"] for n in range(6)}))
    assert load_principles(str(path))[5] == PrincipleGroup("5", ("a5", "b"))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text('x,"\n ', min_size=1).filter(str.strip))))
def test_any_quoted_csv_is_read_back(rows: list[tuple[str, str]]) -> None:
    quoted = [f'{key},"{text.replace(chr(34), chr(34) * 2)}"\n' for key, text in rows]
    problems: list[str] = []
    groups = _from_csv("p.csv", HEAD + "".join(quoted), problems)
    assert problems == []
    assert groups == {key: [text.strip() for k, text in rows if k == key] for key, _ in rows}


def test_five_groups_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    assert faults(path, make_csv(4)) == (f"{path}: must hold at least 5 groups for ranking, got 4: add groups",)


def test_csv_faults_name_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    text = make_csv() + 'c1,"two\nlines"\n,Speak.\nc2,\nc3\n'
    assert faults(path, text) == (
        f"{path}: line 9: CreatorID must not be empty, got '': fill it in",
        f"{path}: line 10: Principles must not be empty, got '': fill it in",
        f"{path}: line 11: Principles must not be empty, got None: fill it in",
    )


@pytest.mark.parametrize("text", ["", "Creator,Principles\na,b\n", "a;b\n"])
def test_csv_columns_are_needed(tmp_path: Path, text: str) -> None:
    (fault,) = faults(tmp_path / "p.csv", text)
    assert "line 1: must have the columns CreatorID and Principles, got" in fault


def test_an_open_quote_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path / "p.csv", make_csv() + 'c9,"open\n')
    assert "must be CSV, got unexpected end of data" in fault


def test_json_faults(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    assert faults(path, "{\n1}")[0].startswith(f"{path}: line 2, column 1: must be JSON, got Expecting property name")
    assert faults(path, "[]") == (f"{path}: must be an object of lists, got []: write {{group id: [...]}}",)
    assert faults(path, '{"a": [], "b": "x", "c": ["", 4]}') == (
        f"{path}: group 'a': must be a non-empty list of strings, got []: write [...]",
        f"{path}: group 'b': must be a non-empty list of strings, got 'x': write [...]",
        f"{path}: group 'c': must hold non-empty strings only, got '': correct or remove it",
        f"{path}: group 'c': must hold non-empty strings only, got 4: correct or remove it",
    )


def test_a_missing_file_says_what_is_accepted() -> None:
    with pytest.raises(CaseError, match=r"must be 'bundled' or the path of a .csv, .json file, got 'none.csv'"):
        load_principles("none.csv")


def test_bundled() -> None:
    groups = load_principles("bundled")
    assert len({group.id for group in groups}) == len(groups) >= 5
    assert all(group.principles for group in groups)
