"""The protocol that `docs/protocol.md` writes, played with scripted answers."""

import random
from typing import Any

import msgspec
import pytest

from docs.configuration import ROOT
from engine.cases.loaders import load_cases
from engine.dialogue import Dialogue
from engine.protocol import ProtocolSpec, Rules, Setting, find_protocol
from engine.record import EpisodeKey, EpisodeRecord
from engine.steps import Generate, Reply


@pytest.fixture(scope="module")
def spec() -> ProtocolSpec:
    return find_protocol("questionnaire.py:questionnaire", ROOT / "examples" / "protocol")


def play(spec: ProtocolSpec, answers: dict[str, str], rules: Rules, seed: int = 0) -> tuple[Any, list[Generate]]:
    """Return the outcome as plain data, and the steps as they were asked; a path without an answer hears "often"."""
    case = load_cases("bundled", seed=0)[0]
    dialogue: Dialogue[Any] = Dialogue(spec.play(case, rules, seed=seed, setting=Setting()))
    asked: list[Generate] = []
    opened = dialogue.start()
    while opened:
        step = opened.pop(0)
        assert isinstance(step, Generate)
        asked.append(step)
        opened += dialogue.deliver(step.path, Reply(answers.get(step.path, "often")))
    assert dialogue.error is None
    return msgspec.to_builtins(dialogue.outcome), asked


def test_each_item_is_asked_once_and_sees_the_answers_before(spec: ProtocolSpec) -> None:
    outcome, asked = play(spec, {"item/1": "never", "item/2": "always."}, spec.rules())
    assert outcome == {
        "answers": {"I slept badly.": "never", "I avoided people.": "always", "I looked forward to something.": "often"}
    }
    assert [step.path for step in asked] == ["item/1", "item/2", "item/3"]
    seen = [message.text for message in asked[2].view.messages()]
    assert seen[2] == "never" and seen[4] == "always"
    assert {step.hash for step in asked} != {asked[0].hash}


def test_an_answer_off_the_scale_is_asked_again_and_then_missing(spec: ProtocolSpec) -> None:
    answers = {"item/2": "It depends.", "item/2/again/1": "Hm.", "item/2/again/2": "Who knows?"}
    outcome, asked = play(spec, answers, spec.rules())
    assert outcome["answers"]["I avoided people."] is None
    assert [step.path for step in asked][1:4] == ["item/2", "item/2/again/1", "item/2/again/2"]
    assert spec.missing is not None and spec.missing(outcome) == {"answers": 1}
    assert spec.sections is not None
    record = EpisodeRecord(
        key=EpisodeKey("someone"),
        seed=0,
        protocol=spec.name,
        status="completed",
        outcome=msgspec.json.encode(outcome).decode(),
    )
    (section,) = spec.sections(record)
    assert section.rows[1] == ("I avoided people.", "-")


def test_the_order_is_drawn_from_the_seed_alone(spec: ProtocolSpec) -> None:
    rules = msgspec.convert({"items": list("abcdef"), "shuffled": True}, spec.rules)
    first = [step.path for step in play(spec, {}, rules, seed=3)[1]]
    again = [step.path for step in play(spec, {}, rules, seed=3)[1]]
    order = list("abcdef")
    random.Random(3).shuffle(order)
    assert first == again == [f"item/{'abcdef'.index(item) + 1}" for item in order]
    assert [step.path for step in play(spec, {}, rules, seed=4)[1]] != first


def test_items_that_are_not_different_are_refused(spec: ProtocolSpec) -> None:
    rules = msgspec.convert({"items": ["a", "a"]}, spec.rules)
    assert rules.problems() == ["protocol.items must be different items, got ['a', 'a']: give each once"]
    assert len(msgspec.convert({"items": []}, spec.rules).problems()) == 1
