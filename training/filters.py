"""Filters: which samples are not taught, each with a reason; pure.

One function per reason; the first that applies counts, in the order of `REASONS`. Duplicates are told apart elsewhere
(`engine.duplicates`), because that takes memory of what came before.
"""

import re
from collections.abc import Callable
from typing import Final

from engine.crisis import has_unanswered
from engine.token_count import bytes_count
from training.samples import Sample
from training.settings import PLAN, SampleSettings

TokenCount = Callable[[str], int]

_PLACEHOLDER: Final = re.compile(
    r"(?:none|null|nil|n/?a|not applicable|unknown|unclear|undefined|tbd|to be determined|explanation|treatment"
    r"|medicine|medication|illness|diagnosis|text|string|answer|\[[^\]]*\]|<[^>]*>|\{[^}]*\}|[.…_\-–*?\s]+)[.!:]?"
    r"|(?:explanation: *)?(?:none|not|no(?: \w+){1,3}?(?: (?:is|are|was|were))?)"
    r" (?:mentioned|provided|specified|stated|given|available|known)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_ROLE_OF_PATIENT: Final = {"patient": "assistant", "therapist": "user"}


def reason_to_drop(sample: Sample, settings: SampleSettings, count: TokenCount = bytes_count) -> str | None:
    """Return why a sample is not taught, None when it is."""
    return next((name for name, applies in REASONS.items() if applies(sample, settings, count)), None)


def is_placeholder(text: str) -> bool:
    """Whether a text stands for an answer instead of being one."""
    return _PLACEHOLDER.fullmatch(text.strip()) is not None


def _failed(sample: Sample, settings: SampleSettings, count: TokenCount) -> bool:
    return sample.source.status != "completed"


def _mixed(sample: Sample, settings: SampleSettings, count: TokenCount) -> bool:
    return not settings.mixed and len(sample.source.weights) > 1


def _empty(sample: Sample, settings: SampleSettings, count: TokenCount) -> bool:
    return not all(part.strip() for part in sample.parts)


def _placeholder(sample: Sample, settings: SampleSettings, count: TokenCount) -> bool:
    return any(map(is_placeholder, sample.parts))


def _unresolved(sample: Sample, settings: SampleSettings, count: TokenCount) -> bool:
    return sample.kind == "diagnosis" and not sample.label


def _low_score(sample: Sample, settings: SampleSettings, count: TokenCount) -> bool:
    is_scored = sample.kind in ("treatment", "medication", PLAN)
    return is_scored and settings.min_score > 0 and (sample.score or 0.0) < settings.min_score


def _too_long(sample: Sample, settings: SampleSettings, count: TokenCount) -> bool:
    return sum(count(message["content"]) for message in sample.messages) + count(sample.rejected) > settings.max_tokens


def _unanswered_crisis(sample: Sample, settings: SampleSettings, count: TokenCount) -> bool:
    patient = _ROLE_OF_PATIENT.get(sample.kind)
    return patient is not None and has_unanswered(sample.messages, patient)


REASONS: Final[dict[str, Callable[[Sample, SampleSettings, TokenCount], bool]]] = {
    "failed episode": _failed,
    "mixed weights": _mixed,
    "empty": _empty,
    "placeholder": _placeholder,
    "unresolved label": _unresolved,
    "low score": _low_score,
    "too long": _too_long,
    "unanswered crisis": _unanswered_crisis,
}
"""Every reason but those of duplicates, in the order in which they are looked for."""
