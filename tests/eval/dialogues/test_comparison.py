"""Runs compared: values by hand, pairs, what is left out, verdicts."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.pictures import write_svg
from eval.dialogues.comparison import DialogueComparison, compare_runs
from eval.dialogues.report import curve_picture, report_of
from eval.dialogues.runs import DialogueRun
from tests.eval.dialogues.making import figures, make_run


def compared(*runs: DialogueRun) -> DialogueComparison:
    return compare_runs(runs, resamples=200)


def by_figure(found: DialogueComparison, number: int = 0) -> dict[str, Any]:
    return {one.figure: one for one in found.comparisons[number].figures}


def test_disclosure_is_compared_at_the_last_turn_that_every_dialogue_has() -> None:
    before = make_run("before", figures("a", [0.1, 0.2, 0.9]), figures("b", [0.3, 0.4]))
    after = make_run("after", figures("a", [0.2, 0.5, 0.6]), figures("b", [0.3, 0.5, 0.6]))
    found = compared(before, after)
    assert found.turn == 2
    told = by_figure(found)
    first, last = told["disclosure_first"].difference, told["disclosure"].difference
    assert (first.first, first.second) == pytest.approx((0.2, 0.25))
    assert (last.first, last.second, last.value) == pytest.approx((0.3, 0.5, 0.2))
    assert set(told) == {"disclosure_first", "disclosure"}
    assert found.runs[0].curve == pytest.approx((0.2, 0.3, 0.65))
    assert "before 2 to 3, after 3" in found.notes[0] and "turn 2" in found.notes[0]


def test_equal_turns_need_no_note_and_one_case_has_no_interval() -> None:
    found = compared(make_run("x", figures("a", [0.1, 0.2])), make_run("y", figures("a", [0.1, 0.4])))
    assert found.notes == () and found.turn == 2
    assert found.runs[0].figures["disclosure"].interval is None
    assert "so few cases" in by_figure(found)["disclosure"].verdict


def test_cases_of_one_run_alone_are_counted_and_left_out() -> None:
    found = compared(
        make_run("x", figures("a", [0.0]), figures("b", [1.0]), figures("c", [1.0])),
        make_run("y", figures("a", [0.5]), figures("d", [0.0])),
    )
    one = found.comparisons[0]
    assert (one.num_cases, one.num_left_out) == (1, 3)
    assert by_figure(found)["disclosure"].difference.value == 0.5
    assert found.runs[0].figures["disclosure"].value == pytest.approx(2 / 3)  # of all its cases


def test_decoded_similarity_is_compared_over_the_fields_of_both() -> None:
    whole = {"beliefs": 0.2, "reaction": 0.4, "principles": 0.9}
    found = compared(
        make_run("full", figures("a", [0.0], similarities=whole), figures("b", [0.0], similarities={"reaction": 0.2})),
        make_run(
            "less", figures("a", [0.0], similarities={"principles": 0.5}), figures("b", [0.0], similarities={"x": 1.0})
        ),
    )
    one = by_figure(found)["decoded_similarity"].difference
    assert (one.num_first, one.first, one.second) == (1, 0.9, 0.5)  # case b shares no field
    assert found.comparisons[0].fields == ("principles",)
    assert found.runs[0].figures["decoded_similarity"].value == pytest.approx((0.5 + 0.2) / 2)
    assert found.runs[0].fields["reaction"].value == pytest.approx(0.3)
    assert "beliefs" not in found.runs[1].fields


def test_a_difference_that_is_everywhere_is_shown_and_corrected_for_all_tests() -> None:
    cases = [f"c{number}" for number in range(12)]
    low = make_run("low", *(figures(case, [0.1, 0.2], is_named=False) for case in cases))
    high = make_run("high", *(figures(case, [0.1, 0.3 + 0.01 * n], is_named=True) for n, case in enumerate(cases)))
    found = compared(low, high, low)
    told = by_figure(found)
    # Of 2 ** 12 ways to flip signs two are as far out; five others have p of 1, and labels the same p.
    assert told["disclosure"].difference.p == pytest.approx(2 / 4096)
    assert told["disclosure"].holm_p == pytest.approx(6 * 2 / 4096)
    assert told["disclosure"].verdict == "high is higher than low"
    assert told["label_accuracy"].difference.test.startswith("McNemar")
    assert told["label_accuracy"].verdict == "high is higher than low"
    assert told["disclosure_first"].verdict == "no difference: the same in every case"
    assert {one.verdict for one in found.comparisons[1].figures} == {"no difference: the same in every case"}


def test_what_is_not_shown_says_what_would_go_unseen() -> None:
    gains = [0.1, -0.1] * 6
    one = make_run("one", *(figures(f"c{n}", [0.5]) for n in range(12)))
    two = make_run("two", *(figures(f"c{n}", [0.5 + gain]) for n, gain in enumerate(gains)))
    told = by_figure(compared(one, two))["disclosure"]
    assert told.spread == pytest.approx(0.1 * (12 / 11) ** 0.5)
    # Two tests are made: (2.2414 + 0.8416) standard errors of 0.03015.
    assert told.smallest == pytest.approx(3.083 * 0.030151, rel=1e-3)
    assert told.verdict == "no difference shown; one of less than 9.3 would often go unseen"


def test_what_cannot_be_compared_is_refused_at_once() -> None:
    one = make_run("one", figures("a", [0.0]))
    with pytest.raises(InputError, match="must be two or more, got 1"):
        compared(one)
    with pytest.raises(InputError) as refused:
        compared(one, make_run("two", figures("b", [0.0])), make_run("three", figures("a", [0.0], digest="other")))
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "one and two must have cases in common, got none",
        "case a must be the same in one and three, got two",
    ]


def test_the_report_is_json_and_dashes_stand_for_what_is_not_there() -> None:
    decoded = figures("a", [0.1, 0.2], similarities={"reaction": 0.25}, is_named=True, num_guided=1, missing={"x": 2})
    report = report_of(compared(make_run("one", decoded), make_run("two", figures("a", [0.1, 0.2]))), ["Mind this."])
    kept = json.loads(json.dumps(report.figures))["dialogues"]
    assert kept["notes"] == ["Mind this."] and kept["runs"][0]["fields"]["reaction"]["value"] == 0.25
    side, _, against = report.sections
    cells = {row[0]: row[1:] for row in side.rows}
    assert cells["decoded similarity"] == ("0.250", "-") and cells["- reaction"] == ("0.250", "-")
    assert cells["label accuracy"] == ("100.0", "-") and cells["no label"] == ("0", "-")
    assert cells["disclosure, turn 2"] == ("20.0", "20.0")
    assert cells["guided exchanges"] == ("1.0", "-") and cells["missing values"] == ("2", "0")
    assert side.note.startswith("Mind this.\n")
    assert {row[0]: set(row[1:]) for row in against.rows}["decoded similarity"] == {"-"}


def test_the_picture_is_an_svg_where_one_can_be_written(tmp_path: Path) -> None:
    found = compared(make_run("o$e", figures("a", [0.1, 0.2])), make_run("two", figures("a", [0.1, 0.2])))
    write_svg(tmp_path / "curve.svg", curve_picture(found.runs))
    text = (tmp_path / "curve.svg").read_text("utf-8")
    assert text.startswith("<svg") and "patient turn" in text and "two" in text
    for wrong in ("curve.png", "nowhere/curve.svg"):
        with pytest.raises(InputError, match="--plot must name"):
            write_svg(tmp_path / wrong, "<svg/>")
