"""What people see of rounds: every step's figure, and no text of a model taken for markup."""

from pathlib import Path

from training.monitors import Breach, RoundFigures, Rule
from training.round_log import (
    BEFORE,
    Decided,
    ExamChange,
    Examined,
    Played,
    RoundLog,
    Sampled,
    Score,
    Swapped,
    Trained,
)
from training.rounds_page import HEADS, page, rows_of

SCORE = Score(num_items=100, num_right=30, num_invalid=1, accuracy=0.3, low=0.22, high=0.4, always_one=0.09)
HOSTILE = "<script>alert(1)</script>$x$"


def make_log() -> RoundLog:
    figures = RoundFigures(
        num_rows=30, num_labelled=5, num_labels=2, label_entropy=0.7, top_label=HOSTILE, top_share=0.8, exam=0.3
    )
    breach = Breach(Rule(figure="held_out_ratio", at_most=1.05), 1.5, 1.05)
    return RoundLog(
        Path("unused"),
        [
            Examined(round=BEFORE, version="", score=SCORE),
            Played(round=0, version="", episodes={"completed": 5, "failed": 1}),
            Sampled(round=0, kept={"patient": 30}, dropped={}, figures=figures),
            Trained(
                *(), round=0, version="r0", num_steps=3, num_tokens=9, loss=2.1, losses=(2.5, 2.1),
                held_out_before=2.5, held_out_after=2.25,
            ),
            Swapped(round=0, version="r0", before="", num_probes=4, num_changed=3),
            Examined(round=0, version="r0", score=SCORE),
            Decided(round=0, action="keep", serves="r0", figures=figures),
            Played(round=1, version="r0", episodes={"completed": 6}),
            Decided(round=1, action="roll back", serves="r0", breaches=(breach,), figures=RoundFigures(num_rows=0)),
            Played(round=2, version="r0", episodes={"completed": 6}),
        ],
    )  # fmt: skip


def test_the_table_says_what_each_round_came_to() -> None:
    first, second, third = (dict(zip(HEADS, row, strict=True)) for row in rows_of(make_log()))
    assert first == {
        **{"round": "0", "played on": "base", "episodes": "6", "rows": "30", "labels": "2"},
        **{"top label": f"{HOSTILE} (80%)", "duplicates": "-", "loss": "2.1", "held-out loss": "2.500 to 2.250"},
        **{"exam": "30% (22% to 40%)", "changed": "3 of 4", "cost": "-", "decision": "keep"},
    }
    assert second["decision"] == "roll back: held_out_ratio must be at most 1.05, got 1.5: roll back"
    assert third["decision"] == "-" and third["played on"] == "r0"


def test_the_page_has_plots_no_script_and_nothing_unescaped() -> None:
    text = page(make_log(), "<b>lab</b>")
    assert text.count("<svg") >= 4 and "Rounds of &lt;b&gt;lab&lt;/b&gt;" in text
    assert "<script" not in text and "svg role" in text and "training loss" in text and "&lt;script&gt;" in text
    assert "default-src 'none'" in text and "not for anyone in crisis" in text
    assert "Exam of the base model: 30 of 100 right" in text
    assert text == page(make_log(), "<b>lab</b>")


def test_a_comparison_stands_beside_the_score_with_what_the_exam_can_show() -> None:
    change = ExamChange(
        *(), against=BEFORE, value=-0.1, low=-0.2, high=0.004, num_better=5, num_worse=15, p=0.04, smallest=0.123
    )
    log = make_log()
    log.steps[5] = Examined(round=0, version="r0", score=SCORE, change=change)
    exam = dict(zip(HEADS, rows_of(log)[0], strict=True))["exam"]
    assert exam == "30% (22% to 40%); -10.0 (-20.0 to +0.4) on base"
    later = ExamChange(against=0, value=0.0, low=-0.1, high=0.1, num_better=0, num_worse=0, p=1.0)
    log.steps.append(Examined(round=1, version="r1", score=SCORE, change=later))
    text = page(log, "x", ["the exam's <100> items"])
    assert "<p>The exam&#x27;s &lt;100&gt; items.</p>" in text
    assert "As measured between base and round 0, 20% of 100 items differ, at which the exam shows falls of" in text
    assert "12.3 points or more at 80% power" in text and "0% of 100 items differ" not in text.replace("20%", "")


def test_what_dialogues_and_exams_cost_is_added_up() -> None:
    log = make_log()
    assert "Dialogues and exams cost" not in page(log, "x")
    log.steps[0] = Examined(round=BEFORE, version="", score=SCORE, cost=0.5)
    log.steps[1] = Played(round=0, version="", episodes={"completed": 6}, cost=1.25)
    log.steps[5] = Examined(round=0, version="r0", score=SCORE, cost=0.25)
    assert [dict(zip(HEADS, row, strict=True))["cost"] for row in rows_of(log)] == ["1.5", "-", "-"]
    said = "Dialogues and exams cost 2 in the unit of the prices, 0.5 of it before the first round; training is not in"
    assert said in page(log, "x")


def test_figures_with_an_interval_are_drawn_with_it() -> None:
    figures = RoundFigures(num_rows=3, exam=0.3, exam_low=0.2, exam_high=0.4, exam_change=-0.1)
    log = RoundLog(Path("unused"), [Decided(round=0, action="keep", serves="r0", figures=figures)])
    bare = RoundLog(Path("unused"), [Decided(round=0, action="keep", serves="r0", figures=RoundFigures(num_rows=3))])
    # Three figures are known, the change without its interval: one plot each, bars in the first.
    assert page(log, "x").count("<svg") == 2 and page(log, "x").count('class="interval') == 1
    assert page(bare, "x").count("<svg") == 0


def test_a_run_that_has_not_begun_has_an_empty_page() -> None:
    text = page(RoundLog(Path("unused"), []), "x")
    assert "<svg" not in text and text.count("<tr>") == 1
