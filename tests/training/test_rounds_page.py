"""What people see of rounds: every step's figure, and no text of a model taken for markup."""

from pathlib import Path

from training.monitors import Breach, RoundFigures, Rule
from training.round_log import BEFORE, Decided, Examined, Played, RoundLog, Sampled, Score, Swapped, Trained
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
        **{"exam": "30% (22% to 40%)", "changed": "3 of 4", "decision": "keep"},
    }
    assert second["decision"] == "roll back: held_out_ratio must be at most 1.05, got 1.5: roll back"
    assert third["decision"] == "-" and third["played on"] == "r0"


def test_the_page_has_plots_no_script_and_nothing_unescaped() -> None:
    text = page(make_log(), "<b>lab</b>")
    assert text.count("<svg") >= 4 and "Rounds of &lt;b&gt;lab&lt;/b&gt;" in text
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "default-src 'none'" in text and "not for anyone in crisis" in text
    assert "Exam of the base model: 30 of 100 right" in text
    assert text == page(make_log(), "<b>lab</b>")


def test_a_run_that_has_not_begun_has_an_empty_page() -> None:
    text = page(RoundLog(Path("unused"), []), "x")
    assert "<svg" not in text and text.count("<tr>") == 1
