"""Labels: many spellings, one name; nothing that is no illness becomes one."""

import pytest

from training.labels import _NAMES, canonical_label


@pytest.mark.parametrize("name", _NAMES)
def test_canonical_names_stay(name: str) -> None:
    assert canonical_label(name) == name
    assert canonical_label(name.upper()) == name


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Doctor 2's diagnose of Major Depressive Disorder (MDD).", "major depressive disorder"),
        ("MDD, recurrent, moderate", "major depressive disorder"),
        ("Borderline Personality Disorder (BPD) diagnosis is more accurate.", "borderline personality disorder"),
        ("Generalised anxiety disorder with depression", "generalized anxiety disorder"),
        ("Depression and generalized anxiety disorder", "depression"),
        ("Bipolar II Disorder", "bipolar II disorder"),
        ("bipolar disorder type 1", "bipolar I disorder"),
        ("Bipolar disorder in childhood", "bipolar disorder"),
        ("C-PTSD", "post-traumatic stress disorder"),
        ("Obsessive-Compulsive Personality Disorder", "obsessive-compulsive personality disorder"),
        ("Social Anxiety Disorder (SAD)", "social anxiety disorder"),
        ("Depressive Personality Disorder", "Depressive Personality Disorder"),
        ("The patient is sad", "The patient is sad"),
        ("  Burnout.\n", "Burnout"),
        ("Doctor 1's diagnosis of Burnout.", "diagnosis of Burnout"),
        ("Doctor 2's diagnosis is more accurate.", ""),
        ("The diagnosis by Doctor 2 is more accurate.", ""),
        ("Doctor 1", ""),
        ("", ""),
        ("...", ""),
    ],
)
def test_labels(text: str, label: str) -> None:
    assert canonical_label(text) == label
