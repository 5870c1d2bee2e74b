"""Comparisons: items paired by id, Holm over all tasks, verdicts in plain words, courses over rounds."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from statsmodels.stats.multitest import multipletests

from engine.errors import InputError
from eval.comparison import (
    HEADS,
    Comparison,
    ExamResult,
    ItemResult,
    TaskResult,
    accuracy,
    compare,
    over_rounds,
    table_rows,
)
from eval.statistics.differences import mcnemar
from eval.statistics.intervals import paired_share_interval, share_interval


def make_task(answers: str, begin: int = 1, **scores: float) -> TaskResult:
    """One item a letter: r right, w wrong, x invalid."""
    items = (ItemResult(f"t/{n}", one == "r", one == "x") for n, one in enumerate(answers, begin))
    return TaskResult(tuple(items), scores)


def make_exam(name: str, **tasks: TaskResult) -> ExamResult:
    return ExamResult(name, tasks)


BASE = make_exam("base", medqa=make_task("r" * 40 + "w" * 58 + "xx", macro_f1=0.4), irf=make_task("rw" * 30))
BETTER = make_exam("tuned", medqa=make_task("r" * 60 + "w" * 40, macro_f1=0.6), irf=make_task("rw" * 29 + "rr"))


def test_the_table_by_hand() -> None:
    found = compare(BASE, BETTER)
    medqa, irf = found.tasks
    assert (medqa.first.value, medqa.first.num_invalid, medqa.first.interval) == (0.4, 2, share_interval(40, 100))
    assert (medqa.second.num_right, medqa.second.num_items) == (60, 100)
    assert medqa.difference.value == pytest.approx(0.2)
    assert medqa.difference.interval == paired_share_interval(20, 0, 100)
    assert medqa.difference.p == pytest.approx(mcnemar(20, 0))
    assert medqa.scores == {"macro_f1": (0.4, 0.6)}
    assert medqa.verdict.startswith("tuned is better than base: +20.0 (+13.3 to ")
    assert irf.verdict.startswith("no difference shown; a fall of less than ")
    assert found.left_out == ()


def test_p_is_corrected_over_all_tasks() -> None:
    found = compare(BASE, BETTER)
    expected = multipletests([one.difference.p for one in found.tasks], method="holm")[1]
    assert [one.holm_p for one in found.tasks] == pytest.approx(list(expected), abs=1e-6)


def test_a_difference_that_only_one_comparison_would_show_is_not_shown() -> None:
    answers, better = make_task("r" * 30 + "w" * 7), make_task("r" * 37)
    alone = compare(make_exam("a", one=answers), make_exam("b", one=better))
    assert alone.tasks[0].verdict.startswith("b is better than a")
    many = {f"task{n}": answers for n in range(5)}
    crowd = compare(ExamResult("a", many), ExamResult("b", {**many, "task0": better}))
    assert crowd.tasks[0].difference.p == alone.tasks[0].difference.p < 0.05 < crowd.tasks[0].holm_p
    assert crowd.tasks[0].verdict.startswith("no difference shown")
    assert crowd.tasks[1].verdict == "no difference: both are right on the same items"


def test_the_other_way_round_is_the_mirror_image() -> None:
    found, turned = compare(BASE, BETTER), compare(BETTER, BASE)
    for one, other in zip(found.tasks, turned.tasks, strict=True):
        assert one.difference.value == pytest.approx(-other.difference.value)
        assert one.holm_p == pytest.approx(other.holm_p)
    assert turned.tasks[0].verdict.startswith("tuned is better than base: -20.0")
    assert found.average.value == pytest.approx(-turned.average.value)


def test_items_are_paired_by_id_whatever_their_order() -> None:
    medqa = BETTER.tasks["medqa"]
    shuffled = msgspec.structs.replace(medqa, items=medqa.items[::-1])
    found = compare(BASE, make_exam("tuned", medqa=shuffled))
    assert found.tasks[0].difference == compare(BASE, make_exam("tuned", medqa=medqa)).tasks[0].difference
    assert found.left_out == ("irf",)


def test_items_of_one_exam_only_are_left_out_and_said() -> None:
    found = compare(make_exam("a", t=make_task("r" * 10)), make_exam("b", t=make_task("r" * 10, begin=3))).tasks[0]
    assert (found.difference.num_first, found.difference.is_paired) == (8, True)
    assert found.notes == ("4 items that only one exam has are left out of the difference",)
    assert found.first.num_items == 10


def test_different_items_are_compared_unpaired_and_said() -> None:
    found = compare(make_exam("a", t=make_task("r" * 20)), make_exam("b", t=make_task("w" * 30, begin=15))).tasks[0]
    assert (found.difference.is_paired, found.difference.num_first, found.difference.num_second) == (False, 20, 30)
    assert found.difference.test == "Fisher, exact, unpaired"
    assert found.notes == ("only 6 of 30 items are in both exams: compared as different items, unpaired",)
    assert found.verdict.startswith("a is better than b: -100.0")


def test_nothing_right_before_has_no_smallest_fall() -> None:
    found = compare(make_exam("a", t=make_task("wwww")), make_exam("b", t=make_task("rwww"))).tasks[0]
    assert found.smallest is None
    assert found.verdict == "no difference shown; so few items could not show any fall"


def test_the_average_counts_each_task_alike() -> None:
    found = compare(BASE, BETTER).average
    assert (found.first, found.second) == (pytest.approx((0.4 + 0.5) / 2), pytest.approx((0.6 + 31 / 60) / 2))
    assert found.interval.low < found.value < found.interval.high
    # The standard error of the mean of two independent differences, times 1.96.
    variance = (0.2 * 0.8 / 100 + (1 / 60) * (59 / 60) / 60) / 4
    assert found.interval.high - found.interval.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)


def test_a_comparison_is_seeded() -> None:
    assert compare(BASE, BETTER, seed=4) == compare(BASE, BETTER, seed=4)
    one, other = compare(BASE, BETTER, seed=4), compare(BASE, BETTER, seed=5)
    assert one.average.interval != other.average.interval


def test_tasks_are_not_drawn_in_step() -> None:
    before, after = ({name: make_task(answers) for name in "uv"} for answers in ("w" * 200, "rw" * 100))
    found = compare(ExamResult("a", before), ExamResult("b", after)).average.interval
    # Two tasks of 200 items vary as one of 400.
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 400**0.5, rel=0.12)


def test_the_rows_of_the_table() -> None:
    rows = table_rows(compare(BASE, BETTER))
    assert [row[0] for row in rows] == ["medqa", "irf", "average"]
    assert {len(row) for row in rows} == {len(HEADS)}
    medqa = dict(zip(HEADS, rows[0], strict=True))
    assert (medqa["items"], medqa["first"]) == ("100", "40.0 (30.9 to 49.8)")
    assert medqa["difference"].startswith("+20.0 (")


def test_a_comparison_survives_json() -> None:
    found = compare(BASE, BETTER)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Comparison) == found


def test_rounds_are_compared_with_the_first_and_the_one_before() -> None:
    rounds = [
        make_exam("round 0", t=make_task("r" * 20 + "w" * 80)),
        make_exam("round 1", t=make_task("r" * 40 + "w" * 60), u=make_task("r" * 9)),
        make_exam("round 2", t=make_task("r" * 41 + "w" * 59)),
    ]
    found = over_rounds(rounds)
    assert found.rounds == ("round 0", "round 1", "round 2")
    assert [one and one.value for one in found.accuracies["t"]] == [0.2, 0.4, 0.41]
    assert [one and one.value for one in found.accuracies["u"]] == [None, 1, None]
    assert [(one.first, one.second) for one in found.against_first] == [("round 0", "round 1"), ("round 0", "round 2")]
    assert [(one.first, one.second) for one in found.against_before] == [("round 0", "round 1"), ("round 1", "round 2")]
    assert found.against_before[1].tasks[0].verdict.startswith("no difference shown")
    assert found.against_first[1].tasks[0].verdict.startswith("round 2 is better than round 0")
    # Two tests at once: the smaller p is doubled.
    first = found.against_first[1].tasks[0]
    assert first.holm_p == pytest.approx(2 * first.difference.p)


def test_one_round_is_a_course_without_comparisons() -> None:
    found = over_rounds([BASE])
    assert (found.against_first, found.against_before) == ((), ())
    assert found.accuracies["irf"] == (accuracy(BASE.tasks["irf"]),)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="got medqa, irf and cams"):
        compare(BASE, make_exam("other", cams=make_task("r")))
    with pytest.raises(InputError, match="base, t: a task must have items"):
        compare(make_exam("base", t=TaskResult(())), BASE)
    twice = make_exam("base", t=TaskResult((ItemResult("t/1", True), ItemResult("t/1", False))))
    with pytest.raises(InputError, match="got 't/1' 2 times"):
        compare(twice, BASE)
    with pytest.raises(InputError, match="at least one exam"):
        over_rounds([])


def test_an_id_that_is_another_question_is_refused() -> None:
    one, other = (
        make_exam(name, t=TaskResult((ItemResult("t/1", True, digest=name), ItemResult("t/2", True)))) for name in "ab"
    )
    with pytest.raises(InputError, match="t: item t/1 must be the same question in both exams"):
        compare(one, other)
    assert compare(one, one).tasks[0].difference.p == 1


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("numpy", "scipy", "statsmodels", "sklearn", "pandas")
    ours = "eval.comparison, eval.paper, eval.overlap, eval.statistics.agreement"
    code = f"import sys, {ours}; print([name for name in {heavy!r} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
