"""How alike cases are: nearest neighbors by word shingles.

Similarity is the exact Jaccard coefficient of the sets of three-word shingles of two cases' hidden texts, names and
ages masked. Costs about queries x shingles x postings, in pure Python. Knows nothing of meaning: two wordings of one
idea count as different.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from engine.cases.sampler import mask
from engine.cases.schema import Case

NUM_WORDS: Final = 3
_WORD: Final = re.compile(r"[\w']+")


class NeighborReport(msgspec.Struct, frozen=True, kw_only=True):
    """The distribution of each queried case's similarity (0 to 1) to its nearest neighbor among all cases.

    `closest` names the two cases behind `max_similarity`.
    """

    num_cases: int
    num_queries: int
    p50: float
    p95: float
    max_similarity: float
    closest: tuple[str, str]


def nearest_neighbor_report(cases: Sequence[Case], seed: int, *, max_queries: int = 1000) -> NeighborReport:
    """Report how close cases lie to their nearest neighbors.

    At most `max_queries` cases, drawn with `seed`, are compared with all others. Raises ValueError for fewer than two
    cases.
    """
    if len(cases) < 2:
        raise ValueError(f"cases must be at least 2, got {len(cases)}: load more")
    shingles = _shingle(cases)
    postings: list[list[int]] = [[] for _ in range(1 + max(max(found, default=0) for found in shingles))]
    for index, found in enumerate(shingles):
        for shingle in found:
            postings[shingle].append(index)
    queries = sorted(random.Random(seed).sample(range(len(cases)), min(max_queries, len(cases))))
    nearest = [(*_nearest(query, shingles, postings), query) for query in queries]
    similarities = sorted(similarity for similarity, _, _ in nearest)
    top, neighbor, query = max(nearest)
    return NeighborReport(
        num_cases=len(cases),
        num_queries=len(queries),
        p50=_quantile(similarities, 0.5),
        p95=_quantile(similarities, 0.95),
        max_similarity=top,
        closest=(cases[query].id, cases[neighbor].id),
    )


def _shingle(cases: Sequence[Case]) -> list[set[int]]:
    """Return each case's shingles, numbered by first appearance."""
    numbers: dict[tuple[str, ...], int] = {}
    sets: list[set[int]] = []
    for case in cases:
        found: set[int] = set()
        for text in mask(case).hidden_texts:
            words = _WORD.findall(text.lower())
            grams = zip(*(words[start:] for start in range(min(NUM_WORDS, len(words)))), strict=False)
            found.update(numbers.setdefault(gram, len(numbers)) for gram in grams)
        sets.append(found)
    return sets


def _nearest(query: int, shingles: list[set[int]], postings: list[list[int]]) -> tuple[float, int]:
    """Return the similarity and index of the case most like `query`."""
    shared: Counter[int] = Counter()
    for shingle in shingles[query]:
        shared.update(postings[shingle])
    del shared[query]
    size = len(shingles[query])
    scored = ((num / (size + len(shingles[index]) - num), index) for index, num in shared.items())
    other = 0 if query else 1
    return max(scored, default=(0.0, other))


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
