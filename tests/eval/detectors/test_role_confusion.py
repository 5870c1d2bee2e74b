"""Role confusion: measured on labelled texts; labels, narration, reported words; any text is read, in linear time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.detectors.role_confusion import PATIENT, THERAPIST, role_confusion
from tests.eval.detectors.scoring import HOSTILE, Row, load, precision_recall


def kind(text: str, role: str) -> str:
    found = role_confusion(text, role)
    return found.kind if found is not None else "none"


def is_found(row: Row) -> bool:
    return role_confusion(row["text"], row["role"]) is not None


@pytest.mark.parametrize(
    ("half", "precision", "recall", "kinds"), [("dev", 1.0, 1.0, 0.97), ("unseen", 0.97, 0.97, 0.97)]
)
def test_labelled_texts(half: str, precision: float, recall: float, kinds: float) -> None:
    rows = load("role_confusion", half)
    found = precision_recall(rows, is_found, lambda row: row["label"] != "none")
    right = sum(kind(row["text"], row["role"]) == row["label"] for row in rows) / len(rows)
    assert found[0] >= precision and found[1] >= recall and right >= kinds, (found, right)


@pytest.mark.parametrize(
    ("role", "text", "expected"),
    [
        (PATIENT, "Patient: I slept badly.", "none"),
        (PATIENT, "Therapist: How did you sleep?", "both sides"),
        (THERAPIST, "Therapist: How did you sleep?", "none"),
        ("judge", "Therapist: Good.\nPatient: No.", "both sides"),
        ("judge", "How does that make you feel?", "none"),
        (PATIENT, "He asked me, how does that make you feel?", "none"),
        (PATIENT, "How does that make you feel?", "other role"),
        (THERAPIST, "How does that make you feel?", "none"),
        (PATIENT, "", "empty"),
        (PATIENT, "?!", "empty"),
        (PATIENT, "不知道", "none"),
    ],
)
def test_kind(role: str, text: str, expected: str) -> None:
    assert kind(text, role) == expected


@given(st.text(max_size=200), st.sampled_from([PATIENT, THERAPIST, "judge"]))
def test_any_text_is_read_and_its_span_given(text: str, role: str) -> None:
    found = role_confusion(text, role)
    assert found is None or found.text == text[found.start : found.end]


@pytest.mark.parametrize("role", [PATIENT, THERAPIST])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_takes_little_time(text: str, role: str) -> None:
    begun = time.process_time()
    role_confusion(text, role)
    assert time.process_time() - begun < 5
