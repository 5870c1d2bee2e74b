"""Filters: each reason on the smallest sample that has it, and the order in which they are named."""

from typing import Any

import pytest
from msgspec.structs import replace

from engine.transcript import ChatMessage
from training.filters import REASONS, is_placeholder, reason_to_drop
from training.samples import Sample, Source, answer_samples
from training.settings import ANSWERS, SampleSettings

FIELDS = {
    "symptom": "History: sleeps badly.",
    "illness": "MDD",
    "treatment": "CBT",
    "explain_t": "It helps.",
    "medicine": "Sertraline",
    "explain_m": "It is common.",
}


HERE = Source(weights=("w",))


def make(kind: str = "treatment", source: Source = HERE, score: float | None = None, **fields: str) -> Sample:
    (sample,) = answer_samples({**FIELDS, **fields}, (kind,), source, {kind: score})
    return sample


def make_dialogue(*texts: str) -> Sample:
    roles = ("user", "assistant")
    messages: tuple[Any, ...] = tuple(ChatMessage(role=roles[n % 2], content=text) for n, text in enumerate(texts))  # type: ignore[typeddict-item]
    return Sample(kind="therapist", messages=messages, parts=tuple(texts[1::2]))


DROPPED = {
    "failed episode": make(source=Source(status="failed")),
    "mixed weights": make(source=Source(weights=("a", "b"))),
    "empty": make(explain_t=" \n"),
    "placeholder": make("medication", medicine="N/A"),
    "unresolved label": make("diagnosis", illness="Doctor 1's diagnosis"),
    "low score": make(score=6.0),
    "too long": make(score=9.0, symptom="word " * 500),
    "unanswered crisis": make_dialogue("I want to die", "How was lunch?"),
}
SETTINGS = SampleSettings(min_score=7, max_tokens=500)


def test_every_reason_has_its_sample() -> None:
    assert list(DROPPED) == list(REASONS)


@pytest.mark.parametrize("reason", DROPPED)
def test_a_reason(reason: str) -> None:
    assert reason_to_drop(DROPPED[reason], SETTINGS) == reason


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_good_row_stays(kind: str) -> None:
    assert reason_to_drop(make(kind, score=7.0), SETTINGS) is None
    assert reason_to_drop(make(kind), SampleSettings()) is None


def test_settings_switch_reasons_off() -> None:
    assert reason_to_drop(DROPPED["mixed weights"], SampleSettings(mixed=True)) is None
    assert reason_to_drop(DROPPED["low score"], SampleSettings()) is None
    assert reason_to_drop(DROPPED["too long"], SampleSettings(max_tokens=2000)) is None


def test_a_missing_score_is_low_where_a_score_is_wanted() -> None:
    assert reason_to_drop(make(), SETTINGS) == "low score"
    assert reason_to_drop(make("diagnosis"), SETTINGS) is None


def test_a_pair_is_as_long_as_both_answers() -> None:
    sample = replace(make(), kind="plan", rejected="word " * 500, score=9.0)
    assert reason_to_drop(sample, SETTINGS) == "too long"


def test_an_answered_crisis_stays() -> None:
    assert reason_to_drop(make_dialogue("I want to die", "Are you safe right now?"), SampleSettings()) is None


@pytest.mark.parametrize(
    "text",
    [
        "None",
        "none.",
        "N/A",
        "n/a",
        "Not applicable",
        "unknown",
        "-",
        "...",
        "[name of medicine]",
        "<treatment>",
        "Explanation:",
        "None provided",
        "Not mentioned in the provided sentences.",
        "No medication is mentioned.",
        "Explanation: No specific medicine is mentioned in the provided sentences.",
        "TBD",
        "{medicine}",
        "Not specified",
    ],
)
def test_placeholders(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sertraline",
        "No medication: sleep hygiene first",
        "Nonetheless, CBT",
        "Not all patients need one; watchful waiting",
        "Unknown causes call for an examination",
        "SSRIs (e.g. fluoxetine)",
        "Notriptyline",
        "Medication review",
        "NAC",
    ],
)
def test_no_placeholders(text: str) -> None:
    assert not is_placeholder(text)
