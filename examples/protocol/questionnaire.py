"""A questionnaire: the patient is asked item by item, and answers each with one word of a scale.

In the configuration: `[protocol]` with `name = "questionnaire.py:questionnaire"`, and a model for the role `patient`.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.asking import ask_value
from engine.cases.schema import Case
from engine.protocol import STRAIGHT, ProtocolSpec, Rules, Section, Setting
from engine.protocols.texts import Catalog
from engine.record import EpisodeRecord
from engine.steps import Choice, Generate, Protocol, Sampling
from engine.views import View, neutralize

SCALE = ("never", "sometimes", "often", "always")
CATALOG = Catalog(Path(__file__).parent / "prompts", {"patient": frozenset({"name", "history", "situation"})})


class QuestionnaireRules(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of a questionnaire: its `items`, in that order or, with `shuffled`, in one drawn per episode."""

    max_tokens: int = 8
    items: tuple[str, ...] = ("I slept badly.", "I avoided people.", "I looked forward to something.")
    shuffled: bool = False

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each."""
        found = super().problems()
        if len(set(self.items)) < max(1, len(self.items)):
            found.append(f"protocol.items must be different items, got {list(self.items)}: give each once")
        return found


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered, by item; None where no word of the scale could be read."""

    answers: dict[str, str | None]


def session(case: Case, rules: QuestionnaireRules, *, seed: int, setting: Setting) -> Protocol[Answers]:
    """Return one questionnaire."""
    told = CATALOG.load(setting.prompts).shared(
        "patient", name=case.name, history=case.history, situation=case.situation
    )
    patient = View.common(neutralize(told))
    items = list(rules.items)
    if rules.shuffled:
        random.Random(seed).shuffle(items)
    answers: dict[str, str | None] = {}
    for item in items:
        asked = patient.hear(f"{item} ({', '.join(SCALE)})")
        path = f"item/{rules.items.index(item) + 1}"
        sampling = Sampling(rules.max_tokens, rules.temperature)
        value = yield from ask_value(Generate(path, "patient", asked, sampling, "item", Choice(SCALE)))
        answers[item] = value.choice
        patient = asked.say(value.choice or "(no answer)")
    return Answers(answers=answers)


def sections(record: EpisodeRecord) -> list[Section]:
    """Return the table that `sandplay show DIR EPISODE` adds."""
    found = msgspec.json.decode(record.outcome, type=Answers).answers if record.outcome else {}
    rows = tuple((item, answer or "-") for item, answer in found.items())
    return [Section(title="answers", columns=("item", "answer"), rows=rows)]


def missing(outcome: Mapping[str, Any]) -> dict[str, int]:
    """Count the answers that could not be read; they stand in the run's summary."""
    return {"answers": sum(answer is None for answer in outcome["answers"].values())}


questionnaire = ProtocolSpec(
    name="questionnaire",
    session=session,
    roles=("patient",),
    rules=QuestionnaireRules,
    extremes=STRAIGHT,
    sections=sections,
    missing=missing,
    texts=CATALOG.paths,
)
