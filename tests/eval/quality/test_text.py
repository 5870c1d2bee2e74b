"""Figures of texts: worked examples by hand, and the linear self-BLEU against the plain definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.quality.text import bleu, distinct, self_bleu, top_opening, words

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=9), max_size=7)


def test_words() -> None:
    assert words("Don't say \u201cNO\u201d -- it’s 3 o'clock") == ["don't", "say", "no", "it’s", "3", "o'clock"]


def test_distinct() -> None:
    # a b a b: bigrams ab, ba, ab; a b c: ab, bc. Three distinct of five.
    assert distinct([["a", "b", "a", "b"], ["a", "b", "c"]], 2) == pytest.approx(3 / 5)
    assert distinct([["a"]], 2) is None


def test_bleu_of_equal_and_of_unrelated_texts() -> None:
    text = words("the lamp in the hall was left on")
    assert bleu(text, [text]) == pytest.approx(1.0)
    assert bleu(text, [words("nobody came")]) == 0.0
    assert bleu([], [text]) == 0.0


def test_bleu_by_hand() -> None:
    # 6 words against 7. Words: the(1 of 2 allowed: 2) old dog slept on ... matches the, old, dog, slept, the = 5 of 6.
    # Bigrams: the-old, old-dog, dog-slept of 5: 3. Trigrams: 2 of 4. Fourgrams: 1 of 3. Brevity exp(1 - 7 / 6).
    hypothesis = words("the old dog slept under the")
    reference = words("the old dog slept by the fire")
    expected = math.exp(1 - 7 / 6) * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert bleu(hypothesis, [reference]) == pytest.approx(expected, rel=1e-12)


def test_bleu_clips_counts_and_smooths() -> None:
    # Three times a word that the references hold twice: 2 of 3; no bigram matches: 0.1 of 2, 0.1 of 1, 0.1 of none.
    found = bleu(["so", "so", "so"], [["so", "it", "so"], ["it", "so"]])
    assert found == pytest.approx((2 / 3 * 0.1 / 2 * 0.1 * 0.1) ** 0.25, rel=1e-12)


def test_the_reference_nearest_in_length_counts_the_shorter_of_two() -> None:
    hypothesis = ["a", "b", "c", "d", "e"]
    longer, shorter = [*hypothesis, "f"], hypothesis[:4]
    assert bleu(hypothesis, [longer, shorter]) == pytest.approx(1.0)
    assert bleu(hypothesis, [longer]) == pytest.approx(math.exp(1 - 6 / 5))


@given(TEXTS)
def test_self_bleu_is_the_mean_of_each_against_the_others(texts: list[list[str]]) -> None:
    kept = [text for text in texts if text]
    found = self_bleu(texts)
    if len(kept) < 2:
        assert found is None
        return
    each = [bleu(text, kept[:n] + kept[n + 1 :]) for n, text in enumerate(kept)]
    assert found == pytest.approx(sum(each) / len(each), abs=1e-12)


def test_top_opening() -> None:
    texts = [words(text) for text in ("I feel very low today", "I feel very low", "I feel fine", "My back hurts so")]
    assert top_opening(texts) == ("i feel very low", 2, 3)
    assert top_opening([]) == ("", 0, 0)
