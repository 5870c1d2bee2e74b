"""Figures that models give: pairs drawn once each, gain against all earlier corpora; the models are stand-ins."""

from collections.abc import Sequence

import pytest

from eval.quality.diversity import _pair, diversity_gain, mean_distance, with_models
from eval.quality.figures import PerplexityFigures
from eval.quality.measure import measure
from tests.eval.quality.records import SPEC, make_record


async def by_first_letter(pairs: Sequence[tuple[str, str]]) -> list[float]:
    return [1.0 if one[:1] == other[:1] else 0.25 for one, other in pairs]


async def count_chars(texts: Sequence[str]) -> PerplexityFigures:
    number = sum(map(len, texts))
    return PerplexityFigures(model="m", value=float(number), num_texts=len(texts), num_tokens=number, num_cut=0)


def test_pairs_are_counted_without_gaps() -> None:
    assert [_pair(n) for n in range(6)] == [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    assert len({_pair(n) for n in range(44850)}) == 44850 and max(map(_pair, range(44850)))[1] == 299


async def test_mean_distance() -> None:
    # Of the pairs aa, ab, ab one is at distance 0, two at 0.75.
    assert await mean_distance(["a", "a", "b"], by_first_letter) == (pytest.approx(0.5), 3)
    assert await mean_distance(["a"], by_first_letter) == (None, 0)


async def test_many_pairs_are_sampled() -> None:
    distance, num_pairs = await mean_distance([f"a{n}" for n in range(60)], by_first_letter, seed=1)
    assert (distance, num_pairs) == (0.0, 1000)


async def test_gain() -> None:
    assert await diversity_gain(["a", "c"], ["a", "b"], by_first_letter) == (pytest.approx(0.375), 2)
    assert await diversity_gain(["a"], [], by_first_letter) == (None, 0)


async def test_corpora_are_compared_with_those_before() -> None:
    talks = (("therapist", "apple"),), (("therapist", "banana"),), (("therapist", "avocado"),)
    measures = [measure([make_record(talk=talk)], "run", SPEC) for talk in talks]
    found = await with_models(measures, similarities=by_first_letter, perplexity=count_chars)
    assert [one.embedding.gain for one in found if one.embedding] == [None, 0.75, 0.0]
    assert [one.perplexity.value for one in found if one.perplexity] == [5.0, 6.0, 7.0]


async def test_without_models_nothing_is_asked() -> None:
    (found,) = await with_models([measure([make_record()], "run", SPEC)])
    assert found.embedding is None and found.perplexity is None
