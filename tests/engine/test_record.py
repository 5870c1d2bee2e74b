"""Versions in the record: each that a reply was sampled under, and whether a model was mixed."""

import pytest

from engine.dialogue import Dialogue
from engine.record import EpisodeKey, EpisodeRecord
from engine.recording import Identity, build_record
from engine.steps import Generate, Protocol, Reply, Sampling, ask
from engine.views import View


def talk(num_turns: int) -> Protocol[str]:
    view = View.of("system").hear("hello")
    for turn in range(num_turns):
        reply = yield from ask(Generate(f"{turn}", "patient", view, Sampling(8), "turn"))
        view = view.say(reply.text).hear("more")
    return "done"


def record_of(*replies: tuple[str, str]) -> EpisodeRecord:
    """An episode whose replies came from (model, weights)."""
    dialogue = Dialogue(talk(len(replies)))
    dialogue.start()
    for turn, (model, weights) in enumerate(replies):
        dialogue.deliver(f"{turn}", Reply("hi", model=model, weights=weights))
    identity = Identity(key=EpisodeKey("c"), seed=1, protocol="talk", case="{}", models={}, started_at=0.0)
    return build_record(identity, dialogue, {})


@pytest.mark.parametrize(
    ("replies", "weights", "is_mixed"),
    [
        ([("m", "a"), ("m", "a")], ("a",), False),
        ([("m", "a"), ("m", "b")], ("a", "b"), True),
        ([("m", "a"), ("m", "a+b")], ("a", "b"), True),
        ([("m", "b+a")], ("a", "b"), True),
        ([("one", "a"), ("other", "b")], ("a", "b"), False),
        ([("m", ""), ("m", "a")], ("a",), False),
        ([("m", "")], (), False),
    ],
)
def test_all_versions_are_named_and_a_mixed_model_is_told(
    replies: list[tuple[str, str]], weights: tuple[str, ...], is_mixed: bool
) -> None:
    record = record_of(*replies)
    assert (record.weights, record.is_mixed) == (weights, is_mixed)
