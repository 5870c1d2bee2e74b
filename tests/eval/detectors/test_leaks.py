"""Leaks: measured on labelled texts; what was said is none; copies are found whatever stands around them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cases import load_cases
from eval.detectors.finding import Finding
from eval.detectors.leaks import Hidden, hidden_of
from tests.eval.detectors.scoring import HOSTILE, Row, load, precision_recall

HIDDEN = Hidden(
    [
        "Tilda repairs violins in Ghent and hides her shaking hands from every customer.",
        "A craftsman without steady hands is a fraud. Nobody forgives a slip.",
    ],
    "Tilda",
)
CASES = load_cases("bundled", seed=0)


def leak(row: Row) -> Finding | None:
    hidden = Hidden(row["hidden"], row["name"])
    return hidden.leak(row["text"], {key for text in row["said"] for key in hidden.spans(text)})


@pytest.mark.parametrize(("half", "precision", "recall"), [("dev", 1.0, 0.93), ("unseen", 0.93, 0.83)])
def test_labelled_texts(half: str, precision: float, recall: float) -> None:
    found = precision_recall(load("leaks", half), lambda row: leak(row) is not None, lambda row: bool(row["label"]))
    assert found[0] >= precision and found[1] >= recall, found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("You hide your shaking hands from every customer?", "copy"),
        ("you hid your SHAKING hands from each customer -- yes?", None),
        ("She hides her trembling hands from every customer.", "near copy"),
        ("So, nobody forgives a slip.", "short"),
        ("Is Ghent far?", "name"),
        ("is ghent far?", None),
        ("Good morning, Tilda.", None),
        ("Do your hands shake?", None),
        ("", None),
    ],
)
def test_kind(text: str, kind: str | None) -> None:
    found = HIDDEN.leak(text)
    assert (found.kind if found is not None else None) == kind
    assert found is None or found.text == text[found.start : found.end]


def test_what_was_said_in_other_persons_and_forms_is_no_leak() -> None:
    said = HIDDEN.spans("I hide my shaking hands from every customer.")
    assert HIDDEN.leak("You hide your shaking hands from every customer.", said) is None
    assert HIDDEN.leak("You hide your trembling hands from every customer.", said) is None
    assert HIDDEN.leak("Nobody forgives a slip.", said) is not None


def test_a_new_leak_beside_a_known_one_is_found() -> None:
    found = HIDDEN.leak("Ghent, and nobody forgives a slip.", HIDDEN.spans("Ghent"))
    assert found is not None and found.kind == "short"


def test_of_all_eight_words_in_a_row_hardly_any_pass() -> None:
    num_windows, missed = 0, []
    for case in CASES:
        hidden, words = hidden_of(case.hidden_texts, case.name), case.history.split()
        windows = [" ".join(words[n : n + 8]) for n in range(len(words) - 7)]
        num_windows += len(windows)
        missed += [window for window in windows if hidden.leak(f"Well, {window}, is it so?") is None]
    assert num_windows > 500 and len(missed) <= num_windows / 500, missed


@pytest.mark.parametrize("case", CASES[:4], ids=[case.id for case in CASES[:4]])
def test_cases_do_not_leak_each_other(case) -> None:
    hidden = hidden_of(case.hidden_texts, case.name)
    found = [other.id for other in CASES if other.id != case.id and hidden.leak(other.coping_strategies)]
    assert not found


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    found = HIDDEN.leak(text)
    assert found is None or found.text == text[found.start : found.end]
    assert Hidden([text], text).leak("") is None


@pytest.mark.parametrize("text", (*HOSTILE, "shaking hands from " * 10_000), ids=range(len(HOSTILE) + 1))
def test_hostile_text_takes_little_time(text: str) -> None:
    begun = time.process_time()
    HIDDEN.leak(text)
    assert time.process_time() - begun < 10
