"""Puts an episode's outcome together: what was decided, what is missing, and what the patient gave away."""

from collections.abc import Sequence

from engine.protocols.mental_arena.diagnosis import Diagnosis
from engine.protocols.mental_arena.encoder import Persona
from engine.protocols.mental_arena.leakage import disclosed, num_hidden
from engine.protocols.mental_arena.outcome import DecodeRound, Disclosure, Outcome, Plan, count_missing
from engine.protocols.mental_arena.stage import Stage


def conclude(
    stage: Stage,
    persona: Persona,
    said: Sequence[tuple[str, str]],
    rounds: tuple[DecodeRound, ...],
    diagnosis: Diagnosis,
    treatment: Plan,
    medicine: Plan,
    fields: dict[str, str],
) -> Outcome:
    """Put the outcome together."""
    spoken = [(path, disclosed(text, persona.hidden)) for path, text in said]
    total = num_hidden(persona.hidden) or 1
    return Outcome(
        mode=stage.rules.mode,
        switches=stage.rules.switches,
        style=stage.style,
        symptom=persona.symptom,
        principles=persona.choice,
        cut=stage.cut,
        cut_source=stage.cut_source,
        rounds=rounds,
        disclosure=tuple(Disclosure(path, len(found), round(len(found) / total, 6)) for path, found in spoken),
        disclosed_share=round(len(set().union(*(found for _, found in spoken))) / total, 6),
        diagnoses=diagnosis.texts,
        is_same_diagnosis=diagnosis.is_same,
        review=diagnosis.review,
        verdict=diagnosis.verdict,
        preferred=diagnosis.preferred,
        illness=diagnosis.illness,
        treatment=treatment,
        medicine=medicine,
        fields=fields,
        num_guided=max(0, len(rounds) - 1),
        max_guided=stage.rules.max_decoder_rounds,
        missing=count_missing(
            persona.choice,
            has_verdict=diagnosis.has_verdict,
            illness=diagnosis.illness,
            plans=(treatment, medicine),
            fields=fields,
        ),
    )
