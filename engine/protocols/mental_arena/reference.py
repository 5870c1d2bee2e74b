"""The published call graph: one history that both roles read and write, its fall-backs, and its order.

Faithful, so that counts and effects can be compared: the persona stands in the history the therapist reads, probes and
plans stay there, feedback is computed and never delivered, empty replies pass, nothing is asked again. Only the faults
that end an episode are mended: a group number out of range means rank 1, and with every score 0 the first attempt
counts. The history is one growing user text; the published lists of system messages fit no chat template.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from engine.protocols.mental_arena.conclusion import conclude
from engine.protocols.mental_arena.decoder import compare, feedback_steps, make_round, probed_fields
from engine.protocols.mental_arena.diagnosis import Diagnosis
from engine.protocols.mental_arena.encoder import Persona, choice_step, chosen_principles, make_persona, rank_groups
from engine.protocols.mental_arena.extraction import NAMES
from engine.protocols.mental_arena.outcome import (
    FIELDS,
    Attempt,
    DecodeRound,
    FeedbackRecord,
    Kind,
    Outcome,
    Plan,
    PrincipleChoice,
    RankedGroup,
)
from engine.protocols.mental_arena.persona import patient_text
from engine.protocols.mental_arena.stage import JUDGE, PATIENT, THERAPIST, Stage, bare
from engine.steps import Fields, Generate, Protocol, ask, enter
from engine.values import parse_fields
from engine.views import View

_DIGITS: Final = re.compile(r"\d+")
MAX_DIGITS: Final = 9
"""Longer runs of digits are no score; converting them would cost quadratic time."""


@dataclass(slots=True)
class History:
    """The one message list of an episode. It is local to its generator; every request takes the view as it stands."""

    stage: Stage
    persona: Persona
    review: View
    view: View
    said: list[tuple[str, str]]

    def therapist(self, path: str, purpose: str, text: str, *, with_system: bool = True) -> Protocol[str]:
        """Append an instruction, ask the therapist, append what it says."""
        if with_system:
            self.view = self.view.hear(self.stage.texts.shared("therapist", sentences=self.stage.rules.reply_sentences))
        self.view = self.view.hear(text)
        reply = yield from ask(self.stage.step(path, THERAPIST, self.view, purpose))
        self.view = self.view.hear(f"Doctor: {reply.text}")
        return reply.text

    def patient(self, path: str, purpose: str, persona: str) -> Protocol[None]:
        """Append the whole persona once more, ask the patient, append what it says."""
        if purpose != "opening":
            self.view = self.view.hear(persona)
        reply = yield from ask(self.stage.step(path, PATIENT, self.view, purpose))
        self.view = self.view.hear(f"Patient: {reply.text}")
        self.said.append((path, reply.text))


def play_reference(stage: Stage) -> Protocol[Outcome]:
    """Play the episode as published."""
    yield from enter("encode")
    choice = (yield from _choose_principles(stage)) if stage.rules.behaviour else None
    principles = chosen_principles(stage.groups, choice)
    text = patient_text(stage.texts, stage.case, stage.rules, principles=principles)
    review = View.of(patient_text(stage.texts, stage.case, stage.rules, principles=(), is_review=True))
    start = bare(text)
    history = History(stage, make_persona(stage, start, choice, principles), review, start, [])
    yield from enter("interview")
    yield from history.patient("interview/0/patient", "opening", text)
    for number in range(1, stage.rules.exchanges + 1):
        yield from _exchange(history, f"interview/{number}", text)
    rounds = yield from _decode_symptoms(history, text)
    diagnosis = yield from _diagnose(history)
    yield from enter("plan")
    treatment = yield from _try_plans(history, "treatment", diagnosis.illness)
    medicine = yield from _try_plans(history, "medicine", diagnosis.illness)
    yield from enter("extract")
    fields = yield from _extract(stage, treatment, medicine)
    return conclude(stage, history.persona, history.said, rounds, diagnosis, treatment, medicine, fields)


def _choose_principles(stage: Stage) -> Protocol[PrincipleChoice]:
    top = yield from rank_groups(stage)
    reply = yield from ask(_as_published(choice_step(stage, top)))
    rank = first_number(reply.text)
    is_missing = not 1 <= rank <= len(top)
    rank = 1 if is_missing else rank
    shown = tuple(RankedGroup(ranked.group, ranked.score) for ranked in top)
    return PrincipleChoice(shown, top[rank - 1].group, rank, is_missing)


def _as_published(step: Generate) -> Generate:
    """Return a judge's step without system text and without a value schema."""
    return msgspec.structs.replace(step, view=bare(step.view.message.text), value=None)


def first_number(text: str) -> int:
    """Return the first run of digits as published, 0 without one."""
    found = _DIGITS.search(text)
    return int(found[0]) if found is not None and len(found[0]) <= MAX_DIGITS else 0


def _exchange(history: History, path: str, persona: str) -> Protocol[None]:
    text = history.stage.texts.shared("therapist_turn")
    yield from history.therapist(f"{path}/therapist", "therapist_turn", text)
    yield from history.patient(f"{path}/patient", "patient_turn", persona)


def _decode_symptoms(history: History, persona: str) -> Protocol[tuple[DecodeRound, ...]]:
    """Decode until the feedback is empty or the rounds are used up; feedback follows the last decode too."""
    rules = history.stage.rules
    rounds: list[DecodeRound] = []
    if rules.decoder:
        yield from enter("decode")
    while rules.decoder:
        path = f"decode/{len(rounds) + 1}"
        predictions = yield from _probe(history, path)
        similarities = yield from compare(path, predictions, history.persona.gold, with_empty=True)
        current = make_round(history.stage, path, similarities)
        feedback = yield from _feedback(history, current, predictions, path)
        rounds.append(msgspec.structs.replace(current, feedback=feedback))
        if not any(one.text for one in feedback) or len(rounds) > rules.max_decoder_rounds:
            break
        yield from _exchange(history, path, persona)
    return tuple(rounds)


def _probe(history: History, path: str) -> Protocol[dict[str, str]]:
    """Ask the probes one after the other; each sees the answers before it."""
    predictions: dict[str, str] = {}
    for field in probed_fields(history.stage.rules):
        known = {"situation": history.stage.case.situation} if field == "reaction" else {}
        text = history.stage.texts.shared(f"probe_{field}", **known)
        where = f"{path}/probe/{FIELDS.index(field) + 1}"
        predictions[field] = yield from history.therapist(where, "probe", text, with_system=False)
    return predictions


def _feedback(
    history: History, current: DecodeRound, predictions: Mapping[str, str], path: str
) -> Protocol[tuple[FeedbackRecord, ...]]:
    written = []
    steps = feedback_steps(history.stage, history.persona.gold, current.deviating, predictions, path)
    for target, step in steps.items():
        reply = yield from ask(_as_published(step))
        written.append(FeedbackRecord(target, "not delivered", reply.text, 1))
    return tuple(written)


def _diagnose(history: History) -> Protocol[Diagnosis]:
    yield from enter("diagnose")
    texts = history.stage.texts
    first = yield from history.therapist("diagnose/1", "diagnosis", texts.render("diagnosis", earlier=""))
    differ = texts.render("diagnosis", earlier="(the opinion above)")
    second = yield from history.therapist("diagnose/2", "diagnosis", differ)
    asked = history.review.hear(texts.render("review", first=first, second=second))
    review = yield from ask(history.stage.step("diagnose/review", PATIENT, asked, "review"))
    question = bare(texts.render("verdict", review=review.text, form="the diagnosis"))
    verdict = yield from ask(history.stage.step("diagnose/verdict", PATIENT, question, "verdict"))
    return Diagnosis(
        texts=(first, second), review=review.text, verdict=verdict.text, preferred=None, illness=verdict.text.strip()
    )


def _try_plans(history: History, kind: Kind, illness: str) -> Protocol[Plan]:
    """Try plans as published; the earliest of the best counts, and the first when every score is 0."""
    rules = history.stage.rules
    attempts: list[Attempt] = []
    best = 0
    while len(attempts) < rules.max_tries and best < rules.good_score:
        path = f"plan/{kind}/{len(attempts) + 1}"
        attempt = yield from _attempt(history, kind, illness, path, is_repeat=best > 0)
        attempts.append(attempt)
        best = max(best, attempt.score or 0)
    number = next(attempt.number for attempt in attempts if (attempt.score or 0) == best)
    return Plan(kind, tuple(attempts), number)


def _attempt(history: History, kind: Kind, illness: str, path: str, *, is_repeat: bool) -> Protocol[Attempt]:
    stage = history.stage
    text = stage.texts.render("plan", kind=kind, illness=illness, earlier=(), is_repeat=is_repeat)
    plan = yield from history.therapist(f"{path}/plan", "plan", text)
    told = history.review.hear(stage.texts.render("outcome", kind=kind, plan=plan, state=""))
    outcome = yield from ask(stage.step(f"{path}/outcome", PATIENT, told, "outcome"))
    question = stage.texts.render(
        "score", profile="", kind=kind, plan="", outcome=outcome.text, form="one whole number from 1 to 10"
    )
    reply = yield from ask(stage.step(f"{path}/score", JUDGE, history.review.hear(question), "score"))
    return Attempt(int(path.rsplit("/", 1)[1]), plan, outcome.text, first_number(reply.text))


def _extract(stage: Stage, treatment: Plan, medicine: Plan) -> Protocol[dict[str, str]]:
    schema = Fields((*NAMES["treatment"], *NAMES["medicine"]))
    text = stage.texts.render(
        "extract",
        treatment=treatment.text or "(none)",
        medicine=medicine.text or "(none)",
        form="four lines, each beginning with its name and a colon",
    )
    reply = yield from ask(stage.step("extract", JUDGE, bare(text), "extract"))
    return parse_fields(schema, reply.text) or {}
