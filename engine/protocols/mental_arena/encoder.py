"""The Symptom Encoder: choose the principles a patient talks by, and put the persona together (spec 2.2, 2.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.asking import ask_value
from engine.cases.principles import PrincipleGroup
from engine.protocols.mental_arena.outcome import PrincipleChoice, RankedGroup
from engine.protocols.mental_arena.persona import gold_texts, hidden_texts, patient_text, symptom_text
from engine.protocols.mental_arena.rules import NUM_GROUPS
from engine.protocols.mental_arena.stage import JUDGE, Stage, joined, numbered
from engine.steps import Generate, Protocol, enter, similar
from engine.values import describe
from engine.views import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """The encoded patient: the start of its view, and the gold that others must not read."""

    view: View
    choice: PrincipleChoice | None
    principles: tuple[str, ...]
    gold: dict[str, str]
    hidden: tuple[str, ...]
    symptom: str


def encode_symptoms(stage: Stage) -> Protocol[Persona]:
    """Choose the principles and return the persona that obeys them."""
    yield from enter("encode")
    choice = (yield from choose_principles(stage)) if stage.rules.behaviour else None
    principles = chosen_principles(stage.groups, choice)
    text = patient_text(stage.texts, stage.case, stage.rules, principles=principles, style=stage.style)
    return make_persona(stage, View.of(text), choice, principles)


def make_persona(stage: Stage, view: View, choice: PrincipleChoice | None, principles: tuple[str, ...]) -> Persona:
    """Return the persona with its gold."""
    return Persona(
        view=view,
        choice=choice,
        principles=principles,
        gold=gold_texts(stage.case, principles),
        hidden=hidden_texts(stage.case, principles),
        symptom=symptom_text(stage.case, cognition=stage.rules.cognition),
    )


def choose_principles(stage: Stage) -> Protocol[PrincipleChoice]:
    """Rank the groups against the coping strategies and let the judge choose among the best five."""
    top = yield from rank_groups(stage)
    value = yield from ask_value(choice_step(stage, top))
    rank = int(value.choice) if value.choice is not None else 1
    return PrincipleChoice(top, top[rank - 1].group, rank, value.is_missing)


def choice_step(stage: Stage, top: Sequence[RankedGroup]) -> Generate:
    """Return the judge's question."""
    known = {group.id: group for group in stage.groups}
    schema = numbered(len(top))
    text = stage.texts.render(
        "principle_choice",
        coping_strategies=stage.case.coping_strategies,
        groups=[joined(known[ranked.group].principles) for ranked in top],
        form=describe(schema),
    )
    return stage.step("encode/choice", JUDGE, stage.judge(text), "principle_choice", schema)


def rank_groups(stage: Stage) -> Protocol[tuple[RankedGroup, ...]]:
    """Score every group by its principle closest to the coping strategies; return the best five, ties in file order."""
    coping = stage.case.coping_strategies
    pairs = [(principle, coping) for group in stage.groups for principle in group.principles]
    floats = iter((yield from similar("encode/similar", pairs)))
    scored = [RankedGroup(group.id, max(next(floats) for _ in group.principles)) for group in stage.groups]
    return tuple(sorted(scored, key=lambda ranked: -ranked.score)[:NUM_GROUPS])


def chosen_principles(groups: Sequence[PrincipleGroup], choice: PrincipleChoice | None) -> tuple[str, ...]:
    """Return the principles of the group chosen, none without a choice."""
    if choice is None:
        return ()
    return next(group.principles for group in groups if group.id == choice.chosen)
