import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocols.mental_arena.outcome import Attempt, best_attempt, expected_score
from engine.protocols.mental_arena.rules import ArenaRules
from engine.steps import Generate, Leaf, Reply
from tests.engine.protocols.driving import asked, make_script, prompt, run, start


def play_scores(scores: list[str], **rules: Any) -> Any:
    """Play with these scores for the treatments in turn (the last one repeats), 9 for medicines."""
    rest = itertools.chain(scores, itertools.repeat(scores[-1]))

    def answer(leaf: Leaf) -> Any:
        is_score = isinstance(leaf, Generate) and leaf.purpose == "score"
        if is_score and leaf.path.startswith("plan/treatment") and "/again/" not in leaf.path:
            return Reply(next(rest))
        return make_script(values={"score": "unclear" if "/again/" in leaf.path else "9"})(leaf)

    return run(start(ArenaRules(similarity=0.9, **rules)), answer)


@pytest.mark.parametrize(
    ("scores", "best", "tries"),
    [
        (["9"], 1, 1),
        (["5", "7", "10"], 3, 3),
        (["6", "8", "8", "3", "2", "8", "1"], 2, 7),
        (["unclear", "4", "unclear", "4", "4", "4", "4"], 2, 7),
        (["unclear"], None, 7),
    ],
)
def test_the_highest_score_wins_and_the_earliest_of_equals(scores: list[str], best: int | None, tries: int) -> None:
    plan = play_scores(scores).outcome.treatment
    assert (plan.best, len(plan.attempts)) == (best, tries)
    assert all(
        (attempt.score is None) == (scores[min(n, len(scores) - 1)] == "unclear")
        for n, attempt in enumerate(plan.attempts)
    )


def test_good_score_ends_the_tries() -> None:
    assert len(play_scores(["4", "6", "9"], good_score=6).outcome.treatment.attempts) == 2


def test_a_missing_kind_is_neither_shown_to_extraction_nor_filled_in() -> None:
    dialogue = play_scores(["unclear"])
    step = dialogue.steps["extract"]
    assert step.value.names == ("medicine", "explain_m")
    assert "plan/treatment" not in prompt(step)
    assert dialogue.outcome.fields == {"medicine": "a medicine", "explain_m": "a explain_m"}
    assert dialogue.outcome.missing == {"score": 7, "treatment_plan": 1, "treatment": 1, "explain_t": 1}


def test_earlier_plans_of_the_kind_are_listed_from_the_second_try() -> None:
    dialogue = play_scores(["3", "4", "9"])
    first, second, third = (prompt(dialogue.steps[f"plan/treatment/{number}/plan"]) for number in (1, 2, 3))
    assert "Do not propose" not in first
    assert "1. words of plan/treatment/1/plan" in second and "2. words" not in second
    assert "2. words of plan/treatment/2/plan" in third and "medicine/1" not in third


def test_treatment_and_medicine_are_independent() -> None:
    dialogue = play_scores(["3", "9"])
    for leaf in asked(dialogue):
        if leaf.path.startswith("plan/medicine"):
            assert "plan/treatment" not in prompt(leaf)


def test_the_judge_sees_case_plan_and_outcome() -> None:
    shown = prompt(play_scores(["9"]).steps["plan/treatment/1/score"])
    assert "small harbor town" in shown
    assert "words of plan/treatment/1/plan" in shown and "words of plan/treatment/1/outcome" in shown


def test_state_update_lets_the_next_plan_meet_the_state_of_the_best_so_far() -> None:
    dialogue = play_scores(["3", "2", "5", "9"], state_update=True)
    states = [prompt(dialogue.steps[f"plan/treatment/{number}/outcome"]) for number in (1, 2, 3, 4)]
    assert "since your care began" not in states[0]
    assert "words of plan/treatment/1/outcome" in states[1]
    assert "words of plan/treatment/1/outcome" in states[2] and "treatment/2/outcome" not in states[2]
    assert "words of plan/treatment/3/outcome" in states[3]
    still = play_scores(["3", "9"]).steps["plan/treatment/2/outcome"]
    assert "since your care began" not in prompt(still)


@given(st.lists(st.one_of(st.none(), st.integers(1, 10)), max_size=7))
def test_best_attempt_is_the_first_maximum(scores: list[int | None]) -> None:
    attempts = tuple(Attempt(number, "p", "o", score) for number, score in enumerate(scores, start=1))
    known = [score for score in scores if score is not None]
    assert best_attempt(attempts) == (scores.index(max(known)) + 1 if known else None)


def test_expected_score_needs_probabilities() -> None:
    assert expected_score(None) is None
    assert expected_score({}) is None
    assert expected_score({"2": 0.5, "4": 0.5}) == 3
