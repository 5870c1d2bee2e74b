"""The bundled synthetic content: 28 cases, 12 principle groups, calibration paraphrases.

Invariant checked: no text is shared where sharing would make a similarity score meaningless (between two cases,
between two principle groups, between a gold text and its paraphrases). Reads the JSON alone: knows no loader.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

BUNDLED = Path(__file__).parents[3] / "engine" / "cases" / "bundled"

STYLES = {"plain", "verbose", "tangent", "reserved", "pleasing", "upset"}
SEVERITIES = {"mild", "moderate", "severe", "none"}
CORE_BELIEFS = ("helpless_belief", "unlovable_belief", "worthless_belief")
TEXT_LENGTHS = {  # characters, both ends allowed
    "history": (220, 700),
    "intermediate_belief": (80, 350),
    "intermediate_belief_depression": (80, 300),
    "coping_strategies": (100, 350),
    "situation": (40, 180),
    "auto_thought": (60, 220),
    "behavior": (50, 220),
}
TEXT_FIELDS = (*TEXT_LENGTHS, *CORE_BELIEFS)
METADATA = ("condition", "age", "gender", "culture", "severity")
CASE_KEYS = {"name", "id", "type", "emotion", *TEXT_FIELDS, *METADATA}
HEALTHY = "healthy control"
EXPECTED_CONDITIONS = {
    "major depression",
    "manic",
    "psychosis",
    "schizophrenia",
    "post-traumatic stress",
    "alcohol use",
    "generalized anxiety",
    "panic",
    "obsessive-compulsive",
    "social anxiety",
    "anorexia",
    "postpartum depression",
    "grief",
    "borderline",
    "attention-deficit",
    HEALTHY,
}
PARAPHRASED_FIELDS = ("intermediate_belief", "intermediate_belief_depression", "coping_strategies", "reaction")
TYPOGRAPHIC = "‘’“”–—…"


def load(name: str) -> Any:
    return json.loads((BUNDLED / name).read_text(encoding="utf-8"))


CASES: list[dict[str, Any]] = load("cases.json")
PRINCIPLES: dict[str, list[str]] = load("principles.json")
PARAPHRASES: dict[str, Any] = load("paraphrases.json")
CASE_BY_ID = {case["id"]: case for case in CASES}
each_case = pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", re.sub(r"['’]", "", text.lower()))


def sentences(text: str) -> Iterator[str]:
    """Normalized sentences of at least three words."""
    for part in re.split(r"[.!?]+", text):
        if len(words(part)) >= 3:
            yield " ".join(words(part))


def ngrams(text: str, size: int) -> set[str]:
    tokens = words(text)
    return {" ".join(tokens[i : i + size]) for i in range(len(tokens) - size + 1)}


def texts(case: dict[str, Any], fields: Iterable[str]) -> list[str]:
    values = (case[field] for field in fields)
    return [text for value in values for text in ([value] if isinstance(value, str) else value)]


def gold(case: dict[str, Any], field: str) -> str:
    """The text a prediction of `field` is compared with; "reaction" joins thought, emotions and behavior."""
    if field == "reaction":
        return ". ".join([case["auto_thought"], ", ".join(case["emotion"]), case["behavior"]])
    return str(case[field])


def owners_of_repeats(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """(text, owner) pairs -> the texts that have more than one owner."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for text, owner in pairs:
        owners[text].add(owner)
    return {text: found for text, found in owners.items() if len(found) > 1}


def every_string(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from every_string(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every_string(inner)


def is_plain_character(char: str) -> bool:
    is_latin_letter = "\u00c0" <= char <= "\u017f" and char.isalpha()
    return " " <= char <= "~" or char in TYPOGRAPHIC or is_latin_letter


def test_number_of_cases_and_unique_slugs() -> None:
    assert len(CASES) == 28
    assert len(CASE_BY_ID) == 28
    assert len({case["name"] for case in CASES}) == 28
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", case_id) for case_id in CASE_BY_ID)


@each_case
def test_keys_and_metadata(case: dict[str, Any]) -> None:
    assert set(case) == CASE_KEYS
    assert 1 <= len(case["type"]) <= 3
    assert len(set(case["type"])) == len(case["type"])
    assert set(case["type"]) <= STYLES
    assert type(case["age"]) is int
    assert 18 <= case["age"] <= 80
    assert case["severity"] in SEVERITIES
    assert all(case[key] for key in METADATA)


@each_case
def test_lengths(case: dict[str, Any]) -> None:
    wrong = {
        field: len(case[field])
        for field, (low, high) in TEXT_LENGTHS.items()
        if case[field] and not low <= len(case[field]) <= high
    }
    assert not wrong


@each_case
def test_only_the_depression_time_belief_may_be_empty(case: dict[str, Any]) -> None:
    assert {field for field in TEXT_LENGTHS if not case[field]} <= {"intermediate_belief_depression"}
    assert all(text == text.strip() for text in texts(case, TEXT_FIELDS))


@each_case
def test_emotions_are_short(case: dict[str, Any]) -> None:
    assert 1 <= len(case["emotion"]) <= 4
    assert len(set(case["emotion"])) == len(case["emotion"])
    assert all(1 <= len(words(emotion)) <= 4 for emotion in case["emotion"])


@each_case
def test_situation_is_not_repeated_in_another_field(case: dict[str, Any]) -> None:
    others = " ".join(texts(case, [field for field in TEXT_FIELDS if field != "situation"]))
    assert case["situation"] not in others
    assert not ngrams(case["situation"], 6) & ngrams(others, 6)


def test_core_beliefs_are_present_except_in_the_healthy_control() -> None:
    without = [case["condition"] for case in CASES if not texts(case, CORE_BELIEFS)]
    assert without == [HEALTHY]


def test_at_most_three_empty_depression_time_beliefs() -> None:
    empty = [case["condition"] for case in CASES if not case["intermediate_belief_depression"]]
    assert HEALTHY in empty
    assert len(empty) <= 3


def test_expected_conditions_are_present() -> None:
    present = [case["condition"] for case in CASES]
    assert not {wanted for wanted in EXPECTED_CONDITIONS if not any(wanted in name for name in present)}
    assert len(set(present)) >= 10
    assert [case["id"] for case in CASES if case["severity"] == "none"] == [
        case["id"] for case in CASES if case["condition"] == HEALTHY
    ]


def test_people_are_varied() -> None:
    assert {case["gender"] for case in CASES} == {"female", "male", "non-binary"}
    assert {case["severity"] for case in CASES} == SEVERITIES
    assert {style for case in CASES for style in case["type"]} == STYLES
    assert len({case["culture"] for case in CASES}) == len(CASES)
    assert min(case["age"] for case in CASES) <= 20
    assert max(case["age"] for case in CASES) >= 65


def test_no_sentence_occurs_twice() -> None:
    pairs = (
        (sentence, f"{case['id']}/{field}/{i}/{j}")
        for case in CASES
        for field in TEXT_FIELDS
        for i, text in enumerate(texts(case, [field]))
        for j, sentence in enumerate(sentences(text))
    )
    assert not owners_of_repeats(pairs)


def test_no_eight_gram_is_shared_by_two_cases() -> None:
    pairs = ((gram, case["id"]) for case in CASES for text in texts(case, TEXT_FIELDS) for gram in ngrams(text, 8))
    assert not owners_of_repeats(pairs)


def test_principle_groups() -> None:
    assert list(PRINCIPLES) == [str(i) for i in range(12)]
    assert all(3 <= len(group) <= 7 for group in PRINCIPLES.values())
    lengths = {text: len(text.split()) for group in PRINCIPLES.values() for text in group}
    assert {text: n for text, n in lengths.items() if not 8 <= n <= 40} == {}


def test_principles_are_unique() -> None:
    table = [(f"{key}/{i}", key, text) for key, group in PRINCIPLES.items() for i, text in enumerate(group)]
    assert not owners_of_repeats((sentence, label) for label, _, text in table for sentence in sentences(text))
    assert not owners_of_repeats((gram, key) for _, key, text in table for gram in ngrams(text, 8))


def test_paraphrases_cover_known_cases_and_all_groups() -> None:
    assert set(PARAPHRASES) == {"cases", "principles"}
    assert set(PARAPHRASES["cases"]) <= set(CASE_BY_ID)
    assert len(PARAPHRASES["cases"]) >= 16
    assert list(PARAPHRASES["principles"]) == list(PRINCIPLES)
    assert {len(group) for group in PARAPHRASES["principles"].values()} == {2}


@pytest.mark.parametrize("case_id", PARAPHRASES["cases"])
def test_three_paraphrases_per_field_and_none_for_an_empty_one(case_id: str) -> None:
    by_field = PARAPHRASES["cases"][case_id]
    assert tuple(by_field) == PARAPHRASED_FIELDS
    for field, versions in by_field.items():
        assert len(versions) == (3 if gold(CASE_BY_ID[case_id], field) else 0), field
        assert all(len(version) >= 60 for version in versions), field


def originals_with_paraphrases() -> Iterator[tuple[str, str, list[str]]]:
    for case_id, by_field in PARAPHRASES["cases"].items():
        for field, versions in by_field.items():
            yield f"{case_id}/{field}", gold(CASE_BY_ID[case_id], field), versions
    for key, versions in PARAPHRASES["principles"].items():
        yield f"principles/{key}", " ".join(PRINCIPLES[key]), versions


def test_paraphrases_share_no_six_gram_with_their_original() -> None:
    shared = {
        label: found
        for label, original, versions in originals_with_paraphrases()
        if (found := {gram for text in versions for gram in ngrams(text, 6) & ngrams(original, 6)})
    }
    assert not shared


def test_no_paraphrase_equals_an_original_or_another_paraphrase() -> None:
    table = list(originals_with_paraphrases())
    everything = [" ".join(words(text)) for _, _, versions in table for text in versions]
    assert len(set(everything)) == len(everything)
    assert not set(everything) & {" ".join(words(original)) for _, original, _ in table}


def test_text_is_printable_and_unspectacular() -> None:
    odd = {
        (text, char)
        for document in (CASES, PRINCIPLES, PARAPHRASES)
        for text in every_string(document)
        for char in text
        if not is_plain_character(char)
    }
    assert not odd
