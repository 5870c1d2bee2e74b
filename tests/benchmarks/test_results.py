from pathlib import Path

import pytest

from benchmarks.results import (
    describe_run,
    hash_code,
    load_record,
    newest_rows,
    open_record,
    records,
    save_record,
    with_row,
)
from engine.errors import InputError
from tests.benchmarks.records import MACHINE, make_figure, make_record

OLD, NEW = "20260101-000000.json", "20260102-000000.json"


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    record = make_record(lag=(make_figure("lag", configuration={"live": 1000}, goal=1.0, note="slow"),))
    save_record(tmp_path / "deep" / NEW, record)
    assert load_record(tmp_path / "deep" / NEW) == record


def test_an_unfinished_record_of_the_same_machine_is_continued(tmp_path: Path) -> None:
    save_record(tmp_path / NEW, make_record(one=(make_figure(),)))
    path, record = open_record(tmp_path, MACHINE, ["one", "two"])
    assert path.name == NEW
    assert list(with_row(record, "two", [make_figure()]).rows) == ["one", "two"]


@pytest.mark.parametrize(
    ("machine", "wanted", "is_new"),
    [
        (MACHINE, ["one"], False),
        (MACHINE | {"code": "other"}, ["one", "two"], False),
        (MACHINE | {"repeats": 3}, ["one", "two"], False),
        (MACHINE, ["one", "two"], True),
    ],
)
def test_anything_else_begins_a_new_record(
    tmp_path: Path, machine: dict[str, str], wanted: list[str], is_new: bool
) -> None:
    save_record(tmp_path / NEW, make_record(one=(make_figure(),)))
    path, record = open_record(tmp_path, machine, wanted, is_new=is_new)
    assert path.name != NEW
    assert record.rows == {}
    assert record.machine == machine


def test_only_the_newest_record_is_continued(tmp_path: Path) -> None:
    save_record(tmp_path / OLD, make_record(one=(make_figure(),)))
    save_record(tmp_path / NEW, make_record(one=(make_figure(),), two=(make_figure(),)))
    path, _ = open_record(tmp_path, MACHINE, ["one", "two"])
    assert path.name not in (OLD, NEW)


def test_the_newest_figures_of_each_row_count_and_brief_ones_do_not(tmp_path: Path) -> None:
    save_record(tmp_path / OLD, make_record(one=(make_figure("old"),), two=(make_figure("old"),)))
    save_record(tmp_path / NEW, make_record(one=(make_figure("new"),)))
    brief = make_record(one=(make_figure("brief"),))
    brief.machine["brief"] = False
    save_record(tmp_path / "20260103-000000.json", type(brief)(date="", machine={"brief": True}, rows=brief.rows))
    found = newest_rows(records(tmp_path))
    assert {name: (path.name, figures[0].name) for name, (path, figures) in found.items()} == {
        "one": (NEW, "new"),
        "two": (OLD, "old"),
    }


def test_a_file_that_is_no_record_is_refused_or_passed_over(tmp_path: Path) -> None:
    (tmp_path / NEW).write_text("{")
    assert list(records(tmp_path)) == []
    with pytest.raises(InputError, match="must be a record"):
        load_record(tmp_path / NEW)


def test_a_run_is_described_by_machine_versions_code_and_way() -> None:
    found = describe_run(None, is_brief=True)
    assert found["code"] == hash_code()
    assert {"processor", "cores", "python", "msgspec"} <= found.keys()
    assert (found["repeats"], found["brief"]) == ("default", True)
