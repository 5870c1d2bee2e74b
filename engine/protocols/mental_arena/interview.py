"""The interview: patient and therapist in turn, each in a view of its own.

Invariant: the therapist's view holds what the patient said aloud and nothing else of the case. Turn instructions go to
the tail of a fork and leave no trace.
"""

from dataclasses import dataclass

from engine.asking import ask_text
from engine.protocols.mental_arena.encoder import Persona
from engine.protocols.mental_arena.stage import PATIENT, THERAPIST, Stage
from engine.steps import Protocol, enter
from engine.views import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """The conversation so far as either side saw it; `said` holds (path, text) per patient turn."""

    patient: View
    therapist: View
    said: tuple[tuple[str, str], ...]


def interview(stage: Stage, persona: Persona) -> Protocol[Talk]:
    """Play the patient's opening and the exchanges after it."""
    yield from enter("interview")
    cued = persona.view.hear(stage.opening)
    path = "interview/0/patient"
    reply = yield from ask_text(stage.step(path, PATIENT, cued, "opening"))
    talk = Talk(
        patient=cued.say(reply.text, reply.token_ids, reply.tokenizer),
        therapist=stage.therapist().hear(reply.text.strip()),
        said=((path, reply.text),),
    )
    for number in range(1, stage.rules.exchanges + 1):
        talk = yield from exchange(stage, talk, f"interview/{number}")
    return talk


def exchange(stage: Stage, talk: Talk, path: str, guidance: str = "") -> Protocol[Talk]:
    """Play one turn of the therapist and the patient's answer. `guidance` is read for this turn only."""
    asked = talk.therapist.hear(guidance) if guidance else talk.therapist
    turn = yield from ask_text(stage.step(f"{path}/therapist", THERAPIST, asked, "therapist_turn"))
    patient = talk.patient.hear(turn.text.strip())
    answer = yield from ask_text(stage.step(f"{path}/patient", PATIENT, patient, "patient_turn"))
    return Talk(
        patient=patient.say(answer.text, answer.token_ids, answer.tokenizer),
        therapist=talk.therapist.say(turn.text, turn.token_ids, turn.tokenizer).hear(answer.text.strip()),
        said=(*talk.said, (f"{path}/patient", answer.text)),
    )
