"""Two rival diagnoses, the patient's review of both, and the verdict (spec S7 to S10)."""

import re
from dataclasses import dataclass
from typing import Final

from engine.asking import ask_text, ask_value
from engine.protocols.mental_arena.encoder import Persona
from engine.protocols.mental_arena.interview import Talk
from engine.protocols.mental_arena.stage import PATIENT, THERAPIST, VERDICTS, Stage
from engine.steps import Protocol, enter
from engine.values import describe

MAX_LABEL_CHARS: Final = 120

_LABELLED: Final = re.compile(r"(?:diagnosis|diagnoses|illness|disorder)(?: is)?(?: ?:| [-–] )(.+)", re.IGNORECASE)
_NUMBERING: Final = re.compile(r"^(?:[-•]|\(?\d{1,2}[.):])\s+")
_MARKUP: Final = re.compile(r"[*_`#>\"“”]+")
_WHOSE: Final = re.compile(
    r"^(?:i (?:think|believe|feel|agree with) (?:that )?)?(?:the )?(?:doctor|dr\.?|opinion|clinician|therapist) ?[12]"
    r"(?:['’]s)?(?: (?:diagnosis|opinion|assessment))?(?: of| is| that| with|:)*\s*",
    re.IGNORECASE,
)
_END: Final = re.compile(r"(?<![A-Z])[.!?;](?=\s|$)|\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Both diagnoses, what the patient said of them, and the one preferred (1 or 2, None: no verdict)."""

    texts: tuple[str, str]
    review: str
    verdict: str
    preferred: int | None
    illness: str

    @property
    def has_verdict(self) -> bool:
        """Whether the patient decided: by a number, or (in `reference` mode) in words."""
        return self.preferred is not None or bool(self.illness)

    @property
    def is_same(self) -> bool:
        """Whether both name one illness."""
        first, second = (illness_label(text).casefold() for text in self.texts)
        return first == second


def diagnose(stage: Stage, persona: Persona, talk: Talk) -> Protocol[Diagnosis]:
    """Return two diagnoses and the patient's verdict; the review does not see the interview."""
    yield from enter("diagnose")
    first = yield from opine(stage, talk, 1, "")
    second = yield from opine(stage, talk, 2, first)
    asked = persona.view.hear(stage.texts.render("review", first=first, second=second))
    review = yield from ask_text(stage.step("diagnose/review", PATIENT, asked, "review"))
    answered = asked.say(review.text, review.token_ids, review.tokenizer)
    question = stage.texts.shared("verdict", review="", form=describe(VERDICTS))
    step = stage.step("diagnose/verdict", PATIENT, answered.hear(question), "verdict", VERDICTS)
    value = yield from ask_value(step)
    preferred = int(value.choice) if value.choice is not None else None
    illness = illness_label((first, second)[preferred - 1]) if preferred is not None else ""
    return Diagnosis(
        texts=(first, second), review=review.text, verdict=value.reply.text, preferred=preferred, illness=illness
    )


def opine(stage: Stage, talk: Talk, number: int, earlier: str) -> Protocol[str]:
    """Return one diagnosis; the earlier one is listed for the second."""
    view = talk.therapist.hear(stage.texts.render("diagnosis", earlier=earlier))
    reply = yield from ask_text(stage.step(f"diagnose/{number}", THERAPIST, view, "diagnosis"))
    return reply.text.strip()


def illness_label(text: str) -> str:
    """Return the short name of the illness a diagnosis gives: its labelled line, else its first sentence.

    Markdown and phrases such as "Doctor 2's diagnosis of" are removed. "" when nothing is left.
    """
    lines = [_NUMBERING.sub("", _MARKUP.sub("", line).strip()) for line in text.splitlines()]
    labelled = (found[1] for line in lines if (found := _LABELLED.search(line)) is not None)
    first = next(labelled, next((line for line in lines if line), ""))
    name = _WHOSE.sub("", _END.split(first.strip(), maxsplit=1)[0].strip())
    return name.strip(" .,:;-–")[:MAX_LABEL_CHARS].rstrip()
