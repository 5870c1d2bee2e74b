"""Where in a text something personal stands, how it is shown, and how it is replaced; pure.

Invariant: neither what is shown nor what replaces it holds more of a value than its first characters.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

SHOWN_CHARS: Final = 2
MIN_MASKED: Final = 6
"""Values shorter than this show nothing of themselves."""

_PLACEHOLDER: Final = re.compile(r"\[[a-z ]{1,40}\]")


class Span(msgspec.Struct, frozen=True, gc=False):
    """Something found in a text: its kind, and the characters from `start` to before `end`."""

    kind: str
    start: int
    end: int


Detector: TypeAlias = Callable[[str], Sequence[Span]]
"""Returns what stands in a text, in order, without overlaps."""


def masked(text: str, span: Span) -> str:
    """Return how a value is shown: its first characters and its length."""
    length = span.end - span.start
    head = text[span.start : span.start + SHOWN_CHARS] if length >= MIN_MASKED else ""
    return f"{head}... ({length} characters)"


def apart(found: Iterable[Span], text: str) -> list[Span]:
    """Return the spans of a text in order, without overlaps: what was found first stays.

    So a text in which everything was replaced holds nothing more, whatever a detector thinks of the replacements.
    """
    taken, kept = bytearray(len(text)), []
    for place in _PLACEHOLDER.finditer(text):
        taken[place.start() : place.end()] = b"\1" * len(place[0])
    for span in found:
        if taken.find(1, span.start, span.end) < 0:
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append(span)
    return sorted(kept, key=lambda one: one.start)


def redact(text: str, detect: Detector) -> str:
    """Return a text with everything found replaced by its kind in brackets, until nothing is found."""
    while found := detect(text):
        parts, end = [], 0
        for span in found:
            parts += [text[end : span.start], f"[{span.kind}]"]
            end = span.end
        text = "".join([*parts, text[end:]])
    return text
