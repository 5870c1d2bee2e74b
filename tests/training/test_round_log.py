"""The log of rounds: what is added is there, whatever a killed writer left behind it."""

from pathlib import Path

import pytest

from engine.errors import JournalError
from training.monitors import Breach, RoundFigures, Rule
from training.round_log import (
    BEFORE,
    AnyStep,
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

FIGURES = RoundFigures(num_rows=3, exam=0.5)
BREACH = Breach(Rule(figure="exam", at_least=0.9), 0.5, 0.9)
SCORE = Score(num_items=4, num_right=2, num_invalid=0, accuracy=0.5, low=0.15, high=0.85, always_one=0.25)
CHANGE = ExamChange(against=BEFORE, value=-0.25, low=-0.7, high=0.3, num_better=0, num_worse=1, p=1.0)
STEPS: list[AnyStep] = [
    Examined(round=BEFORE, version="", score=SCORE),
    Played(round=0, version="", episodes={"completed": 3}, weights=("w",)),
    Sampled(round=0, kept={"patient": 3}, dropped={}, figures=FIGURES),
    Trained(round=0, version="r0", num_steps=2, num_tokens=30, losses=(2.0, 1.5), held_out_before=2.0),
    Swapped(round=0, version="r0", before="", weights="v", num_probes=4, num_changed=3),
    Examined(round=0, version="r0", score=SCORE, change=CHANGE),
    Decided(round=0, action="keep", serves="r0", figures=FIGURES),
    Examined(round=1, version="r1", score=SCORE),
    Decided(round=1, action="roll back", serves="r0", breaches=(BREACH,), figures=RoundFigures(num_rows=9)),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = RoundLog.open(tmp_path / "rounds.jsonl")
    for step in STEPS:
        log.add(step)
    return log.path


def test_what_was_added_is_read_again(path: Path) -> None:
    log = RoundLog.open(path)
    assert log.steps == STEPS and path.stat().st_mode & 0o777 == 0o600
    assert log.find(Trained, 0) == STEPS[3] and log.find(Trained, 1) is None
    assert [one.round for one in log.all(Decided)] == [0, 1]


def test_decisions_say_what_is_served_and_what_was_kept(path: Path) -> None:
    log = RoundLog.open(path)
    assert log.serves == "r0" and log.kept_figures == FIGURES
    assert RoundLog(path, []).serves == "" and RoundLog(path, []).kept_figures is None


def test_the_exam_to_compare_with_is_that_of_the_last_round_that_was_kept(path: Path) -> None:
    assert RoundLog.open(path).kept_exam == Examined(round=0, version="r0", score=SCORE, change=CHANGE)
    assert RoundLog(path, STEPS[:1]).kept_exam == STEPS[0] and RoundLog(path, []).kept_exam is None


def test_a_log_from_before_there_were_changes_is_read(path: Path) -> None:
    line = (
        b'{"step":"examined","round":-1,"at":0.0,"elapsed_s":0.0,"version":"","score":{"num_items":4,"num_right":2,'
        b'"num_invalid":0,"accuracy":0.5,"low":0.15,"high":0.85,"always_one":0.25}}\n'
    )
    path.write_bytes(line)
    assert RoundLog.open(path).steps == STEPS[:1]


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_half_a_line_is_cut_off_and_written_again(path: Path, cut: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    log = RoundLog.open(path)
    assert log.steps == STEPS[:-1]
    log.add(STEPS[-1])
    assert path.read_bytes() == whole


def test_a_line_that_is_no_step_is_refused(path: Path) -> None:
    path.write_bytes(b'{"step":"danced"}\n' + path.read_bytes())
    with pytest.raises(JournalError, match="line 1"):
        RoundLog.open(path)
