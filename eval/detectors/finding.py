"""A finding: what a detector saw, and where. Knows nothing of what is looked for."""

import re
from typing import Final

import msgspec

_STRAIGHT: Final = str.maketrans("‘’`´ʼ“”\u00a0\u202f", "'''''\"\"  ")


class Finding(msgspec.Struct, frozen=True, gc=False):
    """What was found: its kind, and the span of the text (characters from `start` to before `end`) that shows it."""

    kind: str
    start: int
    end: int
    text: str


def finding(kind: str, text: str, start: int, end: int) -> Finding:
    """Return the finding of a span of `text`."""
    return Finding(kind, start, end, text[start:end])


def straight(text: str) -> str:
    """Return `text` with plain quotation marks and spaces, character for character, so that spans stay true."""
    return text if text.isascii() else text.translate(_STRAIGHT)


def one_of(*patterns: str) -> re.Pattern[str]:
    """Compile patterns as alternatives, ignoring case."""
    return re.compile("|".join(patterns), re.IGNORECASE)


def sentence_before(text: str, position: int, max_chars: int) -> str:
    """Return what stands before `position` in its sentence, at most so many characters."""
    before = text[max(0, position - max_chars) : position]
    return before[1 + max(before.rfind(mark) for mark in ".!?\n") :]


def sentence_around(text: str, start: int, end: int, max_chars: int = 200) -> str:
    """Return the sentence that a span stands in, at most `max_chars` to either side."""
    after = text[end : end + max_chars]
    ends = [place for mark in ".!?\n" if (place := after.find(mark)) >= 0]
    return sentence_before(text, start, max_chars) + text[start:end] + after[: min(ends, default=len(after))]
