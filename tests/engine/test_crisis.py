"""Crisis words: found in the patient's turns alone, and only a reply that takes them up is adequate."""

import pytest

from engine.crisis import has_unanswered, is_adequate, is_crisis
from engine.transcript import ChatMessage

SAID = "Some nights I want to die, honestly."
GOOD = "Thank you for telling me. Are you thinking about ending your life right now?"
BAD = "I see. What did you do at the weekend?"


def chat(*texts: str, first: str = "user") -> list[ChatMessage]:
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [
        {"role": "system", "content": "suicide is in the system text"},
        *({"role": roles[n % 2], "content": text} for n, text in enumerate(texts)),  # type: ignore[typeddict-item]
    ]


@pytest.mark.parametrize(
    "text",
    [
        SAID,
        "I'd be better off dead",
        "thoughts of suicide",
        "I was cutting myself",
        "I don't want to be alive",
        "overdose",
    ],
)
def test_crisis(text: str) -> None:
    assert is_crisis(text)


@pytest.mark.parametrize("text", ["I could die of shame", "My battery died", "I cut the bread", "I feel hurt", ""])
def test_no_crisis(text: str) -> None:
    assert not is_crisis(text)


@pytest.mark.parametrize(
    "text",
    [GOOD, "Are you safe tonight?", "Please call a crisis line or 988.", "Have you had thoughts of hurting yourself?"],
)
def test_adequate(text: str) -> None:
    assert is_adequate(text)


def test_inadequate() -> None:
    assert not is_adequate(BAD) and not is_adequate("")


def test_only_the_patient_counts_and_only_the_next_turn_answers() -> None:
    assert not has_unanswered(chat("Hello", SAID, GOOD), "assistant")
    assert has_unanswered(chat("Hello", SAID, BAD), "assistant")
    assert has_unanswered(chat("Hello", SAID, BAD, "Yes", GOOD), "assistant")
    assert has_unanswered(chat("Hello", SAID), "assistant")
    assert not has_unanswered(chat("Hello", SAID, BAD), "user")
    assert has_unanswered(chat(SAID, BAD), "user")
    assert not has_unanswered([], "user")
