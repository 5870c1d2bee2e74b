"""The stage: what every part of one episode reads, and how a question is put to a role.

Invariant: one system text per role for the whole episode, so that every request of a role shares its prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.cases.principles import PrincipleGroup
from engine.cases.schema import Case
from engine.protocols.mental_arena.rules import MAX_SCORE, ArenaRules
from engine.protocols.texts import Texts
from engine.steps import Choice, Generate, Sampling, ValueSchema
from engine.views import Message, View, neutralize

PATIENT: Final = "patient"
THERAPIST: Final = "therapist"
JUDGE: Final = "judge"

SCORES: Final = Choice(tuple(str(score) for score in range(1, MAX_SCORE + 1)))
VERDICTS: Final = Choice(("1", "2"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One episode's case, rules and texts.

    `opening` is the neutral cue that the patient answers first. `cut` decides which decoded fields deviate (strictly
    below it).
    """

    case: Case
    rules: ArenaRules
    texts: Texts
    groups: tuple[PrincipleGroup, ...]
    style: str
    opening: str
    cut: float
    cut_source: str

    @property
    def sampling(self) -> Sampling:
        """How every call is sampled."""
        return Sampling(self.rules.max_tokens, self.rules.temperature)

    def therapist(self) -> View:
        """Start the therapist's view."""
        return View.common(self.texts.shared("therapist", sentences=self.rules.reply_sentences))

    def judge(self, text: str) -> View:
        """Return a fresh view of the judge on one piece of material."""
        return View.common(self.texts.shared("judge")).hear(text)

    def step(self, path: str, role: str, view: View, purpose: str, value: ValueSchema | None = None) -> Generate:
        """Return the step that asks `role`."""
        return Generate(path, role, view, self.sampling, purpose, value)


def bare(text: str) -> View:
    """Return a view without a system text, as the published judge calls have it."""
    return View.starting(Message("user", neutralize(text)))


def numbered(count: int) -> Choice:
    """Return the choice of one of 1..count."""
    return Choice(tuple(str(number + 1) for number in range(count)))


def joined(items: Sequence[str]) -> str:
    """Join a group's principles on one line."""
    return " ".join(" ".join(item.split()) for item in items)
