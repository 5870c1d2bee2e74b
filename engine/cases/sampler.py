"""Sampled cases: endless coherent people from a seed.

Everything about a person is drawn jointly within one condition and one theme, with facts shared across fields. The same
seed gives the same cases in every process; a longer sample begins with the shorter one; no two cases of a seed are
equal in their hidden fields once name and age are masked. Knows nothing of files other than its own grammar.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from engine.cases.errors import CaseError
from engine.cases.grammar import FIELDS, Condition, Facts, Theme, load_conditions, load_people
from engine.cases.schema import Case

GENDERS: Final = ("woman",) * 9 + ("man",) * 9 + ("nonbinary",) * 2
STUDENT_MAX_AGE: Final = 22
RETIRED_MIN_AGE: Final = 67
# A draw that repeats a field of an earlier case is drawn again this often before only the whole must differ.
MAX_FRESH_DRAWS: Final = 12
MAX_DRAWS: Final = 200


def sample_cases(n: int, seed: int) -> list[Case]:
    """Return the first `n` cases of a seed. Raises `CaseError` if the grammar has no further person to give."""
    return list(islice(iter_cases(seed), n))


def iter_cases(seed: int) -> Iterator[Case]:
    """Yield the cases of a seed, without end in practice.

    Conditions come in shuffled rounds, so any run of neighbors is balanced. Raises `CaseError` once `MAX_DRAWS` draws
    in a row gave no new person.
    """
    rng = random.Random(seed)
    seen: set[bytes] = set()
    index = 0
    while True:
        for condition in rng.sample(load_conditions(), len(load_conditions())):
            case = _draw_new(rng, condition, f"s{seed}-{index:06d}", seen)
            yield case
            index += 1


def mask(case: Case) -> Case:
    """Return the case with its name and age blanked, also where texts mention them."""
    name = re.compile(rf"\b{re.escape(case.name)}\b")

    def blank(text: str) -> str:
        return name.sub("N", text).replace(f", {case.age},", ",")

    return Case(
        id="",
        name="",
        styles=case.styles,
        history=blank(case.history),
        helpless_belief=case.helpless_belief,
        unlovable_belief=case.unlovable_belief,
        worthless_belief=case.worthless_belief,
        intermediate_belief=blank(case.intermediate_belief),
        intermediate_belief_depression=blank(case.intermediate_belief_depression),
        coping_strategies=blank(case.coping_strategies),
        situation=blank(case.situation),
        auto_thought=blank(case.auto_thought),
        emotion=case.emotion,
        behavior=blank(case.behavior),
        condition=case.condition,
        gender=case.gender,
        culture=case.culture,
        severity=case.severity,
    )


def _draw_new(rng: random.Random, condition: Condition, case_id: str, seen: set[bytes]) -> Case:
    for draw in range(MAX_DRAWS):
        case = _draw(rng, condition, case_id)
        whole, *fields = _digests(case)
        is_fresh = seen.isdisjoint(fields) if draw < MAX_FRESH_DRAWS else True
        if is_fresh and whole not in seen:
            seen.update((whole, *fields))
            return case
    raise CaseError(f"sampled cases must differ, got {case_id} again after {MAX_DRAWS} draws: lower the limit")


def _digests(case: Case) -> list[bytes]:
    """Digest the hidden fields of the masked case: all together first, then each."""
    masked = mask(case)
    fields = (
        masked.history,
        masked.intermediate_belief,
        masked.coping_strategies,
        masked.situation,
        masked.auto_thought,
        masked.behavior,
    )
    whole = "\0".join((*fields, masked.core_belief_text, masked.intermediate_belief_depression))
    texts = (whole, *(f"{place}\0{text}" for place, text in enumerate(fields)))
    return [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]


def _draw(rng: random.Random, condition: Condition, case_id: str) -> Case:
    people = load_people()
    theme = rng.choice(condition.themes)
    gender = rng.choice([gender for gender in GENDERS if gender in theme.genders])
    age = _age(rng, condition, theme)
    culture = rng.choice(people.cultures)
    severity = rng.choice(tuple(condition.severities))
    name = rng.choice(culture.names(gender))
    known = {"name": name, "age": str(age), "job": rng.choice(_jobs(theme, age))}
    scopes = (theme.slots, condition.severities[severity], condition.slots, people.slots)
    facts = Facts(rng, gender, known, scopes)
    facts.drawn["upbringing"] = (facts.fill(rng.choice(culture.upbringings)),)
    texts = {field: facts.write(theme.of(field) + condition.of(field)) for field in FIELDS}
    opening = facts.write(people.history)
    core = _core(rng, condition, theme)
    return Case(
        id=case_id,
        name=name,
        styles=_styles(rng, condition),
        history=f"{opening} {texts['history']}",
        helpless_belief=core.get("helpless", ()),
        unlovable_belief=core.get("unlovable", ()),
        worthless_belief=core.get("worthless", ()),
        intermediate_belief=texts["belief"],
        intermediate_belief_depression=texts["depression"],
        coping_strategies=texts["coping"],
        situation=texts["situation"],
        auto_thought=texts["thought"],
        emotion=_some(rng, condition.emotions, 3),
        behavior=texts["behavior"],
        condition=condition.condition,
        age=age,
        gender=gender,
        culture=culture.culture,
        severity=severity,
    )


def _age(rng: random.Random, condition: Condition, theme: Theme) -> int:
    return rng.randint(max(condition.age[0], theme.age[0]), min(condition.age[1], theme.age[1]))


def _jobs(theme: Theme, age: int) -> tuple[str, ...]:
    people = load_people()
    if theme.jobs:
        return theme.jobs
    if age >= RETIRED_MIN_AGE:
        return people.retired_jobs
    return people.student_jobs if age <= STUDENT_MAX_AGE else people.jobs


def _core(rng: random.Random, condition: Condition, theme: Theme) -> dict[str, tuple[str, ...]]:
    """Draw core beliefs from one or two of the families that fit."""
    families = [family for family in condition.core if not theme.core or family in theme.core]
    chosen = _some(rng, tuple(families), 2) if families else ()
    return {family: _some(rng, condition.core[family], 2) for family in chosen}


def _some(rng: random.Random, items: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Return 1 to `most` of the items, in their own order."""
    chosen = set(rng.sample(items, rng.randint(1, min(most, len(items)))))
    return tuple(item for item in items if item in chosen)


def _styles(rng: random.Random, condition: Condition) -> tuple[str, ...]:
    """Draw one or two styles by weight, the first the more typical draw."""
    drawn = rng.choices(tuple(condition.styles), weights=tuple(condition.styles.values()), k=2)
    return tuple(dict.fromkeys(drawn))
