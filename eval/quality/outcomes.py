"""What an episode's outcome says: its label, and whether its values are there and plausible; pure.

An outcome is read as a plain mapping, by the names that protocols give its parts: `illness` or `label` is the label,
`fields` the texts decided on, `attempts` of a plan hold scores. What a protocol does not have is not looked at.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from engine.record import EpisodeRecord

LABEL_KEYS: Final = ("illness", "label")
MAX_LABEL_WORDS: Final = 12
MAX_LABEL_CHARS: Final = 80
SCORES: Final = (1, 10)
MIN_LETTERS: Final = 0.5
"""Least share of letters and blanks in a text that says something in words."""

_PLACEHOLDER: Final = re.compile(
    r"(?:none|null|nil|n/?a|unknown|unclear|undefined|tbd|text|string|answer|value|explanation|treatment|medicine"
    r"|medication|illness|diagnosis|not (?:applicable|specified|provided|mentioned|available|known)|\.{2,}|…"
    r"|\[[^\]]*\]|<[^>]*>|\{[^}]*\})[.!:]?",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(r"\b(?:i|i['’]m|you|your|me|my|we|sure|please)\b", re.IGNORECASE)
"""Words of somebody who talks to somebody: no label has them."""


def outcome_of(record: EpisodeRecord) -> dict[str, Any]:
    """Return an episode's outcome as a mapping, empty when it has none that can be read."""
    try:
        outcome = msgspec.json.decode(record.outcome) if record.outcome else {}
    except msgspec.DecodeError:
        return {}
    return outcome if isinstance(outcome, dict) else {}


def label_of(outcome: Mapping[str, Any]) -> str | None:
    """Return the label as it was written, "" when it is missing, None when the protocol gives none."""
    key = next((key for key in LABEL_KEYS if key in outcome), None)
    if key is None:
        return None
    value = outcome[key]
    return value if isinstance(value, str) else ""


def tidied(label: str) -> str:
    """Return a label in small letters, on one line, without closing punctuation."""
    return " ".join(label.casefold().split()).strip(" .,;:!?*\"'`()[]")[:MAX_LABEL_CHARS]


def implausible(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of values that are there but cannot be meant, each once per value."""
    label = label_of(outcome)
    if label and (is_placeholder(label) or len(label.split()) > MAX_LABEL_WORDS or _ADDRESS.search(label)):
        yield next(key for key in LABEL_KEYS if key in outcome)
    fields = outcome.get("fields")
    for name, text in fields.items() if isinstance(fields, dict) else ():
        if isinstance(text, str) and text and is_placeholder(text):
            yield str(name)
    for name, score in _scores(outcome):
        if isinstance(score, bool) or not isinstance(score, int | float) or not SCORES[0] <= score <= SCORES[1]:
            yield f"{name} score"


def is_placeholder(text: str) -> bool:
    """Whether a text stands for a value instead of being one, or is hardly made of letters."""
    text = text.strip()
    letters = sum(character.isalpha() or character.isspace() for character in text)
    return not text or letters < MIN_LETTERS * len(text) or _PLACEHOLDER.fullmatch(text) is not None


def _scores(outcome: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (part, score) of every scored attempt; a missing score is counted elsewhere."""
    for name, part in outcome.items():
        attempts = part.get("attempts") if isinstance(part, dict) else None
        for attempt in attempts if isinstance(attempts, list) else ():
            if isinstance(attempt, dict) and attempt.get("score") is not None:
                yield name, attempt["score"]
