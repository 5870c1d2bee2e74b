"""Refusals: the request, the conversation or the role declined; boundaries and despair are none."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.detectors.refusal import refusal
from tests.eval.detectors.scoring import HOSTILE


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I can't help with that.", "declined"),
        ("I'm sorry, but I can\u2019t assist you with this request.", "declined"),
        ("I cannot fulfill your request.", "declined"),
        ("I am unable to provide medical advice.", "declined"),
        ("I won't participate in this role play.", "declined"),
        ("I can't pretend to be a patient.", "declined"),
        ("I must respectfully decline.", "declined"),
        ("As an AI language model, I do not sleep.", "as machine"),
        ("You know, I'm just a chatbot.", "as machine"),
        ("I do not have personal experiences of grief.", "as machine"),
        ("That would be against my guidelines.", "policy"),
        ("It is not appropriate for me to roleplay this.", "policy"),
    ],
)
def test_refusals(text: str, kind: str) -> None:
    found = refusal(text)
    assert found is not None and found.kind == kind


@pytest.mark.parametrize(
    "text",
    [
        "I can't do this any more.",
        "I can't help it, I just cry.",
        "I can't help feeling that it was my fault.",
        "I can't help with the homework when I'm like this.",
        "I can't prescribe medication, but your GP can.",
        "I won't give you the tablets today.",
        "I can't give you a guarantee.",
        "I'm not able to be your friend, but I am here every Tuesday.",
        "I can't continue like this.",
        "I won't answer the phone when she calls.",
        "I don't have feelings any more.",
        "My nephew works on artificial intelligence.",
        "I had to decline the invitation.",
        "I must decline the invitation.",
        "I can't write since the accident.",
        "I cannot give you any more of my evenings.",
        "",
    ],
)
def test_no_refusal(text: str) -> None:
    assert refusal(text) is None


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    found = refusal(text)
    assert found is None or found.text == text[found.start : found.end]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_takes_little_time(text: str) -> None:
    begun = time.process_time()
    refusal(text)
    assert time.process_time() - begun < 5
