from typing import Any

import msgspec
import pytest

from engine.record import EpisodeKey, EpisodeRecord, StepRecord
from engine.steps import Reply
from eval.transcripts import Transcript, TurnText, case_statements, transcript_of
from tests.engine.protocols.driving import make_case


def make_step(path: str, role: str, text: str | None, purpose: str = "turn", schema: str = "") -> StepRecord:
    reply = None if text is None else Reply(text)
    return StepRecord(path=path, kind="generate", hash="", role=role, purpose=purpose, schema=schema, reply=reply)


def make_record(*steps: StepRecord, **changes: Any) -> EpisodeRecord:
    key = EpisodeKey("c1", 2)
    return EpisodeRecord(key=key, seed=0, protocol="counseling", status="completed", steps=steps, **changes)


def test_a_transcript_is_what_was_said_in_order() -> None:
    record = make_record(
        make_step("1/t", "therapist", " Hello. "),
        make_step("1/p", "patient", ""),
        make_step("1/p/again/1", "patient", "Hi."),
        make_step("1/probe", "patient", "hidden", purpose="probe"),
        make_step("2/t", "therapist", None),
        case='{"id": "c1"}',
    )
    found = transcript_of(record, ("turn",))
    assert found == Transcript(
        id="c1.2", turns=(TurnText("therapist", "Hello."), TurnText("patient", "Hi.")), case='{"id": "c1"}'
    )
    assert msgspec.json.decode(msgspec.json.encode(found), type=Transcript) == found


def test_without_purposes_every_free_reply_is_a_turn() -> None:
    record = make_record(make_step("1", "a", "x", purpose="p"), make_step("2", "judge", "5", schema="{}"))
    assert [turn.text for turn in transcript_of(record).turns] == ["x"]


def test_what_cannot_be_encoded_is_replaced() -> None:
    found = transcript_of(make_record(make_step("1", "patient", "a \ud800 b")))
    assert found.turns[0].text == "a ? b" and msgspec.json.encode(found)


def test_an_episode_in_which_nothing_was_said_has_no_turns() -> None:
    assert transcript_of(make_record(make_step("1", "patient", "  "))).turns == ()


def test_statements_of_a_case_come_field_by_field() -> None:
    case = msgspec.json.encode(make_case(emotion=("sad", " "), age=40)).decode()
    found = case_statements(
        Transcript(id="t", turns=(), case=case), ("emotion", "age", "worthless_belief", "culture", "x")
    )
    assert found == (("emotion", "sad"), ("age", "40"))


@pytest.mark.parametrize("case", ["", "[]", "null", "{", '{"history": {"a": "b"}, "x": true}', "7"])
def test_a_case_that_says_nothing_has_no_statements(case: str) -> None:
    assert case_statements(Transcript(id="t", turns=(), case=case), ("history", "x")) == ()
