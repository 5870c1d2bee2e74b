"""Extraction: four short fields out of the two best plans (spec S13). A field that is not stated stays missing."""

from typing import Final

import msgspec

from engine.asking import ask_value
from engine.protocols.mental_arena.outcome import Plan
from engine.protocols.mental_arena.stage import JUDGE, Stage
from engine.steps import Fields, Protocol, Sampling
from engine.values import describe

NAMES: Final = {"treatment": ("treatment", "explain_t"), "medicine": ("medicine", "explain_m")}
MAX_FIELD_CHARS: Final = 400

CHARS_PER_TOKEN: Final = 3
"""A cautious figure for English, so that all fields at full length still fit the completion."""


KEY_TOKENS: Final = 10
"""What a key, its quotes and its comma take."""

MIN_TOKENS: Final = 160


def extract(stage: Stage, treatment: Plan, medicine: Plan) -> Protocol[dict[str, str]]:
    """Return the fields stated; nothing is asked when both plans are missing."""
    names = tuple(name for plan in (treatment, medicine) if plan.text for name in NAMES[plan.kind])
    if not names:
        return {}
    sampling = extract_sampling(stage)
    room = sampling.max_tokens // len(names) - KEY_TOKENS
    schema = Fields(names, min(MAX_FIELD_CHARS, room * CHARS_PER_TOKEN))
    text = stage.texts.render("extract", treatment=treatment.text, medicine=medicine.text, form=describe(schema))
    step = stage.step("extract", JUDGE, stage.judge(text), "extract", schema)
    value = yield from ask_value(msgspec.structs.replace(step, sampling=sampling))
    return value.fields


def extract_sampling(stage: Stage) -> Sampling:
    """Four fields take more room than an utterance: twice the tokens at least, so that the object can close."""
    return Sampling(max(MIN_TOKENS, 2 * stage.rules.max_tokens), stage.rules.temperature)
