"""Leaks of an episode: in prompts and words, by who knows, in the order of what was said."""

from msgspec.structs import replace

from eval.quality.leak_trace import leaks_of
from tests.eval.quality.records import CASE, TALK, make_record, make_step, with_view

SECRET = "sends the apprentice to the counter"


def told(record) -> list[tuple[str, str, str, str]]:
    leaks = leaks_of(record)
    assert leaks is not None
    return [(leak.path, leak.role, leak.place, leak.finding.kind) for leak in leaks]


def test_an_ordinary_session_leaks_nothing() -> None:
    assert told(make_record()) == []


def test_words_before_the_patient_said_them_leak() -> None:
    talk = (*TALK, ("therapist", f"Is it you who {SECRET}?"))
    assert told(make_record(talk=talk)) == [("4/therapist", "therapist", "words", "copy")]


def test_words_after_the_patient_said_them_do_not() -> None:
    talk = (*TALK, ("patient", f"So I {SECRET.replace('sends', 'send')}."), ("therapist", f"You {SECRET}?"))
    assert told(make_record(talk=talk)) == []


def test_a_prompt_that_holds_them_leaks_once() -> None:
    record = with_view(make_record(), 0, ("system", f"The patient {SECRET}."), ("user", "Begin."))
    again = replace(record, steps=(*record.steps, make_step(9, "therapist", "I see.", view=1)))
    assert told(again) == [("0/therapist", "therapist", "view", "copy")]


def test_own_turns_in_a_view_are_words_not_a_view() -> None:
    record = with_view(make_record(), 2, ("user", "Hello."), ("assistant", f"You {SECRET}."))
    assert told(record) == []


def test_patient_and_judge_may_know() -> None:
    record = with_view(make_record(), 1, ("system", CASE["coping_strategies"]))
    judged = replace(record, steps=(*record.steps, make_step(9, "judge", f"The patient {SECRET}.", view=0)))
    assert told(judged) == []


def test_a_probe_may_name_the_situation_and_nothing_else() -> None:
    situation, other = CASE["situation"], CASE["coping_strategies"]
    step = make_step(9, "therapist", "She fitted the sound post, I guess.", view=0, purpose="probe")
    for text, number in ((situation, 0), (other, 1)):
        record = with_view(make_record(), 0, ("user", text))
        probed = replace(record, steps=(*make_record().steps, step))
        assert len(told(probed)) == number


def test_an_episode_without_a_case_cannot_be_traced() -> None:
    assert leaks_of(replace(make_record(), case="")) is None
    assert leaks_of(replace(make_record(), case='{"id": 1}')) is None
