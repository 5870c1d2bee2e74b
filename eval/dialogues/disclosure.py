"""Disclosure: how much of the case's own story the patient has said, turn by turn; pure.

It counts words, not meaning. The story is every hidden text of the case (history, beliefs, coping, situation, thought,
emotion, behavior); its words are those of content, folded as the leak detector folds them, each counted once, without
the patient's name, which anybody may say. A story told in other words counts for nothing, and a word of it said in
another sense counts: fit for comparing runs of the same cases, not for saying how much a patient gave away.
"""

import functools
from collections.abc import Iterable, Sequence

from engine.cases.schema import Case
from eval.detectors.leaks import content_words


def disclosure_curve(case: Case, said: Iterable[str]) -> tuple[float, ...]:
    """Return the share (0..1) of the story's words said up to and including each of the patient's turns.

    A story without words of content is never disclosed.
    """
    story = story_words(case)
    told: set[str] = set()
    curve = []
    for text in said:
        told.update(story.intersection(content_words(text)))
        curve.append(len(told) / len(story) if story else 0.0)
    return tuple(curve)


@functools.lru_cache(maxsize=64)
def story_words(case: Case) -> frozenset[str]:
    """Return the words of content of a case's hidden texts; cached, for a case is played many times."""
    words = {word for text in case.hidden_texts for word in content_words(text)}
    return frozenset(words.difference(content_words(case.name)))


def at_turn(curve: Sequence[float], turn: int) -> float:
    """Return the share at a turn (1-based). Whoever has stopped talking discloses no more; who never spoke, nothing."""
    return curve[min(turn, len(curve)) - 1] if curve else 0.0
