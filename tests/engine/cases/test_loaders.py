"""Loading cases: sources, both spellings, and faults with their place."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from engine.cases import CaseError, fingerprint, load_cases
from engine.errors import InputError
from tests.engine.cases.test_schema import make_case, make_record

PATIENT_PSI = Path(__file__).parents[3] / "../shared/data/patient_psi/cognitive_models.json"


def write(path: Path, records: Any) -> str:
    lines = "\n".join(map(json.dumps, records)) if path.suffix == ".jsonl" else json.dumps(records)
    path.write_text(lines, encoding="utf-8")
    return str(path)


def faults(source: str, **options: Any) -> tuple[str, ...]:
    with pytest.raises(CaseError) as caught:
        load_cases(source, seed=0, **options)
    assert isinstance(caught.value, InputError)
    return caught.value.problems


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.JSON"])
def test_json_and_jsonl(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / name, [make_record(id=str(n)) for n in range(3)])
    assert load_cases(source, seed=0) == [make_case(id=str(n)) for n in range(3)]
    assert [case.id for case in load_cases(source, seed=0, limit=2)] == ["0", "1"]


def test_parquet_nulls_are_absent(tmp_path: Path) -> None:
    records = [make_record(id="a", age=30), make_record(id="b", age=None)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "a.parquet")
    cases = load_cases(str(tmp_path / "a.parquet"), seed=0)
    assert cases == [make_case(id="a", age=30), make_case(id="b")]


def test_a_broken_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nonsense")
    (fault,) = faults(str(tmp_path / "a.parquet"))
    assert "must be a Parquet file" in fault


def test_spelling_is_free_per_record(tmp_path: Path) -> None:
    odd = make_record(id="2", helpless_belief=..., helpless_belief_current=["I am trapped."])
    cases = load_cases(write(tmp_path / "a.json", [make_record(), odd]), seed=0)
    assert cases[0].helpless_belief == cases[1].helpless_belief == ("I am trapped.",)


def test_a_byte_order_mark_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([make_record()]), encoding="utf-8-sig")
    assert load_cases(str(tmp_path / "a.json"), seed=0) == [make_case()]


def test_a_jsonl_string_may_hold_a_line_separator(tmp_path: Path) -> None:
    record = json.dumps(make_record(history="a\u2028b"), ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(record + "\n\n", encoding="utf-8")
    assert load_cases(str(tmp_path / "a.jsonl"), seed=0)[0].history == "a\u2028b"


def test_malformed_json_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n {"id": }\n]')
    assert faults(str(path)) == (f"{path}: line 2, column 9: must be JSON, got Expecting value: correct the file",)


def test_malformed_jsonl_names_every_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a"}\n' + json.dumps(make_record(age=-1)) + "\n[1,\n")
    first, second, third = faults(str(path))
    assert first.startswith(f"{path}: line 1, column 5: must be JSON, got Expecting ':' delimiter")
    assert second.startswith(f"{path}: line 3, column 4: must be JSON, got Expecting value")
    assert third.startswith(f"{path}: line 2 (id '1-1'): field 'age' must be")


@pytest.mark.parametrize(
    "text,part", [('[{"id": "1", "id": "2"}]', "key 'id' is given twice"), ("[" * 99999, "must be")]
)
def test_odd_json(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "a.json").write_text(text)
    (fault,) = faults(str(tmp_path / "a.json"))
    assert part in fault


def test_wrong_encoding_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[\n"\xff"]')
    assert faults(str(path)) == (f"{path}: line 2, column 2: must be UTF-8, got byte 0xff: convert the file",)


@pytest.mark.parametrize("value", [{}, "x", 3, None])
def test_a_json_file_must_be_an_array(tmp_path: Path, value: Any) -> None:
    (fault,) = faults(write(tmp_path / "a.json", value))
    assert "must be a JSON array of records, got" in fault


def test_an_empty_array_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [])
    assert faults(path) == (f"{path}: must hold at least one case, got none: add records",)


def test_all_faults_of_all_records_come_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        [make_record(history=...), make_record(id="2", emotion="sad"), make_record(id="2"), 7, make_record(id=5)],
    )
    assert faults(path) == (
        f"{path}: record 0 (id '1-1'): field 'history' is missing: add it as a string",
        f"{path}: record 1 (id '2'): field 'emotion' must be a list of strings, got 'sad': write [...]",
        f"{path}: record 2 (id '2'): id must be unique, got that of record 1: rename one",
        f"{path}: record 3: must be an object with a case's fields, got 7: write {{...}}",
        f"{path}: record 4: field 'id' must be a string, got 5: quote or join it",
    )


def test_the_rendered_list_ends_after_twenty(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [make_record(id=str(n), behavior=...) for n in range(23)])
    with pytest.raises(CaseError) as caught:
        load_cases(path, seed=0)
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (21, "... and 3 more")


def test_faults_beyond_the_limit_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [make_record(), make_record()])
    assert len(faults(path, limit=1)) == 1


def test_a_missing_file_says_what_is_accepted(tmp_path: Path) -> None:
    path = str(tmp_path / "none.json")
    assert faults(path) == (
        "source must be 'bundled' or 'sampled' or the path of a .json, .jsonl, .parquet file, "
        f"got {path!r}, no such file: correct it",
    )
    assert faults("sampel")[0].endswith("(did you mean 'sampled'?)")
    assert "a folder" in faults(str(tmp_path))[0]
    assert "no such file" in faults("a\0b")[0]
    (tmp_path / "a.yaml").write_text("")
    assert "convert or rename it" in faults(str(tmp_path / "a.yaml"))[0]


def test_sampled_needs_a_limit_and_limits_are_positive() -> None:
    assert faults("sampled") == ("source 'sampled' must come with a limit, got none: set how many cases to sample",)
    assert faults("bundled", limit=0) == ("limit must be >= 1, got 0: set how many cases to load",)
    cases = load_cases("sampled", seed=3, limit=5)
    assert len({case.id for case in cases}) == 5
    assert fingerprint(cases) == fingerprint(load_cases("sampled", seed=3, limit=5))


def test_bundled() -> None:
    cases = load_cases("bundled", seed=0)
    assert len({case.id for case in cases}) == len(cases) > 1
    assert all(case.condition for case in cases)
    assert load_cases("bundled", seed=1, limit=1) == cases[:1]


@pytest.mark.skipif(not PATIENT_PSI.exists(), reason="the Patient-Psi cases lie outside the repository")
def test_patient_psi() -> None:
    cases = load_cases(str(PATIENT_PSI), seed=0)
    assert len(cases) == 106
    assert sum(case.intermediate_belief_depression == "" for case in cases) == 16
    assert all(case.core_beliefs and case.styles and case.emotion for case in cases)
    assert cases[0].helpless_belief and cases[0].unlovable_belief
    assert {"tangent", "reserved", "pleasing", "upset"} <= {style for case in cases for style in case.styles}


def test_importing_cases_leaves_pyarrow_alone() -> None:
    code = "import sys, engine.cases; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_columns_of_other_names(tmp_path: Path) -> None:
    record = make_record(id="a") | {"row": 3, "split": "train"}
    record["problem"] = record.pop("situation")
    source = write(tmp_path / "a.json", [record])
    (case,) = load_cases(source, seed=0, columns={"situation": "problem"})
    assert case == make_case(id="a")
    with pytest.raises(CaseError, match="unknown field 'problem'"):
        load_cases(source, seed=0)
    with pytest.raises(CaseError, match="columns.sitation must be a field of a case.*did you mean 'situation'"):
        load_cases(source, seed=0, columns={"sitation": "problem"})
    with pytest.raises(CaseError, match="field 'situation' is missing"):
        load_cases(source, seed=0, columns={"situation": "nowhere"})
