"""Pipelines: who is asked what, whose vote counts, and what is missing."""

from typing import Any

import pytest

from engine.steps import Generate, Leaf, Reply
from eval.judging.rules import PipelineName
from tests.engine.protocols.driving import asked, prompt
from tests.eval.judging.judges import PIPELINES, answering, judge, make_transcript, schema

ONE = "human_or_ai"


def verdict(pipeline: PipelineName, *options: str, **rules: Any) -> Any:
    (found,) = judge(make_transcript(), answering(*options), pipeline=pipeline, rubric=ONE, **rules).outcome.verdicts
    return found


@pytest.mark.parametrize(
    ("pipeline", "options", "status", "score"),
    [
        ("single", ["yes"], "scored", 1.0),
        ("single", ["probably"], "missing", None),
        ("single", [""], "missing", None),
        ("dual", ["yes", "no"], "scored", 0.0),
        ("dual", ["yes", "?"], "scored", 1.0),
        ("dual", ["?", "no"], "scored", 0.0),
        ("dual", ["?", "?"], "missing", None),
        ("majority", ["yes", "no", "yes"], "scored", 1.0),
        ("majority", ["yes", "no", "?"], "missing", None),
        ("majority", ["?", "no", "?"], "scored", 0.0),
        ("majority", ["?", "?", "?"], "missing", None),
        ("panel", ["no", "no", "yes"], "scored", 0.0),
        ("debate", ["yes", "yes", "no"], "scored", 1.0),
    ],
)
def test_votes_become_a_verdict(pipeline: PipelineName, options: list[str], status: str, score: float | None) -> None:
    found = verdict(pipeline, *options)
    assert (found.status, found.score) == (status, score)
    assert [vote.option for vote in found.votes] == [one if one in ("yes", "no") else None for one in options]


def test_a_verdict_that_was_cut_off_is_missing() -> None:
    cut = judge(make_transcript(), lambda leaf: Reply("yes", finish="length"), rubric=ONE)
    assert cut.outcome.verdicts[0].status == "missing"


def test_reasons_that_name_a_verdict_are_none() -> None:
    dialogue = judge(
        make_transcript(), lambda leaf: Reply("?" if schema(leaf) else "The verdict is yes. yes"), rubric=ONE
    )
    (found,) = dialogue.outcome.verdicts
    assert found.score is None and found.votes[0].reason == "The verdict is yes. yes"


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_verdict_is_asked_once_and_constrained(pipeline: PipelineName) -> None:
    dialogue = judge(make_transcript(), lambda leaf: Reply("?"), pipeline=pipeline, rubric=ONE)
    steps = asked(dialogue, "verdict")
    assert len(steps) == {"single": 1, "dual": 2}.get(pipeline, 3)
    assert all(schema(step) is not None for step in steps)


@pytest.mark.parametrize(
    ("pipeline", "calls"), [("single", 2), ("dual", 4), ("majority", 6), ("panel", 6), ("debate", 3 * 2 + 3)]
)
def test_calls_per_question(pipeline: PipelineName, calls: int) -> None:
    assert len(asked(judge(make_transcript(), lambda leaf: Reply("yes"), pipeline=pipeline, rubric=ONE))) == calls


def test_without_reasons_one_call_each() -> None:
    dialogue = judge(make_transcript(), lambda leaf: Reply("yes"), pipeline="majority", rubric=ONE, has_reasons=False)
    assert [leaf.path for leaf in asked(dialogue)] == [f"is_human/{number}/verdict" for number in (1, 2, 3)]


def test_an_empty_reason_is_left_out() -> None:
    dialogue = judge(make_transcript(), lambda leaf: Reply("yes" if schema(leaf) else "  "), rubric=ONE)
    assert dialogue.outcome.verdicts[0].score == 1
    assert [m.role for m in dialogue.steps["is_human/1/verdict"].view.messages()] == ["system", "user"]


def test_the_second_judge_sees_the_first_one_fenced_and_the_first_does_not_see_the_second() -> None:
    dialogue = judge(make_transcript(), answering("yes", "no"), pipeline="dual", rubric=ONE)
    second = prompt(dialogue.steps["is_human/2/reason"])
    assert "answered this question with: yes" in second and "judge 1 | reasons of is_human/1/reason" in second
    assert "Another judge" not in prompt(dialogue.steps["is_human/1/verdict"])
    assert [vote.is_counted for vote in dialogue.outcome.verdicts[0].votes] == [False, True]


def test_a_panel_asks_roles_of_its_own_and_they_do_not_see_each_other() -> None:
    dialogue = judge(make_transcript(), answering("yes", "yes", "no"), pipeline="panel", rubric=ONE)
    steps = asked(dialogue, "verdict")
    assert [step.role for step in steps] == ["judge_1", "judge_2", "judge_3"]
    assert [vote.judge for vote in dialogue.outcome.verdicts[0].votes] == ["judge_1", "judge_2", "judge_3"]
    assert all("reasons of is_human/1" not in prompt(step) for step in steps[1:])


def test_debaters_answer_the_others_last_arguments_and_vote_with_their_own_in_view() -> None:
    dialogue = judge(make_transcript(), answering("yes", "yes", "no"), pipeline="debate", rubric=ONE, num_rounds=2)
    opening, reply = (prompt(dialogue.steps[f"is_human/2/argue/{number}"]) for number in (1, 2))
    assert "reasons of" not in opening
    assert "judge 1 | reasons of is_human/1/argue/1" in reply and "judge 3 | reasons of is_human/3/argue/1" in reply
    assert "judge 2 |" not in reply
    closing = dialogue.steps["is_human/2/verdict"].view.messages()
    assert [m.text for m in closing if m.role == "assistant"] == [f"reasons of is_human/2/argue/{n}" for n in (1, 2)]
    assert "judge 1 | reasons of is_human/1/argue/2" in closing[-1].text
    assert dialogue.outcome.verdicts[0].votes[1].reason == "reasons of is_human/2/argue/2"


def test_a_debater_without_words_still_votes() -> None:
    def script(leaf: Leaf) -> Reply:
        return Reply("yes" if schema(leaf) else "" if "/1/" in leaf.path else "words")

    dialogue = judge(make_transcript(), script, pipeline="debate", rubric=ONE)
    assert dialogue.outcome.verdicts[0].score == 1 and dialogue.outcome.verdicts[0].votes[0].reason == ""
    assert "judge 1 |" not in prompt(dialogue.steps["is_human/2/verdict"])


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_all_questions_share_one_beginning(pipeline: PipelineName) -> None:
    transcript = make_transcript()
    dialogue = judge(transcript, lambda leaf: Reply("1"), pipeline=pipeline, rubric="faithfulness")
    steps = [step for step in dialogue.in_order() if isinstance(step, Generate)]
    system, user = steps[0].view.messages()[:2]
    shared = user.text[: user.text.index("The question:")]
    assert "I cannot sleep." in shared and "harbor" in shared
    for step in steps:
        first, second = step.view.messages()[:2]
        assert first == system and second.text.startswith(shared)


def test_the_order_in_which_answers_come_does_not_matter() -> None:
    from engine.protocol import Setting
    from eval.judging import PROTOCOL
    from eval.judging.rules import JudgeRules
    from tests.engine.protocols.driving import run

    rules = JudgeRules(rubric="counselling", pipeline="debate")

    def script(leaf: Leaf) -> Reply:
        choice = schema(leaf)
        return Reply(choice.options[len(leaf.path) % len(choice.options)] if choice else leaf.path)

    played = [
        run(PROTOCOL.play(make_transcript(), rules, seed=0, setting=Setting()), script, newest_first=newest)
        for newest in (False, True)
    ]
    assert played[0].outcome == played[1].outcome and played[0].outcome is not None
