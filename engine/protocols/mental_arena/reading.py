"""Reading finished episodes: the six-field record, the tables shown, figures of a run and what they warn of.

Cells hold model text as it is; whoever shows them cleans it. Nothing here is needed to play.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from engine.protocol import Rules, Section
from engine.protocols.mental_arena.diagnosis import illness_label
from engine.protocols.mental_arena.outcome import FIELDS, RECORD_FIELDS, DecodeRound, FeedbackRecord, Outcome, Plan
from engine.protocols.mental_arena.rules import EVERY_ROUND, REFERENCE_CUT, ArenaRules
from engine.record import EpisodeRecord

MIN_EPISODES: Final = 8
"""Fewer episodes than this show no pattern worth a warning."""

SAME_SHARE: Final = 0.9
HEADS: Final = ("intermediate beliefs", "beliefs in depression", "coping", "reaction", "manner")
REFERENCE_MODEL: Final = "bert-base-uncased"


def read_outcome(record: EpisodeRecord) -> Outcome | None:
    """Return the episode's outcome, None for an episode that has none."""
    return msgspec.json.decode(record.outcome, type=Outcome) if record.outcome else None


def records(record: EpisodeRecord) -> list[dict[str, str]]:
    """Return the published six-field record of a completed episode; what is missing is ""."""
    outcome = read_outcome(record)
    if outcome is None:
        return []
    known = {"symptom": outcome.symptom, "illness": outcome.illness, **outcome.fields}
    return [{name: known.get(name, "") for name in RECORD_FIELDS}]


def missing(outcome: Mapping[str, Any]) -> Mapping[str, int]:
    """Return missing values per field of one outcome."""
    counts: Mapping[str, int] = outcome["missing"]
    return counts


def facts(outcome: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the figures of one outcome that a run reports as means."""
    found = {"decoder rounds": float(outcome["num_guided"]), "disclosed share": float(outcome["disclosed_share"])}
    for kind in ("treatment", "medicine"):
        found[f"{kind} tries"] = float(len(outcome[kind]["attempts"]))
        best = outcome[kind]["best"]
        if best is not None:
            found[f"{kind} score"] = float(outcome[kind]["attempts"][best - 1]["score"])
    dropped = sum(one["status"].startswith("dropped") for turn in outcome["rounds"] for one in turn["feedback"])
    return {**found, "dropped feedback": float(dropped)} if outcome["rounds"] else found


def histograms(outcome: Mapping[str, Any]) -> Mapping[str, list[float]]:
    """Return the values of one outcome whose spread a run's page draws: similarities and scores."""
    rounds = outcome["rounds"]
    found = {"cosine of decoded fields, first round": rounds[:1], "cosine of decoded fields, last round": rounds[-1:]}
    values = {name: [one for turn in turns for one in turn["similarities"].values()] for name, turns in found.items()}
    for kind in ("treatment", "medicine"):
        values[f"scores of {kind} plans, every try"] = [one["score"] for one in outcome[kind]["attempts"]]
    return {name: [float(one) for one in found if one is not None] for name, found in values.items()}


class _Shared:
    """What a run's outcomes have in common, counted as they come."""

    def __init__(self) -> None:
        self.num = self.num_unfitted = 0
        self.rounds: Counter[int] = Counter()
        self.scores: Counter[int] = Counter()
        self.ranks: Counter[int] = Counter()
        self.preferred: Counter[str] = Counter()
        self.same: Counter[bool] = Counter()

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Count one outcome."""
        self.num += 1
        has_rounds = bool(outcome["rounds"])
        self.num_unfitted += has_rounds and outcome["cut_source"] == "unfitted"
        if outcome["cut"] < EVERY_ROUND and has_rounds and outcome["max_guided"]:
            self.rounds[outcome["num_guided"]] += 1
        for kind in ("treatment", "medicine"):
            self.scores.update(one["score"] for one in outcome[kind]["attempts"] if one["score"] is not None)
        choice = outcome["principles"]
        if choice and not choice["is_missing"]:
            self.ranks[choice["rank"]] += 1
        if outcome["preferred"] is not None:
            self.preferred[outcome["preferred"]] += 1
        self.same[outcome["is_same_diagnosis"]] += 1


def warnings(outcomes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say what a run's outcomes have in common that they should not."""
    shared = _Shared()
    for outcome in outcomes:
        shared.add(outcome)
    return [*_same_values(shared), *_unfitted(shared)]


def _dominant(values: Counter[Any]) -> tuple[Any, int] | None:
    """Return the value that nearly all share and how many do, None when there is no such value."""
    if (total := values.total()) < MIN_EPISODES:
        return None
    value, count = values.most_common(1)[0]
    return (value, count) if count >= SAME_SHARE * total else None


def _same_values(shared: _Shared) -> Iterator[str]:
    if found := _dominant(shared.rounds):
        yield (
            f"nearly all episodes took the same number of decoder rounds: {found[0]} in {found[1]} of "
            f"{shared.rounds.total()}; the similarity cut does not fit the embedder or the model: compare it with "
            "`sandplay calibrate`"
        )
    if found := _dominant(shared.scores):
        yield (
            f"scores have no spread: {found[1]} of {shared.scores.total()} are {found[0]}; the judge does not tell "
            "plans apart: use a stronger model for the judge"
        )
    if found := _dominant(shared.ranks):
        of = f"{found[1]} of {shared.ranks.total()} episodes"
        yield f"the principle choice is always the same: number {found[0]} in {of}"
    if found := _dominant(shared.preferred):
        of = f"{found[1]} of {shared.preferred.total()} episodes"
        yield f"the verdict is always the same: diagnosis {found[0]} in {of}"
    if (found := _dominant(shared.same)) and found[0]:
        yield f"both diagnoses name the same illness in {found[1]} of {shared.num} episodes"


def _unfitted(shared: _Shared) -> Iterator[str]:
    if count := shared.num_unfitted:
        yield f"no similarity cut was fitted for {count} episodes: run `sandplay calibrate`, or set protocol.similarity"


def cautions(rules: Rules, identity: str) -> list[str]:
    """Say before a run what its embedder means for its cut."""
    warning = embedder_warning(rules, identity)
    return [warning] if warning else []


def embedder_warning(rules: Rules, identity: str) -> str:
    """Return a sentence when the published cut meets an embedder it was not made for, else ""."""
    if not isinstance(rules, ArenaRules) or not rules.num_probes:
        return ""
    cut, source = rules.cut(None)
    if source == "unfitted" or not REFERENCE_CUT <= cut < EVERY_ROUND or REFERENCE_MODEL in identity.lower():
        return ""
    return (
        f"the published cut of {REFERENCE_CUT:g} belongs to mean-pooled {REFERENCE_MODEL}, got {cut:g} with embedder "
        f"{identity or '(unknown)'}: nothing may ever reach it; use that embedder, "
        'or similarity = "auto" in corrected mode'
    )


def sections(record: EpisodeRecord) -> list[Section]:
    """Return the tables of one episode: decoder rounds, feedback, diagnoses, plans, principles, missing values."""
    outcome = read_outcome(record)
    if outcome is None:
        return []
    found = [_rounds(outcome), _feedback(outcome), _diagnoses(outcome), _plans(outcome), _principles(outcome)]
    return [section for section in (*found, _missing(outcome)) if section is not None]


def _rounds(outcome: Outcome) -> Section | None:
    if not outcome.rounds:
        return None
    rows = tuple((str(one.number), *(_cell(one, field) for field in FIELDS), _followed(one)) for one in outcome.rounds)
    note = (
        f"Cosine of each decoded field with its gold; the cut is {outcome.cut:.3f} ({outcome.cut_source}), "
        f"below it a field deviates. Further exchanges: {outcome.num_guided}."
    )
    return Section(title="Symptom decoder", columns=("round", *HEADS, "followed by"), rows=rows, note=note)


def _cell(one: DecodeRound, field: str) -> str:
    if field not in one.similarities:
        return "not probed"
    cosine = one.similarities[field]
    if cosine is None:
        return "not compared"
    return f"{cosine:.3f} below" if field in one.deviating else f"{cosine:.3f}"


def _followed(one: DecodeRound) -> str:
    if not one.deviating:
        return "all similar"
    if not one.feedback:
        return "last round"
    return "guided exchange" if one.is_guided else "unguided exchange"


def _feedback(outcome: Outcome) -> Section | None:
    rows = tuple(
        (str(one.number), feedback.target, feedback.status, _seen_by(feedback), feedback.text)
        for one in outcome.rounds
        for feedback in one.feedback
        if feedback.status != "not needed"
    )
    if not rows:
        return None
    note = "The judge saw deviating gold fields beside the answers; the therapist saw delivered feedback alone."
    columns = ("round", "about", "status", "seen by", "feedback")
    return Section(title="Feedback", columns=columns, rows=rows, note=note if outcome.mode == "corrected" else "")


def _seen_by(feedback: FeedbackRecord) -> str:
    return "therapist, for one turn" if feedback.status == "delivered" else "judge alone"


def _diagnoses(outcome: Outcome) -> Section:
    rows = tuple(
        (str(number), illness_label(text), "preferred" if outcome.preferred == number else "", text)
        for number, text in enumerate(outcome.diagnoses, start=1)
    )
    chosen = outcome.illness or "missing"
    note = f"Illness: {chosen}\nVerdict: {outcome.verdict.strip() or 'missing'}\nReview: {outcome.review.strip()}"
    return Section(title="Diagnoses", columns=("", "illness", "verdict", "text"), rows=rows, note=note)


def _plans(outcome: Outcome) -> Section:
    rows = tuple(row for plan in (outcome.treatment, outcome.medicine) for row in _attempts(plan))
    columns = ("kind", "try", "score", "expected", "plan", "imagined outcome")
    note = "\n".join(f"{name}: {outcome.fields.get(name) or 'missing'}" for name in RECORD_FIELDS[2:])
    return Section(title="Plans", columns=columns, rows=rows, note=note)


def _attempts(plan: Plan) -> Iterator[tuple[str, ...]]:
    for attempt in plan.attempts:
        score = "missing" if attempt.score is None else str(attempt.score)
        mark = " best" if attempt.number == plan.best else ""
        expected = "" if attempt.expected_score is None else f"{attempt.expected_score:.2f}"
        yield plan.kind, str(attempt.number), score + mark, expected, attempt.plan, attempt.outcome


def _principles(outcome: Outcome) -> Section | None:
    choice = outcome.principles
    if choice is None:
        return None
    rows = tuple(
        (str(rank), ranked.group, f"{ranked.score:.3f}", "chosen" if rank == choice.rank else "")
        for rank, ranked in enumerate(choice.ranking, start=1)
    )
    note = "The judge's choice is missing: rank 1 applies." if choice.is_missing else ""
    return Section(title="Principles", columns=("rank", "group", "score", ""), rows=rows, note=note)


def _missing(outcome: Outcome) -> Section | None:
    rows = tuple((name, str(count)) for name, count in outcome.missing.items())
    return Section(title="Missing values", columns=("field", "count"), rows=rows) if rows else None
