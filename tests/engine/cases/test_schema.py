"""The case: what makes a record one, and every way it is refused."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cases.schema import STYLE_ALIASES, STYLES, Case, case_from_record, fingerprint, normalize_style, show

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(str.strip)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)


def make_record(**changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": "Ada",
        "id": "1-1",
        "type": ["plain", "go off on tangents"],
        "history": "A quiet year.",
        "helpless_belief": ["I am trapped."],
        "unlovable_belief": [],
        "worthless_belief": [],
        "intermediate_belief": "If I rest, I fail.",
        "intermediate_belief_depression": "",
        "coping_strategies": "Works late.",
        "situation": "A letter came.",
        "auto_thought": "It is bad news.",
        "emotion": ["anxious, tense", "sad"],
        "behavior": "Hid the letter.",
    }
    record.update(changes)
    return {key: value for key, value in record.items() if value is not ...}


def read(record: object) -> tuple[Case | None, list[str]]:
    faults: list[str] = []
    return case_from_record(record, faults.append), faults


def make_case(**changes: Any) -> Case:
    case, faults = read(make_record(**changes))
    assert case is not None, faults
    return case


@st.composite
def cases(draw: st.DrawFn) -> Case:
    fields: dict[str, Any] = {name: draw(TEXT) for name in ("history", "situation", "auto_thought", "behavior")}
    return Case(
        id=draw(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1).filter(str.strip)),
        name=draw(st.sampled_from(["Ada", "Zoë", "Nguyễn"])),
        styles=tuple(draw(st.lists(st.sampled_from(STYLES), unique=True))),
        helpless_belief=draw(TEXTS),
        unlovable_belief=draw(TEXTS),
        intermediate_belief=draw(st.one_of(st.just(""), TEXT)),
        intermediate_belief_depression=draw(st.one_of(st.just(""), TEXT)),
        coping_strategies=draw(TEXT),
        emotion=draw(st.lists(TEXT, min_size=1, max_size=3).map(tuple)),
        age=draw(st.one_of(st.none(), st.integers(0, 130))),
        **fields,
    )


def test_a_record_becomes_a_case() -> None:
    case = make_case(age=40, culture="Dutch")
    assert case.styles == ("plain", "tangent")
    assert case.core_beliefs == ("I am trapped.",)
    assert case.emotion_text == "anxious, tense; sad"
    assert (case.age, case.culture, case.condition) == (40, "Dutch", "")


@given(cases())
def test_encoding_a_case_gives_a_record_of_the_same_case(case: Case) -> None:
    encoded = msgspec.json.encode(case)
    assert read(json.loads(encoded)) == (case, [])
    assert msgspec.json.decode(encoded, type=Case) == case


@pytest.mark.parametrize("key", ["helpless_belief", "unlovable_belief", "worthless_belief"])
def test_beliefs_may_carry_the_suffix(key: str) -> None:
    case = make_case(**{key: ..., f"{key}_current": ["I am weak."]})
    assert getattr(case, key) == ("I am weak.",)


def test_one_belief_spelled_twice_is_refused() -> None:
    _, faults = read(make_record(helpless_belief_current=["I am weak."]))
    assert faults == [
        "field 'helpless_belief' must be given once, got it with and without '_current': remove one",
    ]


@pytest.mark.parametrize("alias,style", [*STYLE_ALIASES.items(), *((s, s) for s in STYLES), (" GUARDED ", "reserved")])
def test_styles_have_aliases(alias: str, style: str) -> None:
    assert normalize_style(alias) == style


@pytest.mark.parametrize(
    "changes,fault",
    [
        ({"history": ...}, "field 'history' is missing: add it as a string"),
        ({"history": None}, "field 'history' is missing: add it as a string"),
        ({"history": 7}, "field 'history' must be a string, got 7: quote or join it"),
        ({"name": " "}, "field 'name' must not be empty, got ' ': fill it in"),
        ({"id": ""}, "field 'id' must not be empty, got '': fill it in"),
        ({"situation": ""}, "field 'situation' must not be empty, got '': fill it in"),
        ({"history": "\ud800"}, "field 'history' must be valid Unicode, got a lone surrogate in '\\ud800': remove it"),
        ({"name": "A\x1b"}, "field 'name' must be printable, got 'A\\x1b': remove control characters"),
        (
            {"id": "a\nb"},
            "field 'id' must be at most 200 printable characters, got 'a\\nb' (3): rename the case",
        ),
        ({"emotion": ...}, "field 'emotion' is missing: add it as a list of strings"),
        ({"emotion": []}, "field 'emotion' must name at least one emotion, got []: fill it in"),
        ({"emotion": "sad"}, "field 'emotion' must be a list of strings, got 'sad': write [...]"),
        (
            {"emotion": ["sad", 3]},
            "field 'emotion' must hold non-empty strings only, got 3: correct or remove it",
        ),
        ({"type": ["hostil"]}, "field 'type': unknown style 'hostil': did you mean 'hostile'?"),
        ({"histroy": "x"}, "unknown field 'histroy': did you mean 'history'?"),
        (
            {"age": "40"},
            "field 'age' must be a whole number of years from 0 to 130, got '40': correct or remove it",
        ),
        (
            {"age": True},
            "field 'age' must be a whole number of years from 0 to 130, got True: correct or remove it",
        ),
    ],
)
def test_a_fault_names_field_value_and_remedy(changes: dict[str, Any], fault: str) -> None:
    case, faults = read(make_record(**changes))
    assert (case, faults) == (None, [fault])


@pytest.mark.parametrize("record", [None, 3, "x", ["a"]])
def test_a_record_must_be_an_object(record: object) -> None:
    _, faults = read(record)
    assert faults == [f"must be an object with a case's fields, got {record!r}: write {{...}}"]


def test_all_faults_of_a_record_come_at_once() -> None:
    _, faults = read(make_record(history=..., emotion="sad", age=-1, extra=1))
    assert len(faults) == 4


def test_an_id_of_201_characters_is_refused_and_200_accepted() -> None:
    assert make_case(id="x" * 200).id == "x" * 200
    assert len(read(make_record(id="x" * 201))[1]) == 1


@pytest.mark.parametrize("key", ["intermediate_belief", "intermediate_belief_depression", "coping_strategies"])
def test_gold_texts_may_be_empty_and_are_not_hidden_texts(key: str) -> None:
    case = make_case(**{key: ""})
    assert getattr(case, key) == ""
    assert "" not in case.hidden_texts


def test_the_fingerprint_ignores_spelling_and_sees_content_and_order() -> None:
    one, two = make_case(), make_case(id="2-1")
    spelled = make_case(helpless_belief=..., helpless_belief_current=["I am trapped."], type=["plain", "tangent"])
    assert fingerprint([one, two]) == fingerprint([spelled, two])
    assert len({fingerprint(cs) for cs in ([one, two], [two, one], [one], [make_case(history="x")])}) == 4
    assert len(fingerprint([])) == 64


def test_shown_values_are_short_and_printable() -> None:
    assert show("a" * 500) == repr("a" * 500)[:57] + "..."
    assert show({"a": "\x1b"}) == "an object"
    assert show(["\x1b[2J"]).isprintable()
