"""Re-asks: changed prompt, own path, at most two; then a typed failure or a missing value."""

from typing import Any

import pytest

from engine.asking import MAX_REASKS, ask_text, ask_value
from engine.dialogue import Dialogue
from engine.steps import Choice, Fields, Generate, Protocol, Reply, Sampling, ValueSchema
from engine.views import View


def make_step(value: ValueSchema | None = None) -> Generate:
    return Generate("score", "judge", View.of("s").hear("how well?"), Sampling(8), "score", value)


def play(protocol: Protocol[Any], texts: list[str]) -> tuple[Dialogue[Any], list[Generate]]:
    dialogue: Dialogue[Any] = Dialogue(protocol)
    asked: list[Generate] = []
    waiting = dialogue.start()
    while waiting:
        leaf = waiting.pop()
        assert isinstance(leaf, Generate)
        asked.append(leaf)
        waiting += dialogue.deliver(leaf.path, Reply(texts[len(asked) - 1]))
    return dialogue, asked


def test_an_empty_reply_is_asked_again_with_a_changed_prompt() -> None:
    dialogue, asked = play(ask_text(make_step()), ["", "  ", "here"])
    assert dialogue.outcome is not None and dialogue.outcome.text == "here"
    assert [step.path for step in asked] == ["score", "score/again/1", "score/again/2"]
    assert asked[1].view.digest != asked[0].view.digest


def test_silence_is_a_typed_failure() -> None:
    dialogue, asked = play(ask_text(make_step()), [""] * 3)
    assert len(asked) == MAX_REASKS + 1
    assert dialogue.error is not None and dialogue.error.kind == "empty_reply"


@pytest.mark.parametrize(
    ("texts", "choice", "num_asks"),
    [(["7"], "7", 1), (["well", "7"], "7", 2), (["well", "dunno", "hm"], None, 3)],
)
def test_a_choice_is_parsed_or_missing(texts: list[str], choice: str | None, num_asks: int) -> None:
    options = tuple(str(number) for number in range(1, 11))
    dialogue, _ = play(ask_value(make_step(Choice(options))), texts)
    assert dialogue.outcome is not None
    assert (dialogue.outcome.choice, dialogue.outcome.num_asks) == (choice, num_asks)
    assert dialogue.outcome.is_missing == (choice is None)


def test_fields_may_be_partly_missing() -> None:
    dialogue, _ = play(ask_value(make_step(Fields(("treatment", "medicine")))), ['{"treatment": "CBT"}'])
    assert dialogue.outcome is not None
    assert dialogue.outcome.fields == {"treatment": "CBT"}
