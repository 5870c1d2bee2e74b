"""Episodes to samples: what a finished dialogue teaches; pure.

A sample is a chat whose assistant turns are taught, all of them; a preference sample adds the answer that was worse.
Nothing is dropped here but what is not there to be taught: filters do that, with a reason (`training.filters`). Source
of the three answers: MentalArena, section 3.3 and the published conversion, its defects corrected.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from engine.cases.schema import Case
from engine.protocol import ProtocolSpec
from engine.protocols.mental_arena.outcome import Attempt, Outcome, Plan
from engine.record import EpisodeRecord, StepRecord
from engine.transcript import ChatMessage, role_messages, seen_messages, turns
from engine.views import neutralize
from training import wording
from training.labels import canonical_label
from training.settings import PLAN, WARMUP, SampleSettings

ARENA: Final = "mental_arena"


class Source(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a sample comes from. `weights` are all versions that its episode was sampled under; `seq` its place."""

    episode: str = ""
    case: str = ""
    status: str = "completed"
    weights: tuple[str, ...] = ()
    seq: int = -1


NOWHERE: Final = Source()


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One row to train on.

    `messages` end with an assistant turn. `parts` are the texts that the answer is made of: none may be missing.
    `rejected` is the worse answer of a preference pair, else "". `score` is 1..10 where a judge gave one. `raw_label`
    is the label as the model wrote it; `label` the same in common words, "" when it names no illness.
    """

    kind: str
    messages: tuple[ChatMessage, ...]
    parts: tuple[str, ...]
    source: Source = NOWHERE
    rejected: str = ""
    score: float | None = None
    label: str = ""
    raw_label: str = ""

    @property
    def prompt(self) -> tuple[ChatMessage, ...]:
        """All but the last answer."""
        return self.messages[:-1]

    @property
    def completion(self) -> str:
        """The last answer."""
        return self.messages[-1]["content"]


def source_of(record: EpisodeRecord) -> Source:
    """Return where an episode's samples come from."""
    return Source(
        episode=record.episode,
        case=record.key.case,
        status=record.status,
        weights=record.weights,
        seq=record.seq,
    )


def samples_of(record: EpisodeRecord, spec: ProtocolSpec, settings: SampleSettings) -> Iterator[Sample]:
    """Yield what an episode teaches: answers first, then the other kinds. Failed episodes give what they have."""
    outcome = _outcome_of(record)
    answers = [kind for kind in settings.kinds if kind in ANSWER_MAKERS]
    for fields in spec.records(record) if spec.records and answers else ():
        yield from answer_samples(fields, answers, source_of(record), _scores(outcome))
    for kind in settings.kinds:
        if kind == PLAN:
            yield from _pairs(record, outcome, settings.min_margin)
        elif kind not in ANSWER_MAKERS:
            yield from _turn_samples(record, spec, kind)


def _outcome_of(record: EpisodeRecord) -> Outcome | None:
    if record.protocol != ARENA or not record.outcome:
        return None
    return msgspec.json.decode(record.outcome, type=Outcome)


def _scores(outcome: Outcome | None) -> dict[str, float | None]:
    if outcome is None:
        return {}
    return {"treatment": _best_score(outcome.treatment), "medication": _best_score(outcome.medicine)}


def _best_score(plan: Plan) -> float | None:
    return None if plan.best is None else plan.attempts[plan.best - 1].score


# ---------------------------------------------------------------- the paper's three


def answer_samples(
    fields: Mapping[str, str],
    kinds: Collection[str],
    source: Source = NOWHERE,
    scores: Mapping[str, float | None] | None = None,
) -> Iterator[Sample]:
    """Yield the rows of one six-field record, of these kinds, in the order diagnosis, treatment, medication."""
    for kind, make in ANSWER_MAKERS.items():
        if kind in kinds:
            sample = make({name: neutralize(value) for name, value in fields.items()})
            yield msgspec.structs.replace(sample, source=source, score=(scores or {}).get(kind))


def _diagnosis(fields: Mapping[str, str]) -> Sample:
    raw = fields["illness"].strip()
    label = canonical_label(raw)
    messages = _asked(fields["symptom"], wording.DIAGNOSIS, label or raw)
    return Sample(kind="diagnosis", messages=messages, parts=(raw,), label=label, raw_label=raw)


def _treatment(fields: Mapping[str, str]) -> Sample:
    return _explained(fields, "treatment", wording.TREATMENT, "treatment", "explain_t")


def _medication(fields: Mapping[str, str]) -> Sample:
    return _explained(fields, "medication", wording.MEDICATION, "medicine", "explain_m")


def _explained(fields: Mapping[str, str], kind: str, question: str, name: str, reason: str) -> Sample:
    parts = (fields[name].strip(), fields[reason].strip())
    answer = f"{parts[0].rstrip('.')}. {parts[1]}"
    return Sample(kind=kind, messages=_asked(fields["symptom"], question, answer), parts=parts)


def _asked(profile: str, question: str, answer: str, system: str = wording.EXPERT) -> tuple[ChatMessage, ...]:
    return (
        {"role": "system", "content": system},
        {"role": "user", "content": f"{profile.strip()}\n\n{question}"},
        {"role": "assistant", "content": answer},
    )


ANSWER_MAKERS: Final = {"diagnosis": _diagnosis, "treatment": _treatment, "medication": _medication}


# ---------------------------------------------------------------- turns and plans


def _turn_samples(record: EpisodeRecord, spec: ProtocolSpec, role: str) -> Iterator[Sample]:
    """Yield a role's side of the dialogue, all its turns taught."""
    messages = role_messages(record, role, turns(record, spec.turns))
    if messages:
        own = tuple(message["content"] for message in messages if message["role"] == "assistant")
        yield Sample(kind=role, messages=tuple(messages), parts=own, source=source_of(record))


def _pairs(record: EpisodeRecord, outcome: Outcome | None, min_margin: int) -> Iterator[Sample]:
    """Yield one pair per kind of plan: the best attempt, and the worst that is scored lower by the margin."""
    if outcome is None:
        return
    steps = {step.path: step for step in record.steps}
    for plan in (outcome.treatment, outcome.medicine):
        pair = best_and_worst(plan.attempts, min_margin)
        first = steps.get(f"plan/{plan.kind}/1/plan")
        if pair is not None and first is not None:
            yield _pair(record, first, *pair)


def best_and_worst(attempts: Collection[Attempt], min_margin: int) -> tuple[Attempt, Attempt] | None:
    """Return the best and the worst scored attempt, earliest of equals; None when they are closer than the margin."""
    scored = [attempt for attempt in attempts if attempt.score is not None]
    if not scored:
        return None
    best = max(scored, key=lambda attempt: (attempt.score or 0, -attempt.number))
    worst = min(scored, key=lambda attempt: (attempt.score or 0, attempt.number))
    return (best, worst) if (best.score or 0) - (worst.score or 0) >= min_margin else None


def _pair(record: EpisodeRecord, first: StepRecord, best: Attempt, worst: Attempt) -> Sample:
    """Both answers are put to the prompt of the first attempt, which names no earlier plan."""
    answer: ChatMessage = {"role": "assistant", "content": neutralize(best.plan)}
    return Sample(
        kind=PLAN,
        messages=(*seen_messages(record, first), answer),
        parts=(best.plan, worst.plan),
        rejected=neutralize(worst.plan),
        source=source_of(record),
        score=best.score,
    )


# ---------------------------------------------------------------- cognitive warm-up


def warmup_samples(case: Case) -> Iterator[Sample]:
    """Yield the two rows of a case that teach its cognitive model: history to beliefs, beliefs to reaction.

    Source: the published seed data, of which nothing is used.
    """
    source = Source(episode=case.id, case=case.id)
    beliefs = _lines(
        ("Beliefs", case.intermediate_belief),
        ("Beliefs while depressed", case.intermediate_belief_depression),
        ("Coping", case.coping_strategies),
    )
    reaction = _lines(("Thoughts", case.auto_thought), ("Emotions", case.emotion_text), ("Behaviour", case.behavior))
    history = _lines(("History", case.history))
    situation = f"{beliefs}\n{_lines(('Situation', case.situation))}"
    for profile, question, answer in ((history, wording.DIAGRAM, beliefs), (situation, wording.REACTION, reaction)):
        messages = _asked(profile, question, answer, wording.FORMULATOR)
        yield Sample(kind=WARMUP, messages=messages, parts=(answer,), source=source)


def _lines(*named: tuple[str, str]) -> str:
    return "\n".join(f"{name}: {neutralize(' '.join(text.split()))}" for name, text in named if text.strip())
