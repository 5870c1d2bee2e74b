"""The Symptom Decoder: what has the therapist understood, and what should be asked next (spec 3).

The therapist states five fields on forks of its view; what is less similar to its gold than the cut gets feedback from
the judge, who alone sees gold and answer side by side. Feedback that repeats gold wording is asked again, then dropped;
under `feedback = "undelivered"` the rest is kept from the therapist, too.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from engine.asking import EMPTY_HINT, MAX_REASKS, again, ask_text
from engine.protocols.mental_arena.encoder import Persona
from engine.protocols.mental_arena.interview import Talk, exchange
from engine.protocols.mental_arena.leakage import leaks
from engine.protocols.mental_arena.outcome import FIELDS, DecodeRound, FeedbackRecord, FeedbackStatus, Target
from engine.protocols.mental_arena.rules import ArenaRules
from engine.protocols.mental_arena.stage import JUDGE, THERAPIST, Stage
from engine.steps import Generate, Protocol, Reply, ask, enter, parallel, similar
from engine.views import JOINT, View

COGNITIVE: Final = FIELDS[:4]
LABELS: Final = {
    "intermediate_belief": "Intermediate beliefs",
    "intermediate_belief_depression": "Intermediate beliefs during depression",
    "coping_strategies": "Coping strategies",
    "reaction": "Thoughts, emotions and behavior in last week's situation",
    "principles": "Manner of talking",
}


def decode_symptoms(stage: Stage, persona: Persona, talk: Talk) -> Protocol[tuple[Talk, tuple[DecodeRound, ...]]]:
    """Decode, and talk on under guidance, until nothing deviates or the rounds are used up."""
    if not stage.rules.decoder:
        return talk, ()
    yield from enter("decode")
    rounds: list[DecodeRound] = []
    for number in range(1, stage.rules.max_decoder_rounds + 2):
        path = f"decode/{number}"
        current, predictions = yield from decode(stage, persona, talk.therapist, path)
        if not current.deviating or number > stage.rules.max_decoder_rounds:
            rounds.append(current)
            break
        feedback = yield from advise(stage, persona, current, predictions, path)
        guidance = JOINT.join(one.text for one in feedback if one.status == "delivered")
        rounds.append(msgspec.structs.replace(current, feedback=feedback, is_guided=bool(guidance)))
        text = stage.texts.render("guidance", feedback=guidance) if guidance else ""
        talk = yield from exchange(stage, talk, path, text)
    return talk, tuple(rounds)


def probed_fields(rules: ArenaRules) -> tuple[str, ...]:
    """Return the fields that are probed under these rules."""
    return (COGNITIVE if rules.cognition else ()) + (FIELDS[4:] if rules.behaviour else ())


def decode(stage: Stage, persona: Persona, view: View, path: str) -> Protocol[tuple[DecodeRound, dict[str, str]]]:
    """Probe every field on a fork of `view` and compare with gold; return the round and the predictions."""
    fields = probed_fields(stage.rules)
    probes = [probe_step(stage, view, path, field) for field in fields]
    replies = yield from parallel([ask_text(step) for step in probes])
    predictions = {field: reply.text.strip() for field, reply in zip(fields, replies, strict=True)}
    similarities = yield from compare(path, predictions, persona.gold)
    return make_round(stage, path, similarities), predictions


def probe_step(stage: Stage, view: View, path: str, field: str) -> Generate:
    """Return the question for one field. Only the reaction probe is told anything: the situation."""
    known = {"situation": stage.case.situation} if field == "reaction" else {}
    text = stage.texts.shared(f"probe_{field}", **known)
    return stage.step(f"{path}/probe/{FIELDS.index(field) + 1}", THERAPIST, view.hear(text), "probe")


def compare(
    path: str, predictions: Mapping[str, str], gold: Mapping[str, str], *, with_empty: bool = False
) -> Protocol[dict[str, float | None]]:
    """Return the similarity of each prediction with its gold in one step; None where the gold is empty."""
    fields = [field for field in predictions if gold[field] or with_empty]
    floats = (yield from similar(f"{path}/similar", [(predictions[f], gold[f]) for f in fields])) if fields else ()
    found = dict(zip(fields, floats, strict=True))
    return {field: found.get(field) for field in predictions}


def make_round(stage: Stage, path: str, similarities: dict[str, float | None]) -> DecodeRound:
    """Return the round with the fields that lie strictly below the cut."""
    deviating = tuple(field for field, cosine in similarities.items() if cosine is not None and cosine < stage.cut)
    paths = {field: f"{path}/probe/{FIELDS.index(field) + 1}" for field in similarities}
    return DecodeRound(int(path.rsplit("/", 1)[1]), paths, similarities, deviating)


def advise(
    stage: Stage, persona: Persona, current: DecodeRound, predictions: Mapping[str, str], path: str
) -> Protocol[tuple[FeedbackRecord, ...]]:
    """Ask the judge what to turn to next: one call for deviating cognitive fields, one for the principles."""
    steps = feedback_steps(stage, persona.gold, current.deviating, predictions, path)
    written = yield from parallel(
        [safe_feedback(stage, step, target, persona.hidden) for target, step in steps.items()]
    )
    rest = [FeedbackRecord(target, "not needed") for target in TARGETS if target not in steps]
    if stage.rules.feedback == "undelivered":
        written = [withheld(one) for one in written]
    return (*written, *rest)


def withheld(feedback: FeedbackRecord) -> FeedbackRecord:
    """Return feedback that could be delivered as one that is not; what was dropped stays dropped."""
    is_fit = feedback.status == "delivered"
    return msgspec.structs.replace(feedback, status="not delivered") if is_fit else feedback


TARGETS: Final[tuple[Target, ...]] = ("cognition", "behaviour")


def feedback_steps(
    stage: Stage, gold: Mapping[str, str], deviating: Sequence[str], predictions: Mapping[str, str], path: str
) -> dict[Target, Generate]:
    """Return the feedback questions that are needed, in order."""
    texts: dict[Target, str] = {}
    items = [
        {"label": LABELS[field], "gold": gold[field], "prediction": predictions[field]}
        for field in COGNITIVE
        if field in deviating
    ]
    if items:
        texts["cognition"] = stage.texts.render("feedback_cognition", items=items)
    if "principles" in deviating:
        texts["behaviour"] = stage.texts.render(
            "feedback_behaviour", principles=gold["principles"], prediction=predictions["principles"]
        )
    return {
        target: stage.step(f"{path}/feedback/{target}", JUDGE, stage.judge(text), "feedback")
        for target, text in texts.items()
    }


def safe_feedback(stage: Stage, step: Generate, target: Target, hidden: Sequence[str]) -> Protocol[FeedbackRecord]:
    """Return feedback that says something and repeats no hidden wording, or one marked as dropped."""
    reply: Reply = yield from ask(step)
    status = judge_feedback(reply.text, hidden)
    num_asks = 1
    while status != "delivered" and num_asks <= MAX_REASKS:
        hint = EMPTY_HINT if status == "dropped:empty" else stage.texts.shared("feedback_again")
        reply = yield from ask(again(step, num_asks, hint))
        status = judge_feedback(reply.text, hidden)
        num_asks += 1
    return FeedbackRecord(target, status, reply.text.strip(), num_asks)


def judge_feedback(text: str, hidden: Sequence[str]) -> FeedbackStatus:
    """Say what may become of a feedback text."""
    if not text.strip():
        return "dropped:empty"
    return "dropped:leak" if leaks(text, hidden) else "delivered"
