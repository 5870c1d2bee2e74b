"""What one finished dialogue shows; pure. What it does not have is None or empty, never 0.

Outcomes are read as plain mappings, by the names that `mental_arena` gives its parts, so that a protocol without a
decoder or a diagnosis is read as well. Knows nothing of runs.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from engine.cases.schema import Case, fingerprint
from engine.protocol import ProtocolSpec
from engine.record import EpisodeKey, EpisodeRecord
from engine.transcript import turns
from eval.dialogues.disclosure import disclosure_curve
from eval.quality.leak_trace import case_of
from eval.quality.outcomes import label_of, outcome_of

PATIENT: Final = "patient"

Canonical = Callable[[str], str]
"""Brings the name of an illness into common words; "" for a text that names none."""


class EpisodeFigures(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One finished dialogue.

    `digest` tells cases of one id apart. `disclosure` is the curve over the patient's turns. `similarities` are those
    of the last decode by field, without fields that were not compared. `is_named` says whether the diagnosis names the
    case's condition, None where there is no diagnosis or no condition; `is_unlabelled` that it names no illness, which
    is wrong. `num_exchanges` counts the therapist's turns, `num_guided` those that followed delivered feedback.
    """

    key: EpisodeKey
    digest: str
    disclosure: tuple[float, ...]
    similarities: Mapping[str, float]
    is_named: bool | None
    is_unlabelled: bool
    num_exchanges: int
    num_guided: int | None
    missing: Mapping[str, int]


def measure_episode(record: EpisodeRecord, spec: ProtocolSpec, canonical: Canonical) -> EpisodeFigures | None:
    """Return the figures of a completed episode; None for any other, and for one whose case cannot be read."""
    case = case_of(record)
    if record.status != "completed" or case is None:
        return None
    outcome = outcome_of(record)
    spoken = turns(record, spec.turns)
    said = [turn.text for turn in spoken if turn.role == PATIENT]
    rounds = outcome.get("rounds")
    label = label_of(outcome)
    return EpisodeFigures(
        key=record.key,
        digest=fingerprint([case]),
        disclosure=disclosure_curve(case, said),
        similarities=_last_similarities(rounds or []),
        is_named=_is_named(label, case, canonical),
        is_unlabelled=label is not None and not canonical(label),
        num_exchanges=len(spoken) - len(said),
        num_guided=None if rounds is None else sum(one["is_guided"] for one in rounds),
        missing=spec.missing(outcome) if spec.missing is not None else {},
    )


def _last_similarities(rounds: list[Any]) -> dict[str, float]:
    found = rounds[-1]["similarities"] if rounds else {}
    return {field: cosine for field, cosine in found.items() if cosine is not None}


def _is_named(label: str | None, case: Case, canonical: Canonical) -> bool | None:
    """Compare the names as they are in common words: one that is only near counts as wrong."""
    condition = canonical(case.condition).casefold()
    return canonical(label).casefold() == condition if label is not None and condition else None
