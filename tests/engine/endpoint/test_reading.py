"""Bodies as hostile clients write them: each is read, or refused in words that name the fault; nothing else happens."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.endpoint.reading import MAX_FIELD_CHARS, NEUTRAL, quoted, read_chat, read_completion, read_format
from engine.endpoint.wire import ChatAsked, CompletionAsked, Refusal
from engine.steps import Fields

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(
    sorted({*ChatAsked.__struct_fields__, *CompletionAsked.__struct_fields__, *NEUTRAL, "prompt", "seed", "user"})
)


def body_of(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def refusal_of(body: bytes) -> str:
    with pytest.raises(Refusal) as refused:
        read_chat(body)
    return str(refused.value)


@given(st.dictionaries(NAMES | st.text(max_size=5), JSON, max_size=6))
def test_any_object_is_read_or_refused(fields: dict[str, Any]) -> None:
    for read in (read_chat, read_completion):
        try:
            asked, ignored = read(body_of(fields))
        except Refusal as refused:
            assert refused.status == 400 and refused.problems
            assert all(" must be " in problem or " must come " in problem for problem in refused.problems)
            assert str(refused).isprintable()
        else:
            assert isinstance(asked, ChatAsked | CompletionAsked) and set(ignored) <= {"seed", "user"}
            assert 0 <= asked.temperature <= 2 and 0 < asked.top_p <= 1 and 1 <= asked.n <= 128


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (read_chat, read_completion):
        try:
            read(body)
        except Refusal as refused:
            assert str(refused).isprintable()


@given(JSON)
def test_whatever_is_quoted_is_short_and_printable(value: Any) -> None:
    assert quoted(value).isprintable() and len(quoted(value)) <= 120


@given(JSON)
def test_any_response_format_is_read_or_refused(schema: Any) -> None:
    for given_format in ({"type": schema}, {"type": "json_schema", "json_schema": {"schema": schema}}):
        try:
            assert read_format(given_format) is None
        except Refusal as refused:
            assert refused.detail.param == "response_format"


@pytest.mark.parametrize(
    "body", [b"", b"[" * 100_000, b'{"model": "\\ud800"}', b"\xff\xfe", b"NaN", b'{"n": 1e999}', b'{"n": 1', b'"chat"']
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    assert "the body must be" in refusal_of(body)


def test_a_deep_value_in_a_field_is_refused_by_the_fields_rule() -> None:
    deep = b'{"messages": ' + b"[" * 500 + b"]" * 500 + b"}"
    assert "messages must be 1 to 4096 messages" in refusal_of(deep)


def test_control_tokens_and_line_breaks_do_not_come_back() -> None:
    said = refusal_of(body_of({"model": ["<|im_start|>system\n"], "messages": []}))
    assert "<|im_start|>" not in said and "\n" not in said


def test_null_counts_as_left_out() -> None:
    fields = {"messages": [{"role": "user", "content": "x"}], "temperature": None, "stop": None, "unknown": None}
    asked, ignored = read_chat(body_of(fields))
    assert (asked.temperature, asked.stops, ignored) == (1.0, (), [])


STRING = {"type": "string"}
GOOD = {"type": "object", "properties": {"a": STRING}, "required": ["a"], "additionalProperties": False}


def test_a_schema_of_strings_is_a_value() -> None:
    assert read_format({"type": "json_schema", "json_schema": {"schema": GOOD}}) == Fields(("a",), MAX_FIELD_CHARS)
    assert read_format({}) is None and read_format({"type": "text"}) is None


@pytest.mark.parametrize(
    "change, said",
    [
        ({"type": "array"}, "must be an object of strings"),
        ({"properties": {}}, "name 1 to 64"),
        ({"properties": {"a": {"type": "integer"}}}, "got 'a' as"),
        ({"properties": {"a": {"type": "string", "enum": ["x"]}}}, "a string without other rules"),
        ({"properties": {"a": {"type": "string", "maxLength": 0}}}, "maxLength must be one whole number"),
        (
            {"properties": {"a": {"type": "string", "maxLength": 5}, "b": STRING}, "required": ["a", "b"]},
            "maxLength must be one whole number for all strings, got [5,null]",
        ),
        ({"required": []}, "list all of them"),
        ({"required": [[]]}, "list all of them"),
        ({"additionalProperties": True}, "set false"),
        ({"minProperties": 1}, "got other rules"),
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_format({"type": "json_schema", "json_schema": {"schema": {**GOOD, **change}}})
    assert said in str(refused.value)
