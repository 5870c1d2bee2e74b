"""Outcomes: labels read, placeholders and impossible scores told."""

import pytest
from msgspec.structs import replace

from eval.quality.outcomes import implausible, is_placeholder, label_of, outcome_of, tidied
from tests.eval.quality.records import make_record


def test_labels() -> None:
    assert label_of({"illness": "panic disorder"}) == "panic disorder"
    assert label_of({"label": 3}) == ""
    assert label_of({"turns": 2}) is None
    assert tidied("  Panic\nDisorder. ") == "panic disorder"


@pytest.mark.parametrize("text", ["", "N/A", "not specified.", "...", "[treatment]", "12/7 -- 9", "None"])
def test_placeholders(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize("text", ["CBT", "Weekly sessions of 50 minutes", "无", "No medication is needed at first"])
def test_no_placeholders(text: str) -> None:
    assert not is_placeholder(text)


def test_implausible_values_are_named() -> None:
    outcome = {
        "illness": "I think you may be sad",
        "fields": {"treatment": "CBT", "medicine": "unknown", "explain_m": ""},
        "treatment": {"attempts": [{"score": 11}, {"score": 9}, {"score": None}, "no"]},
    }
    assert list(implausible(outcome)) == ["illness", "medicine", "treatment score"]
    assert not list(implausible({"illness": "panic disorder", "fields": {"treatment": "CBT"}}))


@pytest.mark.parametrize("text", ["", "no JSON", "[1]"])
def test_an_outcome_that_is_none_is_empty(text: str) -> None:
    assert outcome_of(replace(make_record(), outcome=text)) == {}
