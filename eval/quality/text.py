"""Figures of texts alone: words, distinct n-grams, BLEU against each other, openings; pure."""

import bisect
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

Words: TypeAlias = Sequence[str]
Gram: TypeAlias = tuple[str, ...]

MAX_ORDER: Final = 4
EPSILON: Final = 0.1
"""Counted in place of no match at all in one order (Chen and Cherry 2014, smoothing 1)."""
OPENING_WORDS: Final = 4

_WORD: Final = re.compile(r"\w+(?:['’]\w+)?")


def words(text: str) -> list[str]:
    """Return the words of a text, folded."""
    return _WORD.findall(text.casefold())


def grams(tokens: Words, order: int) -> list[Gram]:
    """Return the n-grams of that order, repeats included."""
    return list(zip(*(tokens[shift:] for shift in range(order)), strict=False))


def distinct(texts: Iterable[Words], order: int) -> float | None:
    """Return distinct-n: distinct n-grams over all n-grams (Li and others 2016). None when there is none."""
    counts = Counter(gram for tokens in texts for gram in grams(tokens, order))
    total = counts.total()
    return len(counts) / total if total else None


def bleu(hypothesis: Words, references: Sequence[Words]) -> float:
    """Return BLEU-4 of one text against references, 0..1 (Papineni and others 2002), with smoothing 1.

    An order that the text is too short for counts as no match of one n-gram. 0 when not even a word matches.
    """
    limits = [Counter[Gram]() for _ in range(MAX_ORDER)]
    for reference in references:
        for order, limit in enumerate(limits, 1):
            limit |= Counter(grams(reference, order))
    return _score(hypothesis, limits, sorted(map(len, references)))


def self_bleu(texts: Sequence[Words]) -> float | None:
    """Return the mean BLEU-4 of each text against all others (Zhu and others 2018): 1 when all are the same.

    Linear in the texts: of each n-gram the two highest counts are kept, so that a text's own can be left out.
    None for fewer than two texts with words.
    """
    texts = [tokens for tokens in texts if tokens]
    if len(texts) < 2:
        return None
    counts = [[Counter(grams(tokens, order)) for order in range(1, MAX_ORDER + 1)] for tokens in texts]
    best: dict[Gram, tuple[int, int, int]] = {}
    for owner, orders in enumerate(counts):
        for gram, number in ((gram, number) for order in orders for gram, number in order.items()):
            first, its_owner, second = best.get(gram, (0, -1, 0))
            if number > first:
                best[gram] = (number, owner, first)
            elif number > second:
                best[gram] = (first, its_owner, number)
    lengths = sorted(map(len, texts))
    scores = []
    for owner, (tokens, orders) in enumerate(zip(texts, counts, strict=True)):
        limits = [Counter({gram: _others(best[gram], owner) for gram in order}) for order in orders]
        place = bisect.bisect_left(lengths, len(tokens))
        scores.append(_score(tokens, limits, lengths[:place] + lengths[place + 1 :]))
    return math.fsum(scores) / len(scores)


def _others(best: tuple[int, int, int], owner: int) -> int:
    """Return an n-gram's highest count in the texts of others."""
    return best[2] if best[1] == owner else best[0]


def _score(hypothesis: Words, limits: Sequence[Counter[Gram]], lengths: Sequence[int]) -> float:
    """Return BLEU, given the highest count of each n-gram in any reference and the references' lengths, sorted."""
    total = 0.0
    for order, limit in enumerate(limits, 1):
        counts = Counter(grams(hypothesis, order))
        matches = sum(min(number, limit[gram]) for gram, number in counts.items())
        if order == 1 and not matches:
            return 0.0
        total += math.log((matches or EPSILON) / max(counts.total(), 1))
    return _brevity(len(hypothesis), lengths) * math.exp(total / len(limits))


def _brevity(length: int, lengths: Sequence[int]) -> float:
    """Return the penalty for a text shorter than the reference that is nearest in length, the shorter of two."""
    place = bisect.bisect_left(lengths, length)
    nearest = min(lengths[max(0, place - 1) : place + 1], key=lambda other: (abs(other - length), other))
    return 1.0 if length >= nearest else math.exp(1 - nearest / length)


def top_opening(texts: Iterable[Words], num_words: int = OPENING_WORDS) -> tuple[str, int, int]:
    """Return the most frequent first words, how many texts begin with them, and how many texts are that long."""
    counts = Counter(" ".join(tokens[:num_words]) for tokens in texts if len(tokens) >= num_words)
    opening, number = counts.most_common(1)[0] if counts else ("", 0)
    return opening, number, counts.total()
