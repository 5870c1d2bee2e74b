"""Duplicates: equal rows always, near ones from the threshold on, each within its scope."""

import random

from hypothesis import given
from hypothesis import strategies as st

from engine.duplicates import Seen, shingles

WORDS = [f"word{n}" for n in range(400)]
TEXT = " ".join(WORDS[:100])


def changed(text: str, num_words: int) -> str:
    """Replace words evenly; each one changes up to three shingles."""
    words = text.split()
    for n in range(num_words):
        words[n * len(words) // num_words] = f"other{n}"
    return " ".join(words)


def test_equal_rows_are_dropped_in_their_scope() -> None:
    seen = Seen()
    assert [seen.reason_to_drop("a", TEXT) for _ in range(2)] == [None, "duplicate"]
    assert seen.reason_to_drop("b", TEXT) is None
    assert seen.reason_to_drop("a", changed(TEXT, 1)) is None


def test_near_rows_are_dropped_from_the_threshold_on() -> None:
    seen = Seen(0.8)
    assert seen.reason_to_drop("a", TEXT) is None
    assert seen.reason_to_drop("a", changed(TEXT, 1)) == "near duplicate"
    assert seen.reason_to_drop("a", TEXT.upper()) == "near duplicate"
    assert seen.reason_to_drop("b", changed(TEXT, 1)) is None
    assert seen.reason_to_drop("a", changed(TEXT, 50)) is None


def test_unrelated_rows_all_stay() -> None:
    chance, seen = random.Random(1), Seen(0.9)
    texts = [" ".join(chance.choices(WORDS, k=60)) for _ in range(200)]
    assert [seen.reason_to_drop("a", text) for text in texts] == [None] * 200


@given(st.lists(st.text(max_size=30), max_size=20))
def test_without_near_a_text_is_dropped_exactly_when_it_came_before(texts: list[str]) -> None:
    seen = Seen()
    found = [seen.reason_to_drop("", text) for text in texts]
    assert found == ["duplicate" if text in texts[:n] else None for n, text in enumerate(texts)]


def test_shingles() -> None:
    assert shingles("A b c d") == {"a b c", "b c d"}
    assert shingles("a b") == {"a b"}
    assert shingles("") == {""}
