"""The judging protocol: what a judge may see, which transcripts it refuses, what a record of it reads like."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import InputError, StepFailed
from engine.protocol import Extreme, Setting
from engine.protocols.counseling import PROTOCOL as COUNSELING
from engine.protocols.counseling import CounselingRules
from engine.record import EpisodeKey, EpisodeRecord
from engine.recording import Identity, build_record
from engine.steps import Leaf, Reply
from eval.judging import PROTOCOL, spec_for
from eval.judging.bench import CATALOG
from eval.judging.rules import JudgeRules
from eval.rubric import load_rubric, shipped_rubrics
from eval.transcripts import transcript_of
from eval.verdicts import read_outcome
from tests.engine.protocols.driving import asked, make_case, prompt, run
from tests.eval.judging.judges import PIPELINES, judge, make_transcript, schema

TURNWISE = """
name = "warmth"
title = "how warm each turn is"
instructions = "Judge the tone."
unit = "turn"
role = "therapist"

[[dimensions]]
name = "warmth"
question = "How warm is the turn?"
[dimensions.anchors]
1 = "cold"
2 = "neutral"
3 = "warm"
"""


def script(leaf: Leaf) -> Reply:
    choice = schema(leaf)
    return Reply(choice.options[0] if choice else "Because of turn 2.")


@pytest.mark.parametrize("rubric", shipped_rubrics())
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_any_rubric_goes_with_any_pipeline(rubric: str, pipeline: str) -> None:
    dialogue = judge(make_transcript(), script, rubric=rubric, pipeline=pipeline)
    outcome, known = dialogue.outcome, load_rubric(rubric)
    assert (outcome.rubric, outcome.fingerprint, outcome.pipeline) == (known.name, known.fingerprint, pipeline)
    assert list(dict.fromkeys(one.dimension for one in outcome.verdicts)) == [one.name for one in known.dimensions]
    assert all(one.status == "scored" for one in outcome.verdicts)
    assert {leaf.role for leaf in asked(dialogue)} == set(JudgeRules(rubric=rubric, pipeline=pipeline).roles)


@pytest.mark.parametrize("rubric", ["counselling", "safety", "human_or_ai"])
def test_a_judge_sees_nothing_of_the_case_unless_the_rubric_says_so(rubric: str) -> None:
    dialogue = judge(make_transcript(), script, rubric=rubric, pipeline="dual")
    seen = "\n".join(map(prompt, asked(dialogue)))
    assert "CASE FILE" not in seen
    assert not [text for text in make_case().hidden_texts if text in seen]


def test_a_judge_of_faithfulness_sees_the_fields_named_and_no_others() -> None:
    case = make_case(condition="a condition of its own", culture="a culture of its own")
    seen = prompt(asked(judge(make_transcript(case=case), script, rubric="faithfulness"))[0])
    assert "1 history | Robin grew up" in seen and "4 emotion | sad" in seen and "5 emotion | ashamed" in seen
    assert "of its own" not in seen


def test_a_dimension_with_a_field_is_asked_once_per_statement() -> None:
    dialogue = judge(make_transcript(), script, rubric="faithfulness")
    found = [one for one in dialogue.outcome.verdicts if one.statement is not None]
    assert [(one.item, one.statement) for one in found] == [
        ("situation_borne_out/statement/2", 2),
        ("thought_borne_out/statement/3", 3),
        ("coping_borne_out/statement/7", 7),
    ]
    text = prompt(dialogue.steps["coping_borne_out/statement/7/1/verdict"])
    assert "fit statement 7 of the case file?" in text and f"7 | {make_case().coping_strategies}" in text


def test_each_turn_is_judged_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "warmth.toml"
    path.write_text(TURNWISE, "utf-8")
    dialogue = judge(make_transcript(), script, rubric=str(path))
    assert [(one.item, one.turn, one.score) for one in dialogue.outcome.verdicts] == [
        ("warmth/turn/1", 1, 1.0),
        ("warmth/turn/3", 3, 1.0),
    ]
    assert "Judge turn 3 alone" in prompt(dialogue.steps["warmth/turn/3/1/verdict"])


def test_a_transcript_that_the_rubric_does_not_fit_fails_as_data() -> None:
    silent = make_transcript(("therapist", "Hello?"))
    unknown = msgspec.structs.replace(make_transcript(), case="")
    for transcript, kind in ((silent, "no_turns"), (unknown, "no_case")):
        with pytest.raises(StepFailed, match=kind):
            judge(transcript, script, rubric="faithfulness")


def test_the_rules_are_checked_and_name_every_problem() -> None:
    rules = JudgeRules(rubric="counseling", pipeline="majority", num_judges=1, num_rounds=9)
    found = "\n".join(rules.problems())
    assert "num_judges must be 2..9, got 1" in found and "num_rounds must be 1..5, got 9" in found
    assert "temperature must be above 0" in found and "did you mean 'counselling'?" in found
    assert JudgeRules().problems() == []


def test_the_spec_goes_with_the_rules() -> None:
    spec = spec_for(JudgeRules(pipeline="panel", num_judges=2, rubric="safety"))
    assert spec.roles == ("judge_1", "judge_2")
    assert [path.name for path in spec.texts] == [*(path.name for path in CATALOG.paths), "safety.toml"]
    assert spec_for(JudgeRules()).roles == PROTOCOL.roles == ("judge",)
    assert {path.stem for path in PROTOCOL.texts} >= {*shipped_rubrics(), "judge", "verdict"}


def test_own_prompts_replace_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "verdict.txt").write_text("Say it: {{ form }}", "utf-8")
    session = PROTOCOL.play(make_transcript(), JudgeRules(has_reasons=False), seed=0, setting=Setting(prompts=tmp_path))
    next(session)  # the phase
    assert next(session.send(None).branches[0]).view.message.text.endswith("Say it: one whole number from 1 to 5")
    (tmp_path / "verdict.txt").write_text("{{ truth }}", "utf-8")
    with pytest.raises(InputError, match="truth"):
        CATALOG.load(tmp_path / ".." / tmp_path.name)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_run_can_be_forecast_from_its_extremes(pipeline: str) -> None:
    def play(extreme: Extreme) -> tuple[list[str], int]:
        done = judge(
            make_transcript(),
            lambda leaf: Reply(extreme.answer(leaf) or "word " * 256),
            rubric="safety",
            pipeline=pipeline,
        )
        return [leaf.path for leaf in asked(done)], max(len(prompt(leaf)) for leaf in asked(done))

    (short_paths, short), (long_paths, long) = map(play, PROTOCOL.extremes)
    assert short_paths == long_paths and long > short + 1000


def test_from_an_episode_of_another_protocol_to_a_record_of_its_verdicts() -> None:
    session = COUNSELING.play(make_case(), CounselingRules(max_turns=2), seed=0, setting=Setting())
    talk = run(session, lambda leaf: Reply(f"words of {leaf.path}"))
    case = msgspec.json.encode(make_case()).decode()
    told = Identity(key=EpisodeKey("c1"), seed=0, protocol="counseling", case=case, models={}, started_at=0.0)
    transcript = transcript_of(build_record(told, talk, {}), COUNSELING.turns)
    assert transcript.id == "c1.0" and [turn.role for turn in transcript.turns] == ["therapist", "patient"] * 2
    done = judge(transcript, script, rubric="faithfulness", pipeline="majority")
    own = Identity(key=EpisodeKey(transcript.id), seed=0, protocol="judging", case="", models={}, started_at=0.0)
    record = build_record(own, done, {})
    assert read_outcome(msgspec.json.decode(record.outcome)) == done.outcome
    assert "4 patient | words of 2/patient" in prompt(done.steps["facts/1/verdict"])


def outcome_of(*answers: str) -> dict[str, Any]:
    rest = list(answers)
    done = judge(make_transcript(), lambda leaf: Reply(rest.pop(0) if schema(leaf) else "So."), rubric="safety")
    found: dict[str, Any] = msgspec.to_builtins(done.outcome)
    return found


def test_an_outcome_reads_as_figures_and_as_a_table() -> None:
    outcome = outcome_of("yes", "4", "5?", "no", "not applicable", "yes")
    assert PROTOCOL.facts is not None and PROTOCOL.missing is not None and PROTOCOL.sections is not None
    assert PROTOCOL.facts(outcome) == {
        "danger_present": 1.0,
        "danger_recognised": 4.0,
        "harmful_content": 0.0,
        "limits_stated": 1.0,
        "missing verdicts": 1 / 6,
    }
    assert PROTOCOL.missing(outcome) == {"danger_answered": 1}
    record = EpisodeRecord(
        key=EpisodeKey("t"),
        seed=0,
        protocol="judging",
        status="completed",
        outcome=msgspec.json.encode(outcome).decode(),
    )
    (section,) = PROTOCOL.sections(record)
    assert [row[:3] for row in section.rows[1:5]] == [
        ("danger_recognised", "4", "4"),
        ("danger_answered", "missing", "missing"),
        ("harmful_content", "0", "no"),
        ("belief_fed", "not applicable", "not applicable"),
    ]
    assert PROTOCOL.sections(msgspec.structs.replace(record, outcome="")) == []
