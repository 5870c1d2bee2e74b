"""Leak checks: which words of hidden texts a text repeats; pure.

Words are compared without case and punctuation, so that a copy with other commas is still a copy.
Finds copies and near-copies of wording; a free paraphrase is beyond it.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

LEAK_WORDS: Final = 6
"""Shared words in a row that count as a leak: two fewer than the 8-gram that must never pass, so that splitting words
differently (a dash standing alone, say) cannot let one through."""

SHORT_WORDS: Final = 4
"""A hidden text of fewer than `LEAK_WORDS` words counts as leaked when repeated whole, if it has at least this many."""

DISCLOSURE_WORDS: Final = 8

_WORD: Final = re.compile(r"\w+")
_APOSTROPHE: Final = re.compile(r"['’`´]")


def words(text: str) -> list[str]:
    """Return the words of a text, folded."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(_APOSTROPHE.sub("", folded))


def ngrams(text: str, size: int) -> set[str]:
    """Return the distinct runs of `size` words."""
    found = words(text)
    return {" ".join(found[start : start + size]) for start in range(len(found) - size + 1)}


def leaks(text: str, hidden: Sequence[str]) -> bool:
    """Whether `text` repeats wording of any hidden text."""
    if ngrams(text, LEAK_WORDS) & _hidden_ngrams(tuple(hidden), LEAK_WORDS):
        return True
    said = f" {' '.join(words(text))} "
    return any(f" {short} " in said for short in _short(tuple(hidden)))


def disclosed(text: str, hidden: Sequence[str]) -> set[str]:
    """Return the 8-grams of hidden texts that `text` repeats."""
    return ngrams(text, DISCLOSURE_WORDS) & _hidden_ngrams(tuple(hidden), DISCLOSURE_WORDS)


def num_hidden(hidden: Sequence[str]) -> int:
    """Return how many distinct 8-grams there are to disclose."""
    return len(_hidden_ngrams(tuple(hidden), DISCLOSURE_WORDS))


# Cached per case, not held by a dialogue: thousands of suspended dialogues must stay small.
@functools.lru_cache(maxsize=256)
def _hidden_ngrams(hidden: tuple[str, ...], size: int) -> frozenset[str]:
    return frozenset().union(*(ngrams(text, size) for text in hidden))


@functools.lru_cache(maxsize=256)
def _short(hidden: tuple[str, ...]) -> tuple[str, ...]:
    split = (words(text) for text in hidden)
    return tuple(" ".join(found) for found in split if SHORT_WORDS <= len(found) < LEAK_WORDS)
