"""Perplexity of texts from the log probabilities of their tokens; pure."""

import math
from collections.abc import Iterable

import msgspec

from eval.quality.figures import PerplexityFigures


class ScoredText(msgspec.Struct, frozen=True):
    """The log probabilities (natural) of a text's tokens, None for one that nothing comes before.

    `is_cut` says that the text was longer than the model's window, and its end was not scored.
    """

    log_probabilities: tuple[float | None, ...]
    is_cut: bool = False


def perplexity_of(model: str, texts: Iterable[ScoredText]) -> PerplexityFigures:
    """Return exp of the mean negative log probability per token, each token of all texts counting alike.

    None where no token could be scored; infinite where it is larger than a number can be.
    """
    scored = list(texts)
    known = [value for one in scored for value in one.log_probabilities if value is not None]
    return PerplexityFigures(
        model=model,
        value=_exp(-math.fsum(known) / len(known)) if known else None,
        num_texts=len(scored),
        num_tokens=len(known),
        num_cut=sum(one.is_cut for one in scored),
    )


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
