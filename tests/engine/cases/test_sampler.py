"""Sampled cases: unique, deterministic, coherent, and grammatical."""

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from itertools import islice

import pytest

from engine.cases import Case, fingerprint, iter_cases, nearest_neighbor_report, sample_cases
from engine.cases.grammar import FIELDS, Condition, Facts, Theme, load_conditions, load_people
from engine.cases.sampler import mask
from engine.cases.schema import STYLES

UNIQUE = ("intermediate_belief", "coping_strategies", "situation", "auto_thought", "behavior")
COMMON = {"they", "them", "their", "themself", "name", "day", "pal", "kin"}
THEMES = [(condition, theme) for condition in load_conditions() for theme in condition.themes]


@cache
def many() -> list[Case]:
    return sample_cases(10_000, 7)


def texts(case: Case) -> tuple[str, ...]:
    gold = (case.intermediate_belief, case.intermediate_belief_depression, case.auto_thought)
    return (*gold, case.history, case.coping_strategies, case.situation, case.behavior)


def slots(parts: tuple[tuple[str, ...], ...]) -> set[str]:
    return {name for part in parts for text in part for name in re.findall(r"\{([a-z_]+)", text)} - COMMON


def test_no_two_of_ten_thousand_are_equal_once_masked() -> None:
    masked = [mask(case) for case in many()]
    assert len({texts(case) for case in masked}) == 10_000
    assert len({case.history for case in masked}) == 10_000
    for field in UNIQUE:
        assert len({getattr(case, field) for case in masked}) > 9_000, field


def test_ids_are_unique_and_every_condition_comes_up() -> None:
    assert len({case.id for case in many()}) == 10_000
    counts = Counter(case.condition for case in many())
    assert len(counts) == len(load_conditions()) >= 10
    assert max(counts.values()) - min(counts.values()) <= 1
    words = " ".join(counts)
    for word in ("manic", "schizophrenia", "traumatic", "alcohol", "healthy control"):
        assert word in words


def test_a_longer_sample_begins_with_the_shorter() -> None:
    assert sample_cases(300, 7) == many()[:300] == list(islice(iter_cases(7), 300))
    assert sample_cases(0, 7) == []
    assert fingerprint(sample_cases(20, 8)) != fingerprint(many()[:20])


def test_another_process_draws_the_same() -> None:
    code = "from engine.cases import *; print(fingerprint(sample_cases(50, 7)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "123"}
    )
    assert done.stdout.strip() == fingerprint(many()[:50])


def test_texts_are_finished_sentences() -> None:
    for case in many()[:3000]:
        for text in filter(None, texts(case)):
            assert not re.search(r"[{}\[\]|]|  | [.,;!?]|(?<!\.)\.\.(?!\.)", text), text
            assert text[0].isupper() or text[0] == "'", text
            assert text[-1] in ".?!'", text
            assert not re.search(r"\b(a (?=[aeio])|an (?=[^aeiouh]))", text, re.IGNORECASE), text
            assert not re.search(r"\b(he|she) (are|were|have|do|go)\b|\bthey (is|was|has)\b", text), text


def test_people_are_plausible() -> None:
    for case in many()[:3000]:
        assert case.age is not None and 18 <= case.age <= 85
        assert case.name in case.history and f", {case.age}," in case.history
        assert case.styles and set(case.styles) <= set(STYLES)
        assert case.emotion and case.culture and case.severity
        is_healthy = "healthy" in case.condition
        assert is_healthy == (not case.core_beliefs) == (case.severity == "none")
        assert not (is_healthy and case.intermediate_belief_depression)
        if "retired" in case.history.split(",")[2]:
            assert case.age >= 58


@pytest.mark.parametrize("condition,theme", THEMES, ids=lambda value: getattr(value, "name", ""))
def test_the_fields_of_a_theme_share_its_facts(condition: Condition, theme: Theme) -> None:
    own = set(theme.slots)
    for field in ("thought", "situation"):
        for text in theme.of(field)[0]:
            assert slots(((text,),)) & own or len(theme.of(field)) > 1, text
    shared = own & slots(theme.situation) & (slots(theme.thought) | slots(theme.behavior))
    assert shared, (condition.condition, theme.name)


@pytest.mark.parametrize("condition,theme", THEMES, ids=lambda value: getattr(value, "name", ""))
def test_first_person_texts_never_speak_of_the_patient_as_another(condition: Condition, theme: Theme) -> None:
    known = {"name": "NAME", "age": "1", "job": "JOB", "upbringing": "UP"}
    for seed in range(40):
        severity = condition.severities[sorted(condition.severities)[seed % len(condition.severities)]]
        scopes = (theme.slots, severity, condition.slots, load_people().slots)
        facts = Facts(random.Random(seed), "woman", known, scopes)
        facts.drawn |= {"they": ("XX",), "them": ("XX",), "their": ("XX",), "themself": ("XX",)}
        for field in ("belief", "depression", "thought"):
            text = facts.write(theme.of(field) + condition.of(field))
            assert not re.search("XX|NAME", text), text


def test_a_slot_is_drawn_once_and_brackets_agree() -> None:
    known = {"name": "Sam"}
    scope = {"pet": ("cat|a cat [sits|sit]", "dog|a dog [sits|sit]", "owl|an owl [sits|sit]")}
    facts = Facts(random.Random(1), "nonbinary", known, (scope,))
    text = facts.write((("{they} [has|have] a {pet}.",), ("",), ("{pet.1} by {name}. {their} {pet}!",)))
    animal = text.split()[3].rstrip(".")
    article = "An" if animal == "owl" else "A"
    assert text == f"They have a {animal}. {article} {animal} sit by Sam. Their {animal}!"


def test_every_field_has_parts() -> None:
    for condition, theme in THEMES:
        for field in FIELDS:
            assert field == "depression" or theme.of(field) or condition.of(field)


def test_neighbors_are_not_near() -> None:
    started = time.perf_counter()
    report = nearest_neighbor_report(many(), 1, max_queries=300)
    assert time.perf_counter() - started < 60
    assert (report.num_cases, report.num_queries) == (10_000, 300)
    assert 0 < report.p50 <= report.p95 <= report.max_similarity < 0.7
    assert report.p95 < 0.5


def test_neighbors_of_copies_are_found_despite_names() -> None:
    cases = many()[:30]
    twin = cases[3]
    renamed = Case(**{f: getattr(twin, f) for f in twin.__struct_fields__} | {"id": "twin"})
    report = nearest_neighbor_report([*cases, renamed], 0)
    assert report.max_similarity == 1.0
    assert set(report.closest) == {twin.id, "twin"}
    assert report == nearest_neighbor_report([*cases, renamed], 0)


def test_a_single_case_has_no_neighbors() -> None:
    with pytest.raises(ValueError, match="must be at least 2, got 1"):
        nearest_neighbor_report(many()[:1], 0)
