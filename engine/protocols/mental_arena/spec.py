"""MentalArena as a protocol the engine can play. Nothing heavy is imported: texts compile with the first episode."""

import json
from typing import Final

import msgspec

from engine.protocol import EMBEDDER, Extreme, ProtocolSpec, Sight
from engine.protocols.mental_arena.calibration import fit
from engine.protocols.mental_arena.prompts import CATALOG
from engine.protocols.mental_arena.reading import cautions, facts, histograms, missing, records, sections, warnings
from engine.protocols.mental_arena.rules import MAX_SCORE, ArenaRules, needed_context
from engine.protocols.mental_arena.session import mental_arena
from engine.protocols.mental_arena.stage import JUDGE, PATIENT, THERAPIST
from engine.steps import Fields, Generate, Leaf

DERIVED: Final = Sight(transcript=False, note="answers and plans drawn from the dialogue")
_SHORT: Final = "Yes."
_CHOSEN: Final = ("principle_choice", "verdict")


def shortest(leaf: Leaf) -> str:
    """Answer so that every loop ends at once."""
    return _value(leaf, str(MAX_SCORE)) or _SHORT


def longest(leaf: Leaf) -> str | None:
    """Answer so that every loop goes on; texts are as long as they may be."""
    return _value(leaf, "1")


def _value(leaf: Leaf, score: str) -> str | None:
    if not isinstance(leaf, Generate):
        return None
    if leaf.purpose == "score":
        return score
    if isinstance(leaf.value, Fields):
        return json.dumps(dict.fromkeys(leaf.value.names, "text"))
    return "1" if leaf.purpose in _CHOSEN and (leaf.value or leaf.purpose == "principle_choice") else None


def suited(rules: ArenaRules) -> ProtocolSpec:
    """Return the protocol as its mode needs it: in `reference` mode the therapist reads the persona, as published."""
    if rules.mode == "corrected":
        return PROTOCOL
    return msgspec.structs.replace(PROTOCOL, sees={**PROTOCOL.sees, THERAPIST: Sight()})


PROTOCOL: Final = ProtocolSpec(
    name="mental_arena",
    session=mental_arena,
    roles=(PATIENT, THERAPIST, JUDGE),
    sees={
        PATIENT: Sight(),
        THERAPIST: Sight(hidden=False, note="the situation, advice that quotes no hidden field"),
        JUDGE: DERIVED,
        EMBEDDER: DERIVED,
    },
    rules=ArenaRules,
    needs_embedder=True,
    suited=suited,
    # Similarity -1 lies below every cut that the rules allow.
    extremes=(
        Extreme(name="shortest", similarity=1.0, answer=shortest),
        Extreme(name="longest", similarity=-1.0, answer=longest),
    ),
    turns=("opening", "therapist_turn", "patient_turn"),
    records=records,
    sections=sections,
    missing=missing,
    facts=facts,
    histograms=histograms,
    warnings=warnings,
    fit=fit,
    cautions=cautions,
    needed_context=needed_context,
    texts=CATALOG.paths,
    paper={
        "exchanges": 4,
        "max_decoder_rounds": 5,
        "similarity": 0.9,
        "max_tries": 7,
        "good_score": 9,
        "max_tokens": 256,
        "temperature": 0.8,
        "reply_sentences": 5,
    },
)
