"""The published conversion of six-field records, defects included (`legacy`); pure.

Three rows a record; the treatment question follows the profile without a line break; a treatment row is made even of
empty fields; a medication row only when the medicine holds none of four substrings, case counting. As chat messages
nothing is de-duplicated; as text equal rows are dropped, the first stays. Texts asked are the project's own.
Source: the conversion rules of the published repository.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from training import wording

UNWANTED: Final = ("None", "N/A", "Not", "Explanation")
"""Substrings of a medicine that the published filter drops a row for."""


def legacy_answers(fields: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, question with profile, answer) for a record as the published conversion does."""
    symptom, medicine = fields["symptom"], fields["medicine"]
    yield "diagnosis", f"{symptom}\n{wording.DIAGNOSIS}", fields["illness"]
    yield "treatment", f"{symptom}{wording.TREATMENT}", f"{fields['treatment']}. {fields['explain_t']}"
    if medicine and not any(unwanted in medicine for unwanted in UNWANTED):
        yield "medication", f"{symptom}\n{wording.MEDICATION}", f"{medicine}. {fields['explain_m']}"


def legacy_messages(question: str, answer: str) -> dict[str, Any]:
    """Return the row of the OpenAI format."""
    return {
        "messages": [
            {"role": "system", "content": wording.EXPERT},
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def legacy_text(question: str, answer: str) -> dict[str, Any]:
    """Return the plain-text row: no chat template, no end of text."""
    return {"text": plain_text(wording.EXPERT, question, answer)}


def plain_text(system: str, question: str, answer: str) -> str:
    """Return a row in the published plain-text form."""
    return f"### System: {system}\nQuestion: {question}\n ### Answer: {answer}"
