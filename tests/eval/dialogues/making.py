"""Dialogues made for tests: records with outcomes as `mental_arena` writes them, and figures given outright."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.record import EpisodeKey, EpisodeRecord
from eval.dialogues.episode import EpisodeFigures
from eval.dialogues.runs import DialogueRun
from tests.eval.quality.records import make_record

STORY = {
    "id": "anna",
    "name": "Anna",
    "history": "Anna lost violins.",
    "intermediate_belief": "",
    "coping_strategies": "",
    "situation": "Paris",
    "auto_thought": "It is lost.",
    "emotion": ["afraid"],
    "behavior": "Hid the violins.",
    "condition": "Major depressive disorder",
}
"""Five words of content: lost, violin, Paris, afraid, hid."""
TALK = (
    ("patient", "I lost my violin, and I am Anna."),
    ("therapist", "Where was it?"),
    ("patient", "Nothing, really."),
    ("therapist", "Were you afraid in Paris?"),
    ("patient", "I was afraid in PARIS, so afraid."),
)


def arena_record(illness: str = "MDD", rounds: Sequence[Mapping[str, Any]] = (), **more: Any) -> EpisodeRecord:
    outcome = {"illness": illness, "rounds": list(rounds), "missing": more.pop("missing", {})}
    return make_record("anna", TALK, case_json=more.pop("case_json", STORY), outcome=outcome, **more)


def decode_round(is_guided: bool, **similarities: float | None) -> dict[str, Any]:
    return {"similarities": similarities, "is_guided": is_guided}


def figures(case: str, curve: Sequence[float], repeat: int = 0, **more: Any) -> EpisodeFigures:
    values: dict[str, Any] = {
        "digest": case,
        "similarities": {},
        "is_named": None,
        "is_unlabelled": False,
        "num_exchanges": len(curve) - 1,
        "num_guided": None,
        "missing": {},
    }
    return EpisodeFigures(key=EpisodeKey(case, repeat), disclosure=tuple(curve), **{**values, **more})


def make_run(name: str, *episodes: EpisodeFigures, num_failed: int = 0) -> DialogueRun:
    return DialogueRun(name=name, protocol="mental_arena", episodes=episodes, num_failed=num_failed)
