"""The published course with its own fall-backs."""

from typing import Any

import pytest

from engine.protocols.mental_arena.reference import first_number
from engine.protocols.mental_arena.rules import ArenaRules
from engine.steps import Generate
from tests.engine.protocols.driving import asked, make_case, make_script, play, prompt

RULES = ArenaRules(mode="reference")


def test_the_cut_is_the_published_one() -> None:
    outcome = play(RULES, script=make_script(similarity=0.89, score="9"), cut=0.3).outcome
    assert (outcome.cut, outcome.cut_source, outcome.num_guided) == (0.9, "reference", 5)


def test_persona_probes_and_plans_stand_in_the_history_the_therapist_reads() -> None:
    dialogue = play(RULES, script=make_script(similarity=0.0, score="5"))
    last = prompt(asked(dialogue, "plan")[-1])
    assert last.count("drinks wine to fall asleep") == 10
    assert "Doctor: words of decode/6/probe/5" in last and "Patient: words of decode/5/patient" in last
    assert "Doctor: words of plan/treatment/7/plan" in last
    assert "words of decode/1/feedback" not in last


def test_feedback_is_computed_after_the_last_round_too_and_never_delivered() -> None:
    dialogue = play(RULES, script=make_script(similarity=0.0, score="9"))
    assert len(asked(dialogue, "feedback")) == 12
    statuses = {one.status for turn in dialogue.outcome.rounds for one in turn.feedback}
    assert statuses == {"not delivered"}
    assert not any("words of decode/1/feedback" in prompt(leaf) for leaf in asked(dialogue))


def test_empty_replies_pass_and_nothing_is_asked_again() -> None:
    dialogue = play(RULES, script=make_script(similarity=0.0, score="", texts=lambda leaf: "", values={"verdict": ""}))
    assert not any("/again/" in leaf.path for leaf in asked(dialogue))
    assert dialogue.outcome.num_guided == 0  # empty feedback counts as similar, as published
    assert dialogue.outcome.illness == "" and dialogue.outcome.missing["illness"] == 1


def test_empty_gold_is_compared_as_published() -> None:
    dialogue = play(RULES, make_case(intermediate_belief_depression=""))
    assert len(dialogue.steps["decode/1/similar"].pairs) == 5


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("10/10", 10), ("100", 100), ("1-10: 8", 1), ("good", 0), ("", 0), ("7" * 5000, 0)],
)
def test_numbers_are_the_first_digits(text: str, number: int) -> None:
    assert first_number(text) == number


@pytest.mark.parametrize(("reply", "rank", "is_missing"), [("2", 2, False), ("9", 1, True), ("the best", 1, True)])
def test_a_group_number_out_of_range_means_rank_one(reply: str, rank: int, is_missing: bool) -> None:
    choice = play(RULES, script=make_script(values={"principle_choice": reply})).outcome.principles
    assert (choice.rank, choice.is_missing) == (rank, is_missing)


def test_with_every_score_zero_the_first_attempt_counts() -> None:
    dialogue = play(RULES, script=make_script(score="no number"))
    plan = dialogue.outcome.treatment
    assert (plan.best, len(plan.attempts), plan.attempts[0].score) == (1, 7, 0)
    assert not any("same treatment as before" in prompt(leaf) for leaf in asked(dialogue, "plan"))


def test_no_repeat_is_asked_once_a_score_was_above_zero() -> None:
    dialogue = play(RULES, script=make_script(score="3"))
    first, second = asked(dialogue, "plan")[:2]
    assert "same treatment as before" not in prompt(first) and "same treatment as before" in prompt(second)


def test_the_illness_is_the_raw_verdict_on_the_review_alone() -> None:
    dialogue = play(RULES, script=make_script(values={"verdict": "Doctor 2, panic."}))
    assert dialogue.outcome.illness == "Doctor 2, panic."
    assert [message.role for message in asked(dialogue, "verdict")[0].view.messages()] == ["user"]
    assert "harbor" not in prompt(asked(dialogue, "verdict")[0])


def test_published_asks_have_no_value_schema() -> None:
    assert all(leaf.value is None for leaf in asked(play(RULES)))


def test_the_review_persona_has_no_principles() -> None:
    steps: dict[str, Any] = play(RULES).steps
    for path in ("diagnose/review", "plan/treatment/1/outcome", "plan/treatment/1/score"):
        assert "Answer slowly" not in prompt(steps[path])
    assert "Answer slowly" in prompt(steps["interview/0/patient"])


def test_labelled_lines_are_extracted() -> None:
    def texts(leaf: Generate) -> str:
        return f"words of {leaf.path}"

    script = make_script(texts=texts)

    def answer(leaf: Any) -> Any:
        from engine.steps import Reply

        lines = "**treatment:** CBT\nexplain_t: it helps\nmedicine: sertraline\nexplain_m: it may\nhelp too"
        return Reply(lines) if getattr(leaf, "purpose", "") == "extract" else script(leaf)

    fields = play(RULES, script=answer).outcome.fields
    assert fields == {
        "treatment": "CBT",
        "explain_t": "it helps",
        "medicine": "sertraline",
        "explain_m": "it may\nhelp too",
    }
