"""Leak freedom: nothing hidden reaches the therapist, whatever the judge writes."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cases import load_cases, load_principles
from engine.cases.schema import Case
from engine.protocols.mental_arena.leakage import disclosed, leaks, ngrams, num_hidden, words
from engine.protocols.mental_arena.persona import hidden_texts
from engine.protocols.mental_arena.rules import ArenaRules
from engine.steps import Generate
from tests.engine.protocols.driving import asked, make_script, play, prompt

WORD = st.text("abcdefghijklmnop'-", min_size=1, max_size=6)


def eight_grams(text: str) -> set[tuple[str, ...]]:
    """An independent count: whitespace words in lower case, punctuation at their ends removed."""
    found = [re.sub(r"^\W+|\W+$", "", word) for word in text.lower().split()]
    return {tuple(found[at : at + 8]) for at in range(len(found) - 7)}


def hidden_grams(case: Case, principles: tuple[str, ...]) -> set[tuple[str, ...]]:
    return set().union(*(eight_grams(text) for text in (*case.hidden_texts, *case.core_beliefs, *principles)))


BUNDLED = load_cases("bundled", seed=0)
GROUPS = load_principles("bundled")


@pytest.mark.parametrize("case", BUNDLED, ids=[case.id for case in BUNDLED])
def test_no_therapist_request_holds_hidden_text_even_when_the_judge_quotes_gold(case: Case) -> None:
    draw = random.Random(case.id)
    quotes: list[str] = []

    def texts(leaf: Generate) -> str:
        if leaf.purpose != "feedback":
            return f"words of {leaf.path}"
        lines = [line for line in prompt(leaf).splitlines() if len(line.split()) > 8]
        found = draw.choice(lines).split()
        quotes.append(" ".join(found[: draw.randint(7, 40)]))
        return f"Ask about this: {quotes[-1].upper()}!"

    dialogue = play(
        ArenaRules(similarity=0.9, max_tries=2), case, groups=GROUPS, script=make_script(similarity=0.0, texts=texts)
    )
    principles = next(group.principles for group in GROUPS if group.id == dialogue.outcome.principles.chosen)
    hidden = hidden_grams(case, principles)
    assert quotes and hidden
    for leaf in asked(dialogue):
        if leaf.role != "therapist":
            continue
        seen = prompt(leaf)
        if leaf.path.endswith("/probe/4"):
            assert case.situation in seen
            seen = seen.replace(case.situation, "")
        assert not eight_grams(seen) & hidden, leaf.path


def test_feedback_that_quotes_gold_is_asked_again_then_dropped_and_the_exchange_goes_on_unguided() -> None:
    from tests.engine.protocols.driving import BEHAVIOR

    dialogue = play(
        ArenaRules(similarity=0.9, max_decoder_rounds=1),
        script=make_script(similarity=0.0, texts=lambda leaf: BEHAVIOR if leaf.purpose == "feedback" else leaf.path),
    )
    first = dialogue.outcome.rounds[0]
    assert [one.status for one in first.feedback] == ["dropped:leak", "dropped:leak"]
    assert [one.num_asks for one in first.feedback] == [3, 3]
    assert not first.is_guided and dialogue.outcome.num_guided == 1
    again = dialogue.steps["decode/1/feedback/cognition/again/1"]
    assert "repeated wording of the confidential material" in prompt(again)
    assert "supervisor" not in prompt(dialogue.steps["decode/1/therapist"])


def test_feedback_is_delivered_for_one_turn_only() -> None:
    dialogue = play(
        ArenaRules(similarity=0.9, max_decoder_rounds=2),
        script=make_script(
            similarity=0.0, texts=lambda leaf: f"ADVICE {leaf.path}" if leaf.purpose == "feedback" else "and so on"
        ),
    )
    guided = prompt(dialogue.steps["decode/1/therapist"])
    assert "ADVICE decode/1/feedback/cognition" in guided and "ADVICE decode/1/feedback/behaviour" in guided
    holders = [leaf.path for leaf in asked(dialogue) if "ADVICE decode/1" in prompt(leaf)]
    assert holders == ["decode/1/therapist"]


def test_undelivered_feedback_is_asked_for_and_reaches_nobody() -> None:
    def texts(leaf: Generate) -> str:
        return f"ADVICE {leaf.path}" if leaf.purpose == "feedback" else "and so on"

    script = make_script(similarity=0.0, texts=texts)
    given, kept = (
        play(ArenaRules(similarity=0.9, max_decoder_rounds=2, feedback=feedback), script=script)
        for feedback in ("delivered", "undelivered")
    )
    assert not any("ADVICE" in prompt(leaf) for leaf in asked(kept))
    assert kept.steps.keys() == given.steps.keys()  # the same calls
    assert kept.outcome.num_guided == given.outcome.num_guided == 2
    for one, other in zip(given.outcome.rounds[:-1], kept.outcome.rounds[:-1], strict=True):
        assert one.is_guided and not other.is_guided
        assert [(feedback.status, feedback.text) for feedback in other.feedback] == [
            ("not delivered", feedback.text) for feedback in one.feedback
        ]
        assert all(feedback.text for feedback in other.feedback)


def test_feedback_that_was_dropped_stays_dropped_when_none_is_delivered() -> None:
    from tests.engine.protocols.driving import BEHAVIOR

    script = make_script(
        similarity=0.0, texts=lambda leaf: BEHAVIOR if leaf.path.startswith("decode/1/feedback/cog") else "so it goes"
    )
    rules = ArenaRules(similarity=0.9, max_decoder_rounds=1, feedback="undelivered")
    feedback = play(rules, script=script).outcome.rounds[0].feedback
    assert [(one.status, one.num_asks) for one in feedback] == [("dropped:leak", 3), ("not delivered", 1)]


def test_feedback_after_a_leak_or_silence_is_taken_when_the_next_one_is_clean() -> None:
    from tests.engine.protocols.driving import BEHAVIOR

    def texts(leaf: Generate) -> str:
        if leaf.path.endswith("cognition"):
            return BEHAVIOR
        if leaf.path.endswith("behaviour"):
            return " "
        return "Ask about the evenings." if leaf.purpose == "feedback" else "so it goes"

    dialogue = play(ArenaRules(similarity=0.9, max_decoder_rounds=1), script=make_script(similarity=0.0, texts=texts))
    feedback = dialogue.outcome.rounds[0].feedback
    assert [(one.status, one.num_asks) for one in feedback] == [("delivered", 2), ("delivered", 2)]


def test_silent_feedback_is_dropped_and_does_not_count_as_similar() -> None:
    def texts(leaf: Generate) -> str:
        return "" if leaf.purpose == "feedback" else "so it goes"

    outcome = play(ArenaRules(similarity=0.9), script=make_script(similarity=0.0, texts=texts)).outcome
    assert outcome.num_guided == 5
    assert {one.status for turn in outcome.rounds for one in turn.feedback} == {"dropped:empty"}


def test_only_the_target_that_deviates_gets_feedback() -> None:
    from engine.steps import Leaf, Similarity

    def answer(leaf: Leaf) -> object:
        if isinstance(leaf, Similarity) and leaf.path == "decode/1/similar":
            return (1.0, 1.0, 0.2, 1.0, 1.0)
        return make_script()(leaf)

    dialogue = play(ArenaRules(similarity=0.9), script=answer)  # type: ignore[arg-type]
    feedback = dialogue.outcome.rounds[0].feedback
    assert [(one.target, one.status) for one in feedback] == [("cognition", "delivered"), ("behaviour", "not needed")]
    shown = prompt(dialogue.steps["decode/1/feedback/cognition"])
    assert "drinks wine to fall asleep" in shown and "replaceable" not in shown
    assert dialogue.outcome.num_guided == 1


def test_what_the_patient_said_aloud_may_reach_the_therapist() -> None:
    case = BUNDLED[0]

    def texts(leaf: Generate) -> str:
        return case.history if leaf.purpose == "opening" else "so it goes"

    dialogue = play(ArenaRules(similarity=0.9), case, groups=GROUPS, script=make_script(texts=texts))
    assert case.history in prompt(asked(dialogue, "diagnosis")[0])


@given(st.lists(WORD, min_size=8, max_size=30), st.data())
@settings(max_examples=200, deadline=None)
def test_every_copied_run_of_eight_words_is_a_leak(hidden: list[str], data: st.DataObject) -> None:
    """However it is cased and punctuated: the guarantee behind the six-word check."""
    at = data.draw(st.integers(0, len(hidden) - 8))
    glue = data.draw(st.sampled_from([" ", "  ", "\n", " ... ", '" "']))
    copy = glue.join(
        data.draw(st.sampled_from([str.upper, str.title, str.lower]))(word) for word in hidden[at : at + 8]
    )
    if len(words(" ".join(hidden[at : at + 8]))) >= 6:
        assert leaks(f"Perhaps: {copy}, or not?", [" ".join(hidden)])


def test_short_hidden_texts_leak_when_repeated_whole() -> None:
    assert leaks("Does he think 'I am a failure'?", ["I am a failure."])
    assert not leaks("Does he feel sad?", ["sad"])
    assert not leaks("I am not a failure of any kind", ["I am a failure."])


def test_words_fold_apostrophes_and_case() -> None:
    assert words("Don’t SHOUT -- it's «late»") == ["dont", "shout", "its", "late"]
    assert ngrams("a b c", 2) == {"a b", "b c"}


def test_disclosure_counts_distinct_runs() -> None:
    text = "one two three four five six seven eight nine"
    assert num_hidden([text]) == 2
    assert len(disclosed(f"{text}. {text}", [text])) == 2


def test_hidden_texts_cover_every_secret_of_a_case() -> None:
    case = BUNDLED[0]
    everything = "\n".join(hidden_texts(case, ("Answer slowly.",)))
    for secret in (*case.hidden_texts, *case.core_beliefs, "Answer slowly."):
        assert secret.strip() in everything
