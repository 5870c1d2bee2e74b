"""What one episode looks like: its turns with what the detectors say of each, and its figures; pure.

Everything that is counted over a corpus is first told of one episode here, so that a corpus can be streamed.
"""

import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import msgspec

from engine.protocol import ProtocolSpec
from engine.record import EpisodeRecord, StepRecord
from eval.detectors.crisis import Level, crisis_level, is_taken_up
from eval.detectors.refusal import refusal
from eval.detectors.role_confusion import role_confusion
from eval.quality.leak_trace import Leak, leaks_of
from eval.quality.outcomes import implausible, label_of, outcome_of
from eval.quality.text import distinct, words

PATIENT = "patient"
THERAPIST = "therapist"


class TurnProfile(msgspec.Struct, frozen=True, gc=False):
    """One utterance, empty ones included. `tokens` is 0 where the backend does not count them.

    `refusal` and `confusion` are kinds, "" for none. `level` is that of a patient's words; `is_answered` says whether
    the next turn takes them up.
    """

    role: str
    text: str
    words: tuple[str, ...]
    tokens: int
    refusal: str
    confusion: str
    level: Level = "none"
    is_answered: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return self.confusion == "empty"

    @property
    def is_crisis(self) -> bool:
        """Whether it speaks of the speaker's own death or self-harm, not to deny it."""
        return self.level in ("active", "passive")


class EpisodeProfile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One episode. `label` is None where the protocol gives none; `leaks` where the case is not known.

    `missing` and `implausible` count values of the outcome by name; they are None without an outcome.
    """

    turns: tuple[TurnProfile, ...]
    is_retried: bool
    label: str | None
    leaks: tuple[Leak, ...] | None
    missing: dict[str, int] | None
    implausible: dict[str, int] | None

    @property
    def spoken(self) -> tuple[TurnProfile, ...]:
        """The turns in which something was said."""
        return tuple(turn for turn in self.turns if not turn.is_empty)

    @property
    def dialogue(self) -> str:
        """What was said, a line a turn."""
        return "\n".join(turn.text for turn in self.spoken)


def profile_of(record: EpisodeRecord, spec: ProtocolSpec) -> EpisodeProfile:
    """Return the profile of a record that was played by the protocol `spec`."""
    outcome = outcome_of(record)
    leaks = leaks_of(record)
    return EpisodeProfile(
        turns=tuple(_answered(tuple(_turns(record, spec.turns)))),
        is_retried=is_retried(record),
        label=label_of(outcome),
        leaks=tuple(leaks) if leaks is not None else None,
        missing=dict(spec.missing(outcome)) if spec.missing and outcome else ({} if outcome else None),
        implausible=dict(Counter(implausible(outcome))) if outcome else None,
    )


def is_retried(record: EpisodeRecord) -> bool:
    """Whether an episode is a later try of its case, or one of its steps failed an attempt or was asked again."""
    return record.key.attempt > 0 or any(step.attempts or "/again/" in step.path for step in record.steps)


def figures_of(profile: EpisodeProfile) -> dict[str, float]:
    """Return an episode's figures by name, those that it has, for comparing episodes with each other."""
    spoken = profile.spoken
    figures = {
        "turns": float(len(spoken)),
        "refusals": float(sum(bool(turn.refusal) for turn in spoken)),
        "confused turns": float(sum(bool(turn.confusion) for turn in profile.turns)),
        "crisis turns": float(sum(turn.is_crisis for turn in spoken)),
    }
    for role in (PATIENT, THERAPIST):
        lengths = [len(turn.words) for turn in spoken if turn.role == role]
        if lengths:
            figures[f"{role} words per turn"] = statistics.fmean(lengths)
    if (share := distinct([turn.words for turn in spoken], 2)) is not None:
        figures["distinct-2"] = share
    if profile.leaks is not None:
        figures["leaks"] = float(len(profile.leaks))
    if profile.missing is not None:
        figures["missing values"] = float(sum(profile.missing.values()))
    return figures


def _turns(record: EpisodeRecord, purposes: Collection[str]) -> Iterator[TurnProfile]:
    for step in record.steps:
        if step.reply is not None and (step.purpose in purposes if purposes else not step.schema):
            yield _turn(step, step.reply.text, step.reply.usage.completion_tokens)


def _turn(step: StepRecord, text: str, tokens: int) -> TurnProfile:
    confusion, refused = role_confusion(text, step.role), refusal(text)
    return TurnProfile(
        role=step.role,
        text=text,
        words=tuple(words(text)),
        tokens=tokens,
        refusal=refused.kind if refused is not None else "",
        confusion=confusion.kind if confusion is not None else "",
        level=crisis_level(text) if step.role == PATIENT else "none",
    )


def _answered(turns: Sequence[TurnProfile]) -> Iterator[TurnProfile]:
    """Yield the turns, those on crisis with whether the next one takes them up; the last one is not taken up."""
    for turn, reply in pairwise((*turns, None)):
        if turn is not None and turn.is_crisis and reply is not None and reply.role != turn.role:
            turn = msgspec.structs.replace(turn, is_answered=is_taken_up(reply.text))
        if turn is not None:
            yield turn
