"""Perplexity: tokens of all texts count alike, first tokens have nothing before them, what is missing stays missing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.quality.perplexity import ScoredText, perplexity_of


def test_tokens_of_all_texts_count_alike() -> None:
    # Three tokens at 1/2 and one at 1/32: the fourth root of 2 * 2 * 2 * 32, not the mean of 2 and 32.
    texts = [ScoredText((None, *[math.log(0.5)] * 3)), ScoredText((None, math.log(1 / 32)), is_cut=True)]
    found = perplexity_of("m", texts)
    assert found.value == pytest.approx(4.0)
    assert (found.model, found.num_texts, found.num_tokens, found.num_cut) == ("m", 2, 4, 1)


def test_what_cannot_be_scored_has_none() -> None:
    found = perplexity_of("m", [ScoredText((None,)), ScoredText((), is_cut=True)])
    assert (found.value, found.num_tokens, found.num_cut) == (None, 0, 1)
    assert perplexity_of("m", []).value is None
    assert perplexity_of("m", [ScoredText((None, -9999.0))]).value == math.inf


@given(st.lists(st.lists(st.floats(-20, 0), min_size=1, max_size=20), min_size=1, max_size=5))
def test_it_lies_between_the_extremes_and_does_not_know_the_texts_borders(rows: list[list[float]]) -> None:
    value = perplexity_of("m", [ScoredText(tuple(row)) for row in rows]).value
    known = [one for row in rows for one in row]
    assert value is not None
    assert math.exp(-max(known)) <= value * (1 + 1e-9) and value <= math.exp(-min(known)) * (1 + 1e-9)
    assert perplexity_of("m", [ScoredText((None, *known))]).value == pytest.approx(value)
