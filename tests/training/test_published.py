"""The published conversion, quirk by quirk on records made by hand, and on the published files where they are."""

from collections import Counter
from pathlib import Path

import pytest

from training.convert import Tally, legacy_rows
from training.published import legacy_answers, legacy_messages, legacy_text
from training.settings import ANSWERS
from training.sources import read_six_fields
from training.wording import DIAGNOSIS, EXPERT, MEDICATION, TREATMENT

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "mentalarena_records"
RECORD = {
    "symptom": "History: short.",
    "illness": "Doctor 1's diagnosis.",
    "treatment": "CBT",
    "explain_t": "It helps.",
    "medicine": "Sertraline",
    "explain_m": "It is common.",
}


def rows_of(record: dict[str, str]) -> list[tuple[str, str, str]]:
    return list(legacy_answers(record))


def test_three_rows_in_order_and_the_missing_line_break() -> None:
    assert rows_of(RECORD) == [
        ("diagnosis", f"History: short.\n{DIAGNOSIS}", "Doctor 1's diagnosis."),
        ("treatment", f"History: short.{TREATMENT}", "CBT. It helps."),
        ("medication", f"History: short.\n{MEDICATION}", "Sertraline. It is common."),
    ]


@pytest.mark.parametrize("medicine", ["", "None", "None provided", "N/A", "Not given", "Explanation: no", "Nothing"])
def test_a_medication_row_is_dropped_for_a_substring(medicine: str) -> None:
    assert [kind for kind, _, _ in rows_of({**RECORD, "medicine": medicine})] == ["diagnosis", "treatment"]


@pytest.mark.parametrize("medicine", ["none", "n/a", "not given", "explanation", "nothing", " "])
def test_the_case_of_the_substrings_counts(medicine: str) -> None:
    assert rows_of({**RECORD, "medicine": medicine})[2][2] == f"{medicine}. It is common."


def test_empty_fields_still_make_rows() -> None:
    empty = dict.fromkeys(RECORD, "")
    assert rows_of(empty) == [("diagnosis", f"\n{DIAGNOSIS}", ""), ("treatment", TREATMENT, ". ")]


def test_the_medication_filter_looks_at_no_other_field() -> None:
    record = {**RECORD, "treatment": "None", "explain_m": "None", "illness": "N/A"}
    assert [kind for kind, _, _ in rows_of(record)] == list(ANSWERS)


def test_both_forms() -> None:
    assert legacy_messages("q", "a") == {
        "messages": [
            {"role": "system", "content": EXPERT},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a"},
        ]
    }
    assert legacy_text("q", "a") == {"text": f"### System: {EXPERT}\nQuestion: q\n ### Answer: a"}


def test_only_text_drops_equal_rows_and_the_first_stays() -> None:
    other = {**RECORD, "illness": "GAD"}
    tally = Tally()
    texts = [row["text"] for row in legacy_rows([RECORD, other, RECORD], "text", ANSWERS, tally)]
    first = [legacy_text(question, answer)["text"] for _, question, answer in rows_of(RECORD)]
    assert texts == [*first, legacy_text(*rows_of(other)[0][1:])["text"]]
    assert tally.dropped == {"duplicate": 5} and tally.kept == {"diagnosis": 2, "treatment": 1, "medication": 1}
    tally = Tally()
    assert len(list(legacy_rows([RECORD, other, RECORD], "messages", ANSWERS, tally))) == tally.num_rows == 9


# Counted by hand from the files: 106 records each; five medicines of the first are empty or hold a substring.
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
@pytest.mark.parametrize(("name", "num_medications"), [("gpt_iter4_output_1", 101), ("llama3_iter4_output_1", 106)])
@pytest.mark.parametrize("format", ["messages", "text"])
def test_the_published_files(name: str, num_medications: int, format: str) -> None:
    records = list(read_six_fields(PUBLISHED / f"{name}.jsonl"))
    assert len(records) == 106
    tally = Tally()
    rows = list(legacy_rows(records, format, ANSWERS, tally))
    assert tally.kept == Counter(diagnosis=106, treatment=106, medication=num_medications)
    assert not tally.dropped and len(rows) == 212 + num_medications
    doubled = Tally()
    assert len(list(legacy_rows(records * 2, format, ANSWERS, doubled))) == len(rows) * (1 if format == "text" else 2)
