import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.text import Text

from engine.record import EpisodeKey, EpisodeRecord, NodeRecord, StepRecord
from engine.steps import Reply
from engine.transcript import clean, one_line, printable, role_messages, seen_messages, turns

HOSTILE = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b\x9b[]/\\;m\u202e\x07 ab#@:")))


def make_step(path: str, role: str, text: str, view: int, purpose: str = "talk", schema: str = "") -> StepRecord:
    return StepRecord(
        path=path, kind="generate", hash="00", role=role, purpose=purpose, view=view, schema=schema, reply=Reply(text)
    )


def make_record(steps: tuple[StepRecord, ...], nodes: tuple[NodeRecord, ...]) -> EpisodeRecord:
    return EpisodeRecord(
        key=EpisodeKey("c"), seed=1, protocol="counseling", status="completed", nodes=nodes, steps=steps
    )


def make_talk() -> EpisodeRecord:
    """Patient opens; one side question with a value; one empty reply asked again; therapist has the last word."""
    nodes = (
        NodeRecord(-1, "system", "You are Ada."),
        NodeRecord(0, "user", "(The session begins.)"),
        NodeRecord(-1, "system", "You are the therapist."),
        NodeRecord(2, "user", "Hello."),
        NodeRecord(1, "assistant", "Hello."),
        NodeRecord(4, "user", "What brings you?"),
    )
    steps = (
        make_step("1/patient", "patient", "Hello.", 1),
        make_step("1/therapist", "therapist", "  ", 3),
        make_step("1/therapist/again/1", "therapist", "What brings you?", 3),
        make_step("1/check", "therapist", "yes", 3, "check", "choice"),
        make_step("2/patient", "patient", "I sleep badly.", 5),
        make_step("2/therapist", "therapist", "Since when?", 3),
    )
    return make_record(steps, nodes)


def test_turns_are_the_replies_that_say_something() -> None:
    found = turns(make_talk())
    assert [(t.role, t.step.path) for t in found] == [
        ("patient", "1/patient"),
        ("therapist", "1/therapist/again/1"),
        ("patient", "2/patient"),
        ("therapist", "2/therapist"),
    ]
    assert [t.text for t in turns(make_talk(), ("check",))] == ["yes"]


def test_a_step_without_reply_is_no_turn() -> None:
    step = StepRecord(path="a", kind="generate", hash="00", role="patient", purpose="talk")
    assert turns(make_record((step,), ())) == []


def test_role_messages_of_the_role_that_opens_begin_with_its_cue() -> None:
    record = make_talk()
    assert role_messages(record, "patient", turns(record)) == [
        {"role": "system", "content": "You are Ada."},
        {"role": "user", "content": "(The session begins.)"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "What brings you?"},
        {"role": "assistant", "content": "I sleep badly."},
    ]


def test_role_messages_of_the_role_that_answers() -> None:
    record = make_talk()
    messages = role_messages(record, "therapist", turns(record))
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert role_messages(record, "judge", turns(record)) == []


def test_role_messages_join_neighbors_and_break_control_tokens() -> None:
    nodes = (NodeRecord(-1, "user", "go"),)
    steps = tuple(make_step(str(i), role, text, 0) for i, (role, text) in enumerate([("a", "x<|im_end|>"), ("a", "y")]))
    record = make_record(steps, nodes)
    assert role_messages(record, "a", turns(record)) == [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "x< |im_end|>\n\ny"},
    ]


def test_seen_messages_are_the_view() -> None:
    record = make_talk()
    assert [m["content"] for m in seen_messages(record, record.steps[4])] == [
        "You are Ada.",
        "(The session begins.)",
        "Hello.",
        "What brings you?",
    ]


@pytest.mark.parametrize(
    ("hostile", "safe"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b2Jgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bcreset", "reset"),
        ("a\u202eb\u2066c\u200ed", "abcd"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\x00\x08b\x7f", "ab"),
        ("\ud800", "\ufffd"),
        ("naïve 👩\u200d⚕ ok", "naïve 👩\u200d⚕ ok"),
    ],
)
def test_clean(hostile: str, safe: str) -> None:
    assert clean(hostile) == safe


@given(HOSTILE)
def test_clean_leaves_nothing_that_moves_or_hides(text: str) -> None:
    left = {unicodedata.category(c) for c in clean(text) if c not in "\n\u200c\u200d"}
    assert not left & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert clean(clean(text)) == clean(text)


@given(HOSTILE)
@example("[bold]x[/bold]")
@example("[/]")
@example("\\[red]")
@example("[link=http://x]y[/link]\\")
def test_printable_is_read_back_as_the_clean_text(text: str) -> None:
    rendered = Text.from_markup(f"[bold]{printable(text)}[/bold]", emoji=False)
    assert rendered.plain == clean(text)
    assert {str(span.style) for span in rendered.spans} <= {"bold"}


@given(HOSTILE, st.integers(2, 30))
def test_one_line_is_one_short_line(text: str, max_chars: int) -> None:
    line = one_line(text, max_chars)
    assert "\n" not in line
    assert len(line) <= max_chars
