"""The case: one patient's profile as a cognitive model.

A `Case` that exists is valid: `case_from_record` is the way in for untrusted records, and it names every fault of a
record at once. Knows the Patient-Psi field names and their spellings; knows nothing of files, prompts or protocols.
"""

import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

MAX_ID_CHARS: Final = 200
MAX_AGE: Final = 130
JOINT: Final = "; "

STYLES: Final = ("plain", "verbose", "tangent", "reserved", "pleasing", "upset")
STYLE_ALIASES: Final[Mapping[str, str]] = {
    "go off on tangents": "tangent",
    "guarded": "reserved",
    "ingratiating": "pleasing",
    "hostile": "upset",
}

Problem: TypeAlias = Callable[[str], None]
"""Takes one sentence: the field, the rule, the value found, the remedy."""


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One patient profile: a cognitive conceptualization diagram and one situation of the week.

    Fields follow the Patient-Psi cognitive models; everything but `id` is hidden from every role but the patient.
    `styles` (file key `type`) are ways this patient may talk, each one of `STYLES`. `intermediate_belief_depression`
    is the belief while depressed and may be empty; an empty text is an absent gold field. `age` is in years.
    """

    id: str
    name: str
    styles: tuple[str, ...] = msgspec.field(name="type", default=())
    history: str
    helpless_belief: tuple[str, ...] = ()
    unlovable_belief: tuple[str, ...] = ()
    worthless_belief: tuple[str, ...] = ()
    intermediate_belief: str
    intermediate_belief_depression: str = ""
    coping_strategies: str
    situation: str
    auto_thought: str
    emotion: tuple[str, ...]
    behavior: str
    condition: str = ""
    age: int | None = None
    gender: str = ""
    culture: str = ""
    severity: str = ""

    @property
    def core_beliefs(self) -> tuple[str, ...]:
        """The helpless, unlovable and worthless beliefs, in this order."""
        return self.helpless_belief + self.unlovable_belief + self.worthless_belief

    @property
    def core_belief_text(self) -> str:
        """The core beliefs as one text."""
        return JOINT.join(self.core_beliefs)

    @property
    def emotion_text(self) -> str:
        """The emotions as one text."""
        return JOINT.join(self.emotion)

    @property
    def hidden_texts(self) -> tuple[str, ...]:
        """Every text that must not reach another role, empty ones left out."""
        texts = (
            self.history,
            self.core_belief_text,
            self.intermediate_belief,
            self.intermediate_belief_depression,
            self.coping_strategies,
            self.situation,
            self.auto_thought,
            self.emotion_text,
            self.behavior,
        )
        return tuple(text for text in texts if text.strip())


def fingerprint(cases: Iterable[Case]) -> str:
    """Return the SHA-256 (hexadecimal) over the cases' canonical encoding, in order.

    The encoding is msgspec JSON in field order with every default written out, one case a line; it depends on what
    the cases say, not on how their file spelled it.
    """
    digest = hashlib.sha256()
    for case in cases:
        digest.update(msgspec.json.encode(case))
        digest.update(b"\n")
    return digest.hexdigest()


_TEXTS: Final = (
    "name",
    "id",
    "history",
    "intermediate_belief",
    "coping_strategies",
    "situation",
    "auto_thought",
    "behavior",
)
_MAY_BE_EMPTY: Final = frozenset({"intermediate_belief", "intermediate_belief_depression", "coping_strategies"})
_OPTIONAL_TEXTS: Final = ("intermediate_belief_depression", "condition", "gender", "culture", "severity")
_BELIEFS: Final = ("helpless_belief", "unlovable_belief", "worthless_belief")
_SPELLINGS: Final[Mapping[str, str]] = {f"{name}_current": name for name in _BELIEFS}

REQUIRED_KEYS: Final = (*_TEXTS, "emotion")
KNOWN_KEYS: Final = (*REQUIRED_KEYS, "type", *_OPTIONAL_TEXTS, *_BELIEFS, "age")


def case_from_record(record: object, report: Problem) -> Case | None:
    """Build a case from one decoded record, or report every fault of it and return None.

    `record` is a mapping with the Patient-Psi keys; the three belief keys may carry a `_current` suffix. A null
    counts as an absent key.
    """
    if not isinstance(record, Mapping):
        report(f"must be an object with a case's fields, got {show(record)}: write {{...}}")
        return None
    faults: list[str] = []
    fields = _spelled(record, faults.append)
    values = {**_read_texts(fields, faults.append), **_read_rest(fields, faults.append)}
    for fault in faults:
        report(fault)
    return None if faults else Case(**values)


def normalize_style(text: str) -> str | None:
    """Return the style's canonical name, or None if there is no such style."""
    key = " ".join(text.lower().split())
    key = STYLE_ALIASES.get(key, key)
    return key if key in STYLES else None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that looks most like `word`."""
    return max(known, key=lambda candidate: difflib.SequenceMatcher(None, word.lower(), candidate).ratio())


def show(value: object, max_chars: int = 60) -> str:
    """Render a value of unknown origin for a message: one line, printable, cut to about `max_chars`."""
    if isinstance(value, Mapping):
        return "an object"
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def is_clean_text(text: str) -> bool:
    """Whether `text` can be encoded as UTF-8 (JSON escapes can smuggle in lone surrogates)."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _spelled(record: Mapping[Any, Any], report: Problem) -> dict[str, Any]:
    """Return the record under canonical keys, without nulls; report unknown and doubly spelled keys."""
    fields: dict[str, Any] = {}
    for key, value in record.items():
        name = _SPELLINGS.get(key, key)
        if name not in KNOWN_KEYS:
            report(f"unknown field {show(key)}: did you mean {nearest(str(key), KNOWN_KEYS)!r}?")
        elif name in fields:
            report(f"field {name!r} must be given once, got it with and without '_current': remove one")
        elif value is not None:
            fields[name] = value
    return fields


def _read_texts(fields: Mapping[str, Any], report: Problem) -> dict[str, str]:
    values = {name: _text(fields, name, report) for name in _TEXTS}
    values |= {name: _text(fields, name, report) for name in _OPTIONAL_TEXTS if name in fields}
    if not values["id"].isprintable() or len(values["id"]) > MAX_ID_CHARS:
        report(
            f"field 'id' must be at most {MAX_ID_CHARS} printable characters, "
            f"got {show(values['id'])} ({len(values['id'])}): rename the case"
        )
    if values["name"] and not values["name"].isprintable():
        report(f"field 'name' must be printable, got {show(values['name'])}: remove control characters")
    return values


def _text(fields: Mapping[str, Any], name: str, report: Problem) -> str:
    value = fields.get(name)
    if value is None:
        report(f"field {name!r} is missing: add it as a string")
        return ""
    if not isinstance(value, str):
        report(f"field {name!r} must be a string, got {show(value)}: quote or join it")
        return ""
    if not is_clean_text(value):
        report(f"field {name!r} must be valid Unicode, got a lone surrogate in {show(value)}: remove it")
        return ""
    if not value.strip() and name in REQUIRED_KEYS and name not in _MAY_BE_EMPTY:
        report(f"field {name!r} must not be empty, got {show(value)}: fill it in")
    return value


def _read_rest(fields: Mapping[str, Any], report: Problem) -> dict[str, Any]:
    values: dict[str, Any] = {name: _texts(fields, name, report) for name in (*_BELIEFS, "emotion")}
    if "emotion" not in fields:
        report("field 'emotion' is missing: add it as a list of strings")
    elif fields["emotion"] == []:
        report("field 'emotion' must name at least one emotion, got []: fill it in")
    values["styles"] = _styles(_texts(fields, "type", report), report)
    values["age"] = _age(fields.get("age"), report)
    return values


def _texts(fields: Mapping[str, Any], name: str, report: Problem) -> tuple[str, ...]:
    value = fields.get(name, [])
    if not isinstance(value, list):
        report(f"field {name!r} must be a list of strings, got {show(value)}: write [...]")
        return ()
    bad = [item for item in value if not (isinstance(item, str) and item.strip() and is_clean_text(item))]
    for item in bad:
        report(f"field {name!r} must hold non-empty strings only, got {show(item)}: correct or remove it")
    return () if bad else tuple(value)


def _styles(texts: tuple[str, ...], report: Problem) -> tuple[str, ...]:
    found: list[str] = []
    for text in texts:
        style = normalize_style(text)
        if style is None:
            known = (*STYLES, *STYLE_ALIASES)
            report(f"field 'type': unknown style {show(text)}: did you mean {nearest(text, known)!r}?")
        elif style not in found:
            found.append(style)
    return tuple(found)


def _age(value: object, report: Problem) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_AGE):
        return value
    report(f"field 'age' must be a whole number of years from 0 to {MAX_AGE}, got {show(value)}: correct or remove it")
    return None
