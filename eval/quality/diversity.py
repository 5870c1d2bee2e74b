"""Figures that a model must give: embedding diversity, diversity gain, perplexity. The models are the caller's.

Told of samples, seeded. Of a dialogue an embedder sees as much as its window holds.
"""

import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from engine.sampling import drawn
from eval.quality.figures import CorpusFigures, EmbeddingFigures, PerplexityFigures
from eval.quality.measure import Measure

Similarities: TypeAlias = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[float]]]
"""Cosine of each pair of texts, in order: `Embedder.similarities`."""
Perplexity: TypeAlias = Callable[[Sequence[str]], Awaitable[PerplexityFigures]]
"""Perplexity of dialogues, each one text, under a model."""

MAX_PAIRS: Final = 1000
MAX_NEW: Final = 64
MAX_EARLIER: Final = 256


async def mean_distance(texts: Sequence[str], similarities: Similarities, seed: int = 0) -> tuple[float | None, int]:
    """Return the mean distance (1 - cosine) of pairs of different texts, and how many pairs; all pairs, or a sample."""
    num_pairs = len(texts) * (len(texts) - 1) // 2
    if not num_pairs:
        return None, 0
    chosen = random.Random(seed).sample(range(num_pairs), min(num_pairs, MAX_PAIRS))
    pairs = [(texts[first], texts[second]) for first, second in map(_pair, chosen)]
    found = await similarities(pairs)
    return 1 - math.fsum(found) / len(found), len(found)


async def diversity_gain(
    new: Sequence[str], earlier: Sequence[str], similarities: Similarities, seed: int = 0
) -> tuple[float | None, int]:
    """Return the mean over new texts of the least distance (1 - cosine) to earlier ones, and over how many new ones.

    0 when nothing is new. Source: diversity gain as data set growth is measured in work on synthetic instructions.
    """
    chosen, known = drawn(list(new), MAX_NEW, seed), drawn(list(earlier), MAX_EARLIER, seed)
    if not chosen or not known:
        return None, 0
    least = [1 - max(await similarities([(text, other) for other in known])) for text in chosen]
    return math.fsum(least) / len(least), len(least)


async def with_models(
    measures: Sequence[Measure],
    *,
    similarities: Similarities | None = None,
    perplexity: Perplexity | None = None,
    seed: int = 0,
) -> list[CorpusFigures]:
    """Return the figures of corpora in order, with what models say of them; gain is against all corpora before."""
    earlier: list[str] = []
    found = []
    for made in measures:
        texts = made.dialogues.items
        figures = made.figures()
        if similarities is not None:
            distance, num_pairs = await mean_distance(texts, similarities, seed)
            gain, num_compared = await diversity_gain(texts, earlier, similarities, seed)
            embedding = EmbeddingFigures(distance=distance, num_pairs=num_pairs, gain=gain, num_compared=num_compared)
            figures = msgspec.structs.replace(figures, embedding=embedding)
        if perplexity is not None and texts:
            figures = msgspec.structs.replace(figures, perplexity=await perplexity(texts))
        found.append(figures)
        earlier += texts
    return found


def _pair(number: int) -> tuple[int, int]:
    """Return the pair (first < second) of that number, counted (0, 1), (0, 2), (1, 2), (0, 3) ..."""
    second = (1 + math.isqrt(8 * number + 1)) // 2
    return number - second * (second - 1) // 2, second
