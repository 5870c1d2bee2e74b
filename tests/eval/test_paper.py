"""The paper's table: cells against item counts and averages, doubts marked where arithmetic says so, ours beside it."""

import pytest

from eval.comparison import ExamResult, ItemResult, TaskResult
from eval.paper import (
    BELOW,
    ITERATIONS,
    MEANINGS,
    NUM_ITEMS,
    NUM_MOST_FREQUENT,
    RESULTS,
    SYMBOLS,
    TASKS,
    PaperRow,
    beside,
    num_right,
    text_rows,
)

EVERY_ROW = (*RESULTS, *ITERATIONS)
BY_NAME = {row.name: row for row in RESULTS}


def make_exam(name: str, **tasks: tuple[int, int]) -> ExamResult:
    """An exam of (right, items) per task."""
    return ExamResult(
        name,
        {
            task: TaskResult(tuple(ItemResult(f"{task}/{n}", n < right) for n in range(number)))
            for task, (right, number) in tasks.items()
        },
    )


def test_every_row_has_a_cell_per_task() -> None:
    assert {len(row.percents) for row in EVERY_ROW} == {len(TASKS)}
    assert (len(RESULTS), len(ITERATIONS)) == (12, 10)
    assert set(SYMBOLS) == {"", *MEANINGS}


@pytest.mark.parametrize("row", RESULTS, ids=lambda row: row.name)
def test_printed_averages_of_the_main_table_are_those_of_its_cells(row: PaperRow) -> None:
    assert row.mean == pytest.approx(row.average, abs=0.0051)


def test_averages_of_garbled_iterations_do_not_fit() -> None:
    doubtful = {row.name for row in ITERATIONS if abs(row.mean - row.average) > 0.01}
    assert doubtful == {f"Llama-3-8b, iteration {n}" for n in (1, 2, 3, 6)}
    assert doubtful == {row.name for row in ITERATIONS if "garbled" in row.marks.values()}


@pytest.mark.parametrize("row", EVERY_ROW, ids=lambda row: row.name)
def test_a_cell_is_a_share_of_its_items_unless_marked(row: PaperRow) -> None:
    impossible = {
        task for task, percent in zip(TASKS, row.percents, strict=True) if num_right(percent, NUM_ITEMS[task]) is None
    }
    assert impossible == {task for task, mark in row.marks.items() if mark in ("no such share", "garbled")}


@pytest.mark.parametrize("row", EVERY_ROW, ids=lambda row: row.name)
def test_constant_cells_are_those_of_one_answer_to_every_item(row: PaperRow) -> None:
    constant = {
        task
        for task in ("dreaddit", "irf")
        if row.percents[TASKS.index(task)] == {"dreaddit": 49.03, "irf": 64.65}[task]
    }
    assert constant == {task for task, mark in row.marks.items() if mark == "constant"}


def test_right_answers_behind_the_paper_s_best_row() -> None:
    row = BY_NAME["GPT-3.5 + MentalArena"]
    found = [num_right(percent, NUM_ITEMS[task]) for task, percent in zip(TASKS, row.percents, strict=True)]
    assert found == [129, 286, 320, 205, 203, 1366]


def test_iterations_end_in_the_main_table_s_rows() -> None:
    by_name = {row.name: row for row in ITERATIONS}
    assert by_name["GPT-3.5, iteration 2"].percents == BY_NAME["GPT-3.5 + MentalArena"].percents
    assert by_name["Llama-3-8b, iteration 4"].percents == BY_NAME["Llama-3-8b + MentalArena"].percents


def test_ours_stands_beside_with_interval_and_average() -> None:
    table = beside([make_exam("ours", **{task: (NUM_ITEMS[task] // 2, NUM_ITEMS[task]) for task in TASKS})])
    assert [row.name for row in table[-2:]] == ["most frequent answer", "ours"]
    assert [row.is_ours for row in table] == [False] * 13 + [True]
    medqa = table[-1].cells[0]
    assert medqa is not None
    assert medqa.interval is not None
    assert medqa.percent == pytest.approx(100 * 86 / 173)
    assert medqa.interval.low < medqa.percent < medqa.interval.high
    assert (medqa.mark, medqa.is_above_trivial) == ("", True)
    assert table[-1].average == pytest.approx(50, abs=0.2)


def test_missing_tasks_have_no_cell_and_no_average() -> None:
    row = beside([make_exam("ours", medqa=(60, 173), mmlu=(5, 10))])[-1]
    assert [cell is not None for cell in row.cells] == [True, False, False, False, False, False]
    assert row.average is None


def test_other_items_are_marked() -> None:
    cell = beside([make_exam("ours", medqa=(60, 100))])[-1].cells[0]
    assert cell is not None
    assert cell.mark == "other items"


def test_the_trivial_row_and_what_does_not_beat_it() -> None:
    table = {row.name: row for row in beside([])}
    trivial = table["most frequent answer"]
    assert [round(cell.percent, 2) for cell in trivial.cells if cell] == [29.48, 42.36, 97.87, 29.44, 50.97, 64.65]
    assert not any(cell.is_above_trivial for cell in trivial.cells if cell)
    arena = table["GPT-3.5 + MentalArena"].cells
    below = [task for task, cell in zip(TASKS, arena, strict=True) if cell and not cell.is_above_trivial]
    assert below == ["pubmedqa", "dreaddit", "irf"]
    assert [
        base.cells[1].is_above_trivial for base in (table["GPT-3.5-turbo"], table["Llama-3-8b"]) if base.cells[1]
    ] == [
        False,
        False,
    ]


def test_cells_that_no_count_gives_have_no_interval() -> None:
    row = next(row for row in beside([]) if row.name == "GPT-3.5-turbo")
    assert [cell.interval is None for cell in row.cells if cell] == [False, False, True, False, False, False]


def test_the_text_carries_every_doubt() -> None:
    rows = {row[0]: row[1:] for row in text_rows(beside([make_exam("ours", medqa=(60, 173))], (*RESULTS, *ITERATIONS)))}
    assert rows["GPT-3.5 + MentalArena"] == (
        "74.57",
        "91.08!",
        f"97.56{BELOW}",
        "32.80",
        f"49.03={BELOW}",
        f"64.65={BELOW}",
        "68.28",
    )
    assert rows["Llama-3-8b, iteration 2"][-2:] == (f"55.67??{BELOW}", "58.24??")
    assert rows["ours"] == ("34.68", "-", "-", "-", "-", "-", "-")


def test_the_most_frequent_answers_are_part_of_the_items() -> None:
    assert all(0 < NUM_MOST_FREQUENT[task] < NUM_ITEMS[task] for task in TASKS)
    assert sum(NUM_ITEMS[task] for task in ("medqa", "medmcqa", "pubmedqa")) == 815
