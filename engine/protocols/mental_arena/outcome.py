"""What one MentalArena episode came to: everything decided on the way, and how to read it back.

Texts that stand in the record's steps are named by path, not kept twice. A missing value is None or "", counted in
`missing`, and never a default.
"""

from typing import Final, Literal, TypeAlias

import msgspec

FIELDS: Final = (
    "intermediate_belief",
    "intermediate_belief_depression",
    "coping_strategies",
    "reaction",
    "principles",
)
"""The five decoded fields, in the order of their probes; the first four are cognitive."""

RECORD_FIELDS: Final = ("symptom", "illness", "treatment", "explain_t", "medicine", "explain_m")
"""The published six-field record."""

Kind: TypeAlias = Literal["treatment", "medicine"]
Target: TypeAlias = Literal["cognition", "behaviour"]
FeedbackStatus: TypeAlias = Literal["delivered", "dropped:leak", "dropped:empty", "not needed", "not delivered"]


class RankedGroup(msgspec.Struct, frozen=True, gc=False):
    """A principle group and its score: the best cosine of any of its principles with the coping strategies."""

    group: str
    score: float


class PrincipleChoice(msgspec.Struct, frozen=True, gc=False):
    """The groups shown to the judge, best first; `chosen` is a group, `rank` its place (1-based).

    With `is_missing` the judge named none, and rank 1 applies.
    """

    ranking: tuple[RankedGroup, ...]
    chosen: str
    rank: int
    is_missing: bool


class FeedbackRecord(msgspec.Struct, frozen=True, gc=False):
    """One feedback: for which fields, the text as last written, how often it was asked, and what became of it."""

    target: Target
    status: FeedbackStatus
    text: str = ""
    num_asks: int = 0


class DecodeRound(msgspec.Struct, frozen=True, gc=False):
    """One decode (1-based): per field the probe's path and its similarity (None: not compared, its gold is empty).

    A probe that was asked again has its answer under the last `PATH/again/N`.
    """

    number: int
    predictions: dict[str, str]
    similarities: dict[str, float | None]
    deviating: tuple[str, ...]
    feedback: tuple[FeedbackRecord, ...] = ()
    is_guided: bool = False


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One plan tried (1-based). `score` is None when none could be read; probabilities are over scores "1".."10"."""

    number: int
    plan: str
    outcome: str
    score: int | None
    probabilities: dict[str, float] | None = None
    expected_score: float | None = None


class Plan(msgspec.Struct, frozen=True, gc=False):
    """All attempts of one kind. `best` is the number of the best one, None when no score came back."""

    kind: Kind
    attempts: tuple[Attempt, ...]
    best: int | None

    @property
    def text(self) -> str:
        """The best plan, "" when missing."""
        return "" if self.best is None else self.attempts[self.best - 1].plan


class Disclosure(msgspec.Struct, frozen=True, gc=False):
    """How much of the hidden fields one patient turn spoke: distinct 8-grams, and their share of all there are."""

    path: str
    num_ngrams: int
    share: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One episode's outcome.

    `symptom` is the encoded gold as one text. `rounds` holds every decode; `num_guided` is the number of exchanges that
    followed a deviating decode, guided or not, of at most `max_guided`. `verdict` is the raw text, `preferred` 1 or 2
    (None: missing), `illness` the short name of the diagnosis preferred. `fields` are the four extracted texts.
    `missing` counts missing values per field. `cut_source` is `rules`, `reference`, `fitted` or `unfitted`.
    """

    mode: str
    switches: dict[str, bool]
    style: str
    symptom: str
    principles: PrincipleChoice | None
    cut: float
    cut_source: str
    rounds: tuple[DecodeRound, ...]
    disclosure: tuple[Disclosure, ...]
    disclosed_share: float
    diagnoses: tuple[str, str]
    is_same_diagnosis: bool
    review: str
    verdict: str
    preferred: int | None
    illness: str
    treatment: Plan
    medicine: Plan
    fields: dict[str, str]
    num_guided: int
    max_guided: int
    missing: dict[str, int]


def count_missing(
    principles: PrincipleChoice | None,
    *,
    has_verdict: bool,
    illness: str,
    plans: tuple[Plan, Plan],
    fields: dict[str, str],
) -> dict[str, int]:
    """Count missing values per field; fields without one are left out."""
    counts = {
        "principle_choice": int(principles is not None and principles.is_missing),
        "verdict": int(not has_verdict),
        "illness": int(not illness),
        "score": sum(attempt.score is None for plan in plans for attempt in plan.attempts),
        **{f"{plan.kind}_plan": int(plan.best is None) for plan in plans},
        **{name: int(not fields.get(name)) for name in RECORD_FIELDS[2:]},
    }
    return {name: count for name, count in counts.items() if count}


def best_attempt(attempts: tuple[Attempt, ...]) -> int | None:
    """Return the number of the highest-scored attempt, the earliest of equals; None when every score is missing."""
    scored = [attempt for attempt in attempts if attempt.score is not None]
    return max(scored, key=lambda attempt: (attempt.score or 0, -attempt.number)).number if scored else None


def expected_score(probabilities: dict[str, float] | None) -> float | None:
    """Return the mean score under the probabilities of the alternatives, None when there are none."""
    known = {int(name): share for name, share in (probabilities or {}).items() if name.isdecimal()}
    total = sum(known.values())
    return round(sum(score * share for score, share in known.items()) / total, 6) if total > 0 else None
