"""Disclosure: shares counted by hand, and what holds for any talk."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.cases.schema import Case
from eval.detectors.leaks import content_words
from eval.dialogues.disclosure import at_turn, disclosure_curve, story_words
from tests.eval.dialogues.making import STORY, TALK

ANNA = msgspec.convert(STORY, type=Case)
SAID = [text for role, text in TALK if role == "patient"]


def test_words_of_the_story_count_once_without_name_everyday_words_and_endings() -> None:
    assert story_words(ANNA) == {"lost", "violin", "pari", "afraid", "hid"}
    assert content_words("You weren't in the SHOPS, were you?") == ["shop"]
    assert disclosure_curve(ANNA, SAID) == (2 / 5, 2 / 5, 4 / 5)


def test_who_stops_talking_discloses_no_more() -> None:
    assert [at_turn((0.2, 0.4), turn) for turn in (1, 2, 3, 9)] == [0.2, 0.4, 0.4, 0.4]
    assert at_turn((), 3) == 0.0


def test_a_story_of_everyday_words_is_never_disclosed() -> None:
    plain = {
        "history": "She was there.",
        "situation": "Then",
        "auto_thought": "So",
        "emotion": ("me",),
        "behavior": "It",
    }
    assert disclosure_curve(msgspec.structs.replace(ANNA, **plain), ["She was there", "so"]) == (0.0, 0.0)


@given(st.lists(st.sampled_from([*SAID, "Hid!", "lost", "", "violins, violins"])))
def test_disclosure_never_falls_and_is_a_share(said: list[str]) -> None:
    curve = disclosure_curve(ANNA, said)
    assert len(curve) == len(said) and list(curve) == sorted(curve)
    assert all(0 <= share <= 1 for share in curve)
    assert disclosure_curve(ANNA, [*said, " ".join(ANNA.hidden_texts)])[-1] == 1
    # Order and repetition change the way, not the end.
    assert not said or disclosure_curve(ANNA, [*reversed(said), *said])[-1] == curve[-1]
