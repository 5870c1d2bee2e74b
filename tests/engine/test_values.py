"""Reading values from replies."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import values
from engine.steps import Choice, Fields, Reply

SCORE = Choice(tuple(str(n) for n in range(1, 11)))
VERDICT = Choice(("1", "2"))
WORDS = Choice(("continue", "End"))
PLAN = Fields(("treatment", "explanation_of_treatment", "medicine"), max_chars=40)

hostile = st.text() | st.text(alphabet='{}[]",:\\*_`#0123456789/.- \nabcdeértumin', max_size=400)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", "2"),
        (" 2.", "2"),
        ("**2**", "2"),
        ("“7”", "7"),
        ('"7"', "7"),
        ("Option 2", "2"),
        ('{"score": 7}', "7"),
        ('{"value":"2"}', "2"),
        ('{"value": 7.0}', "7"),
        ('```json\n{"score": 7}\n```', "7"),
        ("7/10", "7"),
        ("7 out of 10", "7"),
        ("10/10", "10"),
        ("**Score:** 7/10.", "7"),
        ("I choose 3.", "3"),
        ("Score: 8", "8"),
        ("Score： 8", "8"),
        ("8\n\nI feel better than before.", "8"),
        ('Here it is: {"value": "3"}', "3"),
        ("Group 2: short sentences", "2"),
    ],
)
def test_a_named_score_is_read(text: str, expected: str) -> None:
    assert values.parse(SCORE, Reply(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "0", "11", "100", "-3", ".7", "7.5", "07", "6-8", "6 to 8", "6–8", "3 or 4", "1, 2", "[3]", "{}"),
        *("not 3", "I can't say 3", "at least 7", "more than 7", "7+", "7 or more", "70%", "7%", "3rd", "B12", "8-ish"),
        *(
            "7/10/2026",
            "7/5",
            "7 and a half",
            "7½",
            "seven",
            "Is it 3?",
            "١",
            "NaN",
            '{"value": true}',
            '{"value": [3]}',
        ),
        *('{"score": 7, "of": 10}', '{"a": {"b": 3}}', "on a scale of 1 to 10: 7", "x" * 300 + " 7"),
        *("{" * 100_000, "[" * 100_000, "1" * 5_000, '{"value": ' + "1" * 5_000 + "}", '{"value": 1e999}'),
    ],
)
def test_what_names_no_single_option_is_missing(text: str) -> None:
    assert values.parse(SCORE, Reply(text)) is None


def test_a_fraction_of_two_options_is_ambiguous() -> None:
    assert values.parse(VERDICT, Reply("1/2")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("continue", "continue"), ("END.", "End"), ("Answer: end", "End"), ('{"value": "End"}', "End"), ("go on", None)],
)
def test_word_options(text: str, expected: str | None) -> None:
    assert values.parse(WORDS, Reply(text)) == expected


@pytest.mark.parametrize("schema", [SCORE, PLAN])
def test_a_cut_off_reply_is_missing(schema: Choice | Fields) -> None:
    text = "7" if schema is SCORE else '{"treatment": "CBT"}'
    assert values.parse(schema, Reply(text, finish="length")) is None
    assert values.parse(schema, Reply(text)) is not None


@pytest.mark.parametrize(
    "text",
    [
        '{"treatment": "CBT", "medicine": 50}',
        'Sure!\n```json\n{"treatment": "CBT", "medicine": "50",}\n```\nBye {now}',
        '{"Treatment": " CBT ", "medicine": "50", "explanation_of_treatment": null}',
        '{"treatment": "CBT", "Explanation of treatment": "N/A", "medicine": "50"}',
        "Treatment: CBT\nMedicine: 50",
        "**Treatment:** CBT\n\n- **Medicine**: 50\n\nLet me know if this helps.",
        "1. Treatment:\nCBT\n2. Explanation of treatment: n/a\n3. Medicine: `50`",
    ],
)
def test_fields_from_many_forms(text: str) -> None:
    assert values.parse(PLAN, Reply(text)) == {"treatment": "CBT", "medicine": "50"}


def test_labelled_values_may_run_over_lines() -> None:
    text = "Treatment:\n- walks\n- sleep\nMedicine: none yet\nTreatment: again"
    assert values.parse(PLAN, Reply(text)) == {"treatment": "- walks\n- sleep", "medicine": "none yet"}


@pytest.mark.parametrize(
    "text",
    [
        '{"properties": {"treatment": "CBT"}}',
        '{"type": "object", "properties": {"treatment": {"type": "string"}}}',
        '{"treatment": "CBT',
        "I would rather not say.",
        '[{"treatment"',
    ],
)
def test_no_fields_are_missing(text: str) -> None:
    assert values.parse(PLAN, Reply(text)) is None


def test_a_comma_inside_a_string_stays() -> None:
    assert values.parse(PLAN, Reply('{"treatment": "walks,}", "medicine": "a \\" ,]",}')) == {
        "treatment": "walks,}",
        "medicine": 'a " ,]',
    }


def test_a_long_value_is_cut_and_a_lone_surrogate_replaced() -> None:
    parsed = values.parse(PLAN, Reply(json.dumps({"treatment": "x" * 99, "medicine": "a\ud800b"})))
    assert parsed == {"treatment": "x" * 40, "medicine": "a?b"}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ['"\\', '"', "{", ",", "{ ", "*", " ", "7/", "treatment", "a_", "```\n", "\n", ", "])
def test_hostile_repetition_is_read_in_linear_time(unit: str) -> None:
    for schema in (SCORE, PLAN):
        assert not values.parse(schema, Reply("Treatment" + unit * 50_000))


@given(hostile)
def test_parsing_never_raises_and_never_invents(text: str) -> None:
    choice = values.parse(SCORE, Reply(text))
    assert choice is None or (choice in SCORE.options and choice in text)
    fields = values.parse(PLAN, Reply(text))
    assert fields is None or (isinstance(fields, dict) and set(fields) <= set(PLAN.names))


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).map(str.strip)


@given(st.dictionaries(st.sampled_from(PLAN.names), texts.filter(lambda t: t.lower() not in values.ABSENT), min_size=1))
def test_valid_fields_survive_the_round_trip(fields: dict[str, str]) -> None:
    assert values.parse(PLAN, Reply(json.dumps(fields))) == fields
    assert values.parse(PLAN, Reply(f"```json\n{json.dumps(fields, ensure_ascii=False)}\n```")) == fields


@given(
    st.sampled_from(SCORE.options), st.sampled_from(["{}", '"{}"', '{{"value": "{}"}}', "{}/10", "I say {}.", "**{}**"])
)
def test_every_option_survives_every_form(option: str, form: str) -> None:
    assert values.parse(SCORE, Reply(form.format(option))) == option


def test_schemas_and_descriptions() -> None:
    choice = values.json_schema(VERDICT)
    assert choice["properties"] == {"value": {"type": "string", "enum": ["1", "2"]}}
    assert choice["required"] == ["value"] and choice["additionalProperties"] is False
    assert values.json_schema(PLAN)["properties"]["medicine"] == {"type": "string", "maxLength": 40}
    assert values.json_schema(PLAN, is_bounded=False)["properties"]["medicine"] == {"type": "string"}
    assert values.describe(SCORE) == "one whole number from 1 to 10"
    assert values.describe(VERDICT) == "one of: 1, 2"
    assert '"medicine"' in values.describe(PLAN) and "40" in values.describe(PLAN)
