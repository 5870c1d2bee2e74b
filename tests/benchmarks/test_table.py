from pathlib import Path

import pytest

from benchmarks.results import ROOT, results_directory, save_record
from benchmarks.table import BEGIN, END, RESULTS, markdown, number, part_of, render_again, rewrite, verdict
from engine.errors import InputError
from tests.benchmarks.records import make_figure, make_record

NAME = "20260102-000000.json"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (0.98765, "0.988"), (12.345, "12.3"), (54321.0, "54,320"), (1000.4, "1,000"), (-0.5, "-0.5")],
)
def test_numbers_have_the_precision_a_reader_can_use(value: float, expected: str) -> None:
    assert number(value) == expected


def test_misses_stand_in_the_table_with_what_limits_them() -> None:
    rows = {
        "lag": (make_figure("lag_ms", goal=1.0, is_at_most=True, note="a | pipe <b>"),),
        "speed": (make_figure("speed", 5.0, goal=4.0, unit="turns/s"),),
    }
    assert markdown(rows).splitlines()[2:] == [
        "| lag | lag_ms | 2 (1-3) | turns/s | at most 1 | MISSED: a \\| pipe &lt;b> |",
        "| speed | speed | 5 | turns/s | at least 4 | reached |",
    ]


def test_an_unexplained_miss_says_so_and_no_goal_says_nothing() -> None:
    assert verdict(make_figure("lag", goal=9.0)) == "MISSED: not yet explained"
    assert verdict(make_figure("lag")) == ""


def test_rows_stand_in_the_registry_s_order() -> None:
    rows = {"resume": (make_figure("resume_10k_s"),), "episodes": (make_figure("episodes_per_s"),)}
    assert [line.split(" | ")[1] for line in markdown(rows).splitlines()[2:]] == ["episodes_per_s", "resume_10k_s"]


def test_a_part_is_rewritten_between_its_markers_and_renders_again_the_same(tmp_path: Path) -> None:
    save_record(tmp_path / "20260101-000000.json", make_record(scheduler=(make_figure("old"),)))
    save_record(tmp_path / NAME, make_record(resume=(make_figure("new", goal=9.0),)))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    rewrite(page, tmp_path)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\nMeasured on an &lt;odd> \\| processor, 2 cores")
    assert text.endswith(f"{END}\nafter\n")
    assert "stale" not in text
    assert {"old", "new"} <= set(text.split())
    assert render_again(text, tmp_path) == part_of(text)


def test_without_markers_or_records_nothing_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("plain\n")
    with pytest.raises(InputError, match="<!-- bench -->"):
        rewrite(page, tmp_path)
    page.write_text(f"{BEGIN}\n{END}\n")
    with pytest.raises(InputError, match="run sandplay bench all"):
        rewrite(page, tmp_path)
    assert page.read_text() == f"{BEGIN}\n{END}\n"


def test_the_readme_s_table_is_that_of_the_records_it_names() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    if BEGIN not in text or RESULTS not in part_of(text):
        pytest.skip("README.md has no table yet")
    assert render_again(text, results_directory()) == part_of(text)
