import pytest

from engine.protocols.mental_arena.diagnosis import MAX_LABEL_CHARS, illness_label
from engine.protocols.mental_arena.rules import ArenaRules
from engine.steps import Generate
from tests.engine.protocols.driving import make_script, play, prompt


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Diagnosis: Panic Disorder\nBecause the attacks come suddenly.", "Panic Disorder"),
        ("**Diagnosis:** Major Depressive Disorder (moderate)\n\nText.", "Major Depressive Disorder (moderate)"),
        ("### Most likely diagnosis: *Insomnia disorder*. It fits.", "Insomnia disorder"),
        ("Thank you for the talk.\nDiagnosis - Social anxiety disorder", "Social anxiety disorder"),
        ("Diagnosis: Doctor 2's diagnosis of Generalized Anxiety Disorder is more accurate", "Generalized Anxiety"),
        ("1. Bipolar II disorder. The swings.", "Bipolar II disorder"),
        ("Obsessive-compulsive disorder", "Obsessive-compulsive disorder"),
        ("Doctor 2", ""),
        ("", ""),
        ("***", ""),
    ],
)
def test_labels_are_short_names_without_markup_or_doctors(text: str, label: str) -> None:
    found = illness_label(text)
    assert found.startswith(label) and "Doctor" not in found and "*" not in found
    assert bool(found) == bool(label)


def test_labels_are_bounded_and_fast_on_hostile_text() -> None:
    assert len(illness_label("word " * 50_000)) <= MAX_LABEL_CHARS
    assert len(illness_label("diagnosis " * 20_000 + ":" * 20_000)) <= MAX_LABEL_CHARS


@pytest.mark.parametrize("verdict", ["1", "2"])
def test_the_verdict_resolves_to_the_named_illness(verdict: str) -> None:
    outcome = play(script=make_script(values={"verdict": verdict})).outcome
    assert (outcome.preferred, outcome.illness) == (int(verdict), f"Illness {verdict}")
    assert outcome.verdict == verdict and not outcome.is_same_diagnosis


def test_the_second_diagnosis_sees_the_first_and_the_patient_both_under_neutral_labels() -> None:
    steps = play(ArenaRules(similarity=0.9)).steps
    second = prompt(steps["diagnose/2"])
    assert "Diagnosis: Illness 1" in second and "different mental illness" in second
    assert "Illness 1" not in prompt(steps["diagnose/1"])
    review = prompt(steps["diagnose/review"])
    assert "Opinion 1:\nDiagnosis: Illness 1" in review and "Opinion 2:\nDiagnosis: Illness 2" in review
    assert "words of interview" not in review and "octor" not in review
    verdict = steps["diagnose/verdict"].view.messages()
    assert verdict[-2].text == "words of diagnose/review"


def test_equal_diagnoses_are_flagged() -> None:
    def texts(leaf: Generate) -> str:
        return "Diagnosis: Panic disorder" if leaf.purpose == "diagnosis" else "yes"

    assert play(script=make_script(texts=texts)).outcome.is_same_diagnosis
