"""The grammar of the sampler: conditions, their themes, and templates that read as one person.

A slot is drawn once per person and then means the same in every field: the sister in the belief is the sister in the
situation. Templates know three marks: `{slot}` (`{slot.1}` is the second part of a value written `a|b`), the pronouns
(`{they}`, `{them}`, `{their}`, `{themself}`), and `[singular|plural]` for verbs that follow a pronoun. Knows nothing of
`Case`, of ids or of uniqueness.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final, TypeAlias

import msgspec

from engine.cases.sources import bundled_text

Part: TypeAlias = tuple[str, ...]
"""Alternatives of which one is drawn."""

CONDITIONS: Final = (
    "depression",
    "anxiety",
    "panic",
    "social_anxiety",
    "compulsions",
    "trauma",
    "mania",
    "psychosis",
    "alcohol",
    "eating",
    "grief",
    "healthy",
)
FIELDS: Final = ("history", "belief", "depression", "coping", "situation", "thought", "behavior")
PRONOUNS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "woman": ("she", "her", "her", "herself"),
    "man": ("he", "him", "his", "himself"),
    "nonbinary": ("they", "them", "their", "themself"),
}
_MARK: Final = re.compile(r"\{([a-z_]+)(?:\.(\d))?\}|\[([^|\]]*)\|([^\]]*)\]")
_PIECE: Final = re.compile(r"\|(?![^\[\]]*\])")
_SENTENCE: Final = re.compile(r"(^|[.!?]\s+)([a-z])")


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Templates per hidden field: parts in order, each a list of alternatives; an empty draw is left out."""

    history: tuple[Part, ...] = ()
    belief: tuple[Part, ...] = ()
    depression: tuple[Part, ...] = ()
    coping: tuple[Part, ...] = ()
    situation: tuple[Part, ...] = ()
    thought: tuple[Part, ...] = ()
    behavior: tuple[Part, ...] = ()

    def of(self, field: str) -> tuple[Part, ...]:
        """Return the parts of one field."""
        parts: tuple[Part, ...] = getattr(self, field)
        return parts


class Theme(Fields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One area of life in which a condition shows. `age` and `genders` limit who can have it; `jobs` replace others.

    `core` names the core-belief families that fit, all of the condition's if empty.
    """

    name: str
    age: tuple[int, int] = (18, 85)
    genders: tuple[str, ...] = tuple(PRONOUNS)
    jobs: Part = ()
    core: tuple[str, ...] = ()
    slots: dict[str, Part]


class Condition(Fields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One condition: who has it, its core beliefs, and themes; its own parts follow the theme's in each field.

    `severities` maps a severity to the slots it fills, `styles` a conversational style to its weight.
    """

    condition: str
    age: tuple[int, int]
    severities: dict[str, dict[str, Part]]
    core: dict[str, Part]
    emotions: Part
    styles: dict[str, int]
    slots: dict[str, Part]
    themes: tuple[Theme, ...]


class Culture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A background: first names by gender, upbringings ("grew up ..."), and a congregation."""

    culture: str
    woman: Part
    man: Part
    nonbinary: Part
    upbringings: Part

    def names(self, gender: str) -> Part:
        """Return the first names for a gender."""
        names: Part = getattr(self, gender)
        return names


class People(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What everybody has. `jobs` are for working age, `student_jobs` up to 22, `retired_jobs` from 67."""

    cultures: tuple[Culture, ...]
    jobs: Part
    student_jobs: Part
    retired_jobs: Part
    slots: dict[str, Part]
    history: tuple[Part, ...]


@cache
def load_people() -> People:
    """Return the bundled background data."""
    return msgspec.json.decode(bundled_text("sampler_parts/people.json"), type=People)


@cache
def load_conditions() -> tuple[Condition, ...]:
    """Return the bundled conditions, in a fixed order."""
    return tuple(msgspec.json.decode(bundled_text(f"sampler_parts/{name}.json"), type=Condition) for name in CONDITIONS)


class Facts:
    """What is true of one person: slots already drawn, and where others are drawn from.

    `scopes` are searched in order, so that a theme's slot shadows its condition's.
    """

    def __init__(
        self, rng: random.Random, gender: str, known: Mapping[str, str], scopes: Sequence[Mapping[str, Part]]
    ) -> None:
        self.rng = rng
        self.scopes = scopes
        self.is_plural = gender == "nonbinary"
        pronouns = dict(zip(("they", "them", "their", "themself"), PRONOUNS[gender], strict=True))
        self.drawn: dict[str, tuple[str, ...]] = {key: (value,) for key, value in {**pronouns, **known}.items()}

    def write(self, parts: Iterable[Part]) -> str:
        """Draw one alternative of each part, fill it in, and join them into prose."""
        sentences = [self.fill(self.rng.choice(part)) for part in parts]
        text = " ".join(sentence for sentence in sentences if sentence)
        return _SENTENCE.sub(lambda m: m[1] + m[2].upper(), text)

    def fill(self, template: str) -> str:
        """Replace the marks of a template."""
        return _MARK.sub(self._mark, template)

    def _mark(self, found: re.Match[str]) -> str:
        if found[1] is None:
            return self.fill(found[4] if self.is_plural else found[3])
        return self._slot(found[1])[int(found[2] or 0)]

    def _slot(self, name: str) -> tuple[str, ...]:
        if name not in self.drawn:
            part = next(scope[name] for scope in self.scopes if name in scope)
            self.drawn[name] = tuple(self.fill(piece) for piece in _PIECE.split(self.rng.choice(part)))
        return self.drawn[name]
