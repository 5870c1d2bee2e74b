import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cases.sampler import sample_cases
from engine.errors import StepFailed
from engine.protocol import Setting, find_protocol
from engine.protocols.exam import PROTOCOL, ExamOutcome, ExamRules, score, wilson
from engine.steps import Choice, Generate, Leaf, Reply
from tests.engine.protocols.driving import asked, make_case, run


def play(answer: str, seed: int = 0, **rules: Any) -> Any:
    case = make_case(condition="panic disorder")
    return run(PROTOCOL.play(case, ExamRules(**rules), seed=seed, setting=Setting()), lambda _: Reply(answer))


def options_of(dialogue: Any) -> tuple[str, ...]:
    (leaf,) = asked(dialogue)
    assert isinstance(leaf, Generate) and isinstance(leaf.value, Choice)
    return leaf.value.options


def test_an_item_is_one_constrained_call_that_names_all_options() -> None:
    dialogue = play("panic disorder")
    options = options_of(dialogue)
    assert len(set(options)) == 4 and options.count("panic disorder") == 1
    text = asked(dialogue)[0].view.message.text
    assert all(f"- {option}" in text for option in options) and make_case().auto_thought in text
    assert dialogue.outcome == ExamOutcome(right="panic disorder", answer="panic disorder")


def test_the_place_of_the_right_answer_goes_with_the_seed() -> None:
    places = {options_of(play("", seed=seed)).index("panic disorder") for seed in range(40)}
    assert places == {0, 1, 2, 3}
    assert options_of(play("", seed=3)) == options_of(play("", seed=3))


def test_an_answer_that_names_no_option_is_invalid_and_not_asked_again() -> None:
    dialogue = play("It is hard to say.")
    assert dialogue.outcome.answer is None and len(asked(dialogue)) == 1


def test_a_case_without_condition_is_no_item() -> None:
    with pytest.raises(StepFailed, match="no_label"):
        next(PROTOCOL.play(make_case(), ExamRules(), seed=0, setting=Setting()))


def test_the_examinee_never_sees_the_right_answer_apart_from_the_options() -> None:
    for case in sample_cases(24, 5):
        session = PROTOCOL.play(case, ExamRules(), seed=1, setting=Setting())

        def answer(leaf: Leaf) -> Reply:
            assert isinstance(leaf, Generate)
            shown = "\n".join(message.text for message in leaf.view.messages())
            # A profile may use a word such as "depression"; the gold label stands in the list alone.
            assert shown.count(case.condition) == 1  # noqa: B023
            return Reply("x")

        run(session, answer)


def test_a_score_counts_invalid_and_failed_items_as_wrong() -> None:
    rights = ["a", "a", "a", "b"]
    answers = ["a", "b", None, "b"]
    outcomes = [
        msgspec.to_builtins(ExamOutcome(right=right, answer=answer))
        for right, answer in zip(rights, answers, strict=True)
    ]
    found = score(outcomes, num_failed=1)
    assert (found.num_items, found.num_right, found.num_invalid) == (5, 2, 2)
    assert found.accuracy == 0.4 and found.low < 0.4 < found.high and found.always_one == 0.6
    with pytest.raises(ValueError):
        score([])


def test_wilson_by_hand() -> None:
    low, high = wilson(81, 263)  # a textbook's example
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


@given(st.integers(1, 500), st.data())
def test_the_interval_holds_the_share_and_stays_within_0_and_1(number: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, number))
    low, high = wilson(right, number)
    assert 0 <= low <= right / number + 1e-12 and right / number - 1e-12 <= high <= 1


def test_it_is_found_by_name_and_its_rules_are_checked() -> None:
    from pathlib import Path

    assert find_protocol("exam", Path()) is PROTOCOL
    assert ExamRules(num_options=1).problems() and not ExamRules().problems()
    assert asyncio.iscoroutinefunction(PROTOCOL.session) is False
