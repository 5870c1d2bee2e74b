"""Counseling: therapist and patient talk until the therapist ends the session or the turns are used up.

The plainest protocol there is: two roles, no judge, no values, no similarities. It needs nothing of MentalArena.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from engine.asking import ask_text
from engine.cases.schema import Case
from engine.protocol import Extreme, ProtocolSpec, Rules, Setting, Sight
from engine.protocols.texts import Catalog
from engine.steps import Generate, Leaf, Protocol, Reply, Sampling, enter
from engine.views import View, neutralize

PATIENT: Final = "patient"
THERAPIST: Final = "therapist"
MARKER: Final = "[end of session]"
MIN_EPISODES: Final = 8

_MARKER: Final = re.compile(r"\[ ?end of (?:the )?session ?\.?\]", re.IGNORECASE)

CATALOG: Final = Catalog(
    Path(__file__).parent / "prompts",
    {
        "patient": frozenset({"name", "history", "situation", "sentences"}),
        "therapist": frozenset({"marker", "sentences"}),
        "opening": frozenset(),
    },
)


class CounselingRules(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of one counseling run: at most `max_turns` exchanges; `reply_sentences` caps utterances (0: four)."""

    max_turns: int = 8
    reply_sentences: int = 0

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each."""
        found = super().problems()
        for name, low, high in (("max_turns", 1, 1000), ("reply_sentences", 0, 50)):
            value = getattr(self, name)
            if not low <= value <= high:
                found.append(f"protocol.{name} must be {low}..{high}, got {value}: set a number in that range")
        return found


class CounselingOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a session ended: whole exchanges (therapist and patient), and who or what ended it."""

    turns: int
    ended_by: Literal["therapist", "max_turns"]


def counseling(case: Case, rules: CounselingRules, *, setting: Setting) -> Protocol[CounselingOutcome]:
    """Return one session. Raises InputError for broken prompt files."""
    texts = CATALOG.load(setting.prompts)
    sentences = rules.reply_sentences
    persona = texts.shared(
        "patient", name=case.name, history=case.history, situation=case.situation, sentences=sentences
    )
    expert = texts.shared("therapist", marker=MARKER, sentences=sentences)
    # Repeats of a case share the persona, all sessions the therapist's beginning.
    return _play(View.common(expert, texts.shared("opening")), View.common(neutralize(persona)), rules)


def _play(therapist: View, patient: View, rules: CounselingRules) -> Protocol[CounselingOutcome]:
    """Talk until the therapist ends the session; an end before the patient has spoken counts only without words."""
    sampling = _sampling(rules.max_tokens, rules.temperature)
    yield from enter("session")
    for number in range(1, rules.max_turns + 1):
        turn = yield from ask_text(Generate(f"{number}/therapist", THERAPIST, therapist, sampling, "therapist_turn"))
        is_marked = "[" in turn.text and _MARKER.search(turn.text) is not None
        words = _MARKER.sub("", turn.text).strip() if is_marked else turn.text.strip()
        if not words or (number > 1 and is_marked):
            return CounselingOutcome(turns=number - 1, ended_by="therapist")
        patient, therapist = patient.hear(words), _say(therapist, turn)
        del turn, words  # The views hold the texts: while it waits, a session holds no more than that.
        answer = yield from ask_text(Generate(f"{number}/patient", PATIENT, patient, sampling, "patient_turn"))
        patient = _say(patient, answer)
        therapist = therapist.hear(answer.text.strip())
        del answer
    return CounselingOutcome(turns=rules.max_turns, ended_by="max_turns")


@functools.lru_cache(maxsize=64)
def _sampling(max_tokens: int, temperature: float) -> Sampling:
    """Return one object for all sessions."""
    return Sampling(max_tokens, temperature)


def _say(view: View, reply: Reply) -> View:
    return view.say(reply.text, reply.token_ids, reply.tokenizer)


def _shortest(leaf: Leaf) -> str:
    is_therapist = isinstance(leaf, Generate) and leaf.role == THERAPIST
    return f"Goodbye. {MARKER}" if is_therapist else "Yes."


def _longest(_: Leaf) -> None:
    return None


def facts(outcome: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the figures of one session that a run reports as means."""
    return {"exchanges": float(outcome["turns"]), "ended by therapist": float(outcome["ended_by"] == "therapist")}


def warnings(outcomes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say so when no session of a run came to an end of its own."""
    ends = Counter(outcome["ended_by"] == "therapist" for outcome in outcomes)
    if ends[False] < MIN_EPISODES or ends[True]:
        return []
    return [
        f"no session was ended by the therapist: all {ends[False]} reached max_turns; "
        "the model may not follow the end-of-session rule"
    ]


PROTOCOL: Final = ProtocolSpec(
    name="counseling",
    session=counseling,
    roles=(PATIENT, THERAPIST),
    sees={PATIENT: Sight(), THERAPIST: Sight(hidden=False)},
    rules=CounselingRules,
    extremes=(
        Extreme(name="shortest", similarity=1.0, answer=_shortest),
        Extreme(name="longest", similarity=0.0, answer=_longest),
    ),
    turns=("therapist_turn", "patient_turn"),
    facts=facts,
    warnings=warnings,
    texts=CATALOG.paths,
)
