"""The Symptom Encoder's texts: what the patient is told, the gold that is decoded, and what no one else may read."""

import random
from collections.abc import Sequence

from engine.cases.schema import Case
from engine.protocols.mental_arena.outcome import FIELDS
from engine.protocols.mental_arena.rules import ArenaRules
from engine.protocols.texts import Texts
from engine.views import neutralize


def gold_texts(case: Case, principles: Sequence[str]) -> dict[str, str]:
    """Return the gold text of each decoded field; "" where the case has none."""
    golds = (
        case.intermediate_belief,
        case.intermediate_belief_depression,
        case.coping_strategies,
        reaction_text(case),
        " ".join(principles),
    )
    return {name: gold.strip() for name, gold in zip(FIELDS, golds, strict=True)}


def reaction_text(case: Case) -> str:
    """Return the gold of the reaction probe: three labelled lines."""
    emotions = "; ".join(case.emotion)
    return f"Automatic thoughts: {case.auto_thought}\nEmotions: {emotions}\nBehavior: {case.behavior}"


def hidden_texts(case: Case, principles: Sequence[str]) -> tuple[str, ...]:
    """Return every text that must not reach another role, as stored and as it is put together for the judge."""
    beliefs = (case.helpless_belief, case.unlovable_belief, case.worthless_belief)
    single = (text for belief in beliefs for text in belief)
    texts = (
        *case.hidden_texts,
        *("; ".join(belief) for belief in beliefs),
        *single,
        reaction_text(case),
        *principles,
        " ".join(principles),
    )
    return tuple(dict.fromkeys(text for text in texts if text.strip()))


def symptom_text(case: Case, *, cognition: bool = True) -> str:
    """Return the encoded symptoms as one text: history, cognitive diagram, last week (spec 4.1).

    Emotions are joined with "; ". Without `cognition` the diagram and the week are left out, as from the persona.
    """
    history = f"Patient history: {case.history}"
    if not cognition:
        return history
    diagram = {
        "Intermediate beliefs": case.intermediate_belief,
        "Intermediate beliefs during depression": case.intermediate_belief_depression,
        "Coping strategies": case.coping_strategies,
    }
    week = {
        "Situation": case.situation,
        "Automatic thoughts": case.auto_thought,
        "Emotions": "; ".join(case.emotion),
        "Behavior": case.behavior,
    }
    parts = (history, _lines("Cognitive conceptualization", diagram), _lines("Last week", week))
    return "\n\n".join(parts)


def _lines(title: str, entries: dict[str, str]) -> str:
    return "\n".join([f"{title}:", *(f"{label}: {text.strip()}" for label, text in entries.items() if text.strip())])


def draw_style(case: Case, rules: ArenaRules, seed: int) -> str:
    """Return the manner of speaking of this episode, drawn among the case's styles by seed; "" when switched off."""
    if not rules.switches["style"] or not case.styles:
        return ""
    return random.Random(f"style:{seed}").choice(case.styles)


def draw_opening(texts: Texts, seed: int) -> str:
    """Return the cue of this episode, drawn by seed among the paragraphs of its text."""
    cues = [cue.strip() for cue in texts.shared("opening").split("\n\n") if cue.strip()]
    return random.Random(f"opening:{seed}").choice(cues) if cues else "(You speak first.)"


def patient_text(
    texts: Texts, case: Case, rules: ArenaRules, *, principles: Sequence[str], style: str = "", is_review: bool = False
) -> str:
    """Return the persona prompt. `is_review` is the published variant outside the session."""
    core = " ".join(case.core_beliefs) if rules.switches["core_beliefs"] else ""
    text = texts.render(
        "patient",
        name=case.name,
        history=case.history.strip(),
        cognition=rules.cognition,
        intermediate_belief=case.intermediate_belief.strip(),
        intermediate_belief_depression=case.intermediate_belief_depression.strip(),
        coping_strategies=case.coping_strategies.strip(),
        core_beliefs=core,
        situation=case.situation.strip(),
        auto_thought=case.auto_thought.strip(),
        emotion="; ".join(case.emotion),
        behavior=case.behavior.strip(),
        style=style,
        principles=tuple(principles),
        sentences=rules.reply_sentences,
        is_review=is_review,
    )
    return neutralize(text)
