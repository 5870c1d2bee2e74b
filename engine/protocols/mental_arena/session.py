"""One MentalArena episode in `corrected` mode, start to end, and the door to both modes."""

from engine.cases.schema import Case
from engine.errors import ConfigError
from engine.protocol import Setting
from engine.protocols.mental_arena.conclusion import conclude
from engine.protocols.mental_arena.decoder import decode_symptoms
from engine.protocols.mental_arena.diagnosis import diagnose
from engine.protocols.mental_arena.encoder import Persona, encode_symptoms
from engine.protocols.mental_arena.extraction import extract
from engine.protocols.mental_arena.interview import Talk, interview
from engine.protocols.mental_arena.outcome import Outcome, Plan
from engine.protocols.mental_arena.persona import draw_opening, draw_style
from engine.protocols.mental_arena.plans import Planning, try_plans
from engine.protocols.mental_arena.prompts import CATALOG
from engine.protocols.mental_arena.reference import play_reference
from engine.protocols.mental_arena.rules import ArenaRules
from engine.protocols.mental_arena.stage import Stage
from engine.steps import Protocol, both, enter


def mental_arena(case: Case, rules: ArenaRules, *, seed: int, setting: Setting) -> Protocol[Outcome]:
    """Return one episode of the case. Raises ConfigError without principles, InputError for broken prompt files."""
    stage = make_stage(case, rules, seed=seed, setting=setting)
    return play_reference(stage) if rules.mode == "reference" else play_corrected(stage)


def make_stage(case: Case, rules: ArenaRules, *, seed: int, setting: Setting) -> Stage:
    """Put together what the episode reads."""
    groups = tuple(setting.principles)
    if rules.behaviour and not groups:
        raise ConfigError(
            "principles must hold at least one group, got none: "
            "name a file of principles, or set protocol.behaviour = false"
        )
    cut, source = rules.cut(setting.cut)
    texts = CATALOG.load(setting.prompts)
    return Stage(
        case=case,
        rules=rules,
        texts=texts,
        groups=groups,
        style=draw_style(case, rules, seed),
        opening=draw_opening(texts, seed),
        cut=cut,
        cut_source=source,
    )


def play_corrected(stage: Stage) -> Protocol[Outcome]:
    """Play the episode with role-separated views."""
    persona = yield from encode_symptoms(stage)
    talk = yield from interview(stage, persona)
    talk, rounds = yield from decode_symptoms(stage, persona, talk)
    diagnosis = yield from diagnose(stage, persona, talk)
    treatment, medicine = yield from plan(stage, persona, talk, diagnosis.illness)
    yield from enter("extract")
    fields = yield from extract(stage, treatment, medicine)
    return conclude(stage, persona, talk.said, rounds, diagnosis, treatment, medicine, fields)


def plan(stage: Stage, persona: Persona, talk: Talk, illness: str) -> Protocol[tuple[Plan, Plan]]:
    """Try treatments and medicines side by side."""
    yield from enter("plan")
    treatments = Planning(stage=stage, persona=persona, talk=talk, kind="treatment", illness=illness)
    medicines = Planning(stage=stage, persona=persona, talk=talk, kind="medicine", illness=illness)
    return (yield from both(try_plans(treatments), try_plans(medicines)))
