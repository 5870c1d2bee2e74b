"""Values: what a model's reply says under a value schema; pure.

Backends with grammars constrain the answer; hosted endpoints do not, so a value is read from prose as well. A reply is
hostile text: parsing never raises on it, and every pattern runs in linear time. Invariant: what cannot be read
without guessing is missing (None), never a default; a cut-off reply is always missing.
"""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from engine.steps import Choice, Fields, Reply, ValueSchema

MAX_SENTENCE: Final = 200
MAX_OBJECTS: Final = 16
ABSENT: Final = frozenset({"", "n/a", "na", "null"})

_EDGE: Final = " \t\r\n*_`\"'“”‘’([#>"
_TAIL: Final = _EDGE + ".,!;:)]"
_FENCE: Final = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_LABELLED_VALUE: Final = re.compile(r"[A-Za-z _*]{1,40}[:\uff1a]([^\n]+)")
_NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*")
_FRACTION: Final = re.compile(r"(\d+)[ ]?(?:/[ ]?|out of )(\d+)(?![\d/]|[.,]\d)")
_MARKUP: Final = re.compile(r"[*_`\"“”]+")
# A sentence with one of these does not say its number: other quantities, negation, open questions.
_UNSURE: Final = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|hundred|zero|half|not|never|neither|nor|cannot|except)\b"
    r"|n['’]t\b|[¼-¾⅐-⅞]|\?\s*$",
    re.IGNORECASE,
)
_BOUND_BEFORE: Final = re.compile(
    r"(?:[\w$€£.+~<>=≤≥–−-]|\b(?:than|least|most|above|below|under|over|nearly|almost|between)\s)$", re.IGNORECASE
)
_BOUND_AFTER: Final = re.compile(r"\w|[+%°/–−-]|\s?%|\s(?:or|plus)\b", re.IGNORECASE)
# Strings are matched whole so that only commas outside them are looked at; an unclosed string runs to the end.
_TRAILING_COMMA: Final = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|,(?=\s*[}\]])', re.DOTALL)
_LINE_LABEL: Final = re.compile(r"\s*(?:[-•>#*]+\s+|\d+[.)]\s+)?[*_`]*([^\W\d][\w ]{0,60}?)[*_`]*\s*[:\uff1a]\s*(.*)")
_EMPHASIS: Final = re.compile(r"\*+|__+|`+")


def parse(schema: ValueSchema, reply: Reply) -> str | dict[str, str] | None:
    """Return what `reply` says under `schema`: an option, the fields present, or None when it is missing."""
    text = reply.text.strip()
    if reply.is_cut_off or not text:
        return None
    return parse_choice(schema, text) if isinstance(schema, Choice) else parse_fields(schema, text)


def json_schema(schema: ValueSchema, *, is_bounded: bool = True) -> dict[str, Any]:
    """Return the JSON schema of an object that states the value; a choice is its `value`.

    `is_bounded` includes `maxLength`, which grammar backends want and some hosted endpoints refuse.
    """
    if isinstance(schema, Choice):
        properties: dict[str, Any] = {"value": {"type": "string", "enum": list(schema.options)}}
    else:
        string = {"type": "string", "maxLength": schema.max_chars} if is_bounded else {"type": "string"}
        properties = dict.fromkeys(schema.names, string)
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


@functools.lru_cache(maxsize=256)
def describe(schema: ValueSchema) -> str:
    """Say in words what form the answer must have."""
    if isinstance(schema, Fields):
        names = ", ".join(f'"{name}"' for name in schema.names)
        return f"a JSON object with the keys {names}, each a string of at most {schema.max_chars} characters"
    if len(schema.options) > 2 and schema.options == tuple(str(n + 1) for n in range(len(schema.options))):
        return f"one whole number from 1 to {len(schema.options)}"
    return f"one of: {', '.join(schema.options)}"


def well_formed(text: str) -> str:
    """Return `text` with lone surrogates replaced, so that it can be encoded; JSON escapes can smuggle them in."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def parse_choice(schema: Choice, text: str) -> str | None:
    """Return the one option that `text` names: bare, as JSON, as `7/10`, or in a short sentence."""
    text = _unfenced(text)
    if text in schema.options:
        return text
    if text[:1] in "{[":
        scalar = _single_scalar(_load(text))
        return _named_option(schema, scalar) if scalar is not None else None
    return _named_option(schema, text)


def _named_option(schema: Choice, text: str) -> str | None:
    bare = _bare_option(schema, text)
    if bare is not None:
        return bare
    labelled = _LABELLED_VALUE.fullmatch(text.strip())
    if labelled is not None and (bare := _bare_option(schema, labelled[1])) is not None:
        return bare
    if all(option.isascii() and option.isdecimal() for option in schema.options):
        return _numbered_option(schema, text)
    return None


def _bare_option(schema: Choice, text: str) -> str | None:
    """Match the text without markdown, quotes and closing punctuation, ignoring case."""
    bare = text.lstrip(_EDGE).rstrip(_TAIL).casefold()
    matching = [option for option in schema.options if option.casefold() == bare]
    return matching[0] if len(matching) == 1 else None


def _numbered_option(schema: Choice, text: str) -> str | None:
    """Match the only number in a short sentence; `N/largest` and `N out of largest` count as N."""
    plain = _MARKUP.sub("", text).strip()
    if len(plain) > MAX_SENTENCE or _UNSURE.search(plain):
        return None
    if len(schema.options) > 2:
        largest = str(max(int(option) for option in schema.options))
        plain = _FRACTION.sub(lambda found: found[1] if found[2] == largest else found[0], plain)
    numbers = list(_NUMBER.finditer(plain))
    if len(numbers) != 1 or numbers[0][0] not in schema.options:
        return None
    start, end = numbers[0].span()
    is_bound = _BOUND_BEFORE.search(plain[max(0, start - 12) : start]) or _BOUND_AFTER.match(plain, end)
    return None if is_bound else numbers[0][0]


def _single_scalar(value: object) -> str | None:
    """Return the one string or number that a decoded answer holds."""
    if isinstance(value, dict):
        scalars = list(value.values())
        value = scalars[0] if len(scalars) == 1 else None
    return _as_text(value)


def parse_fields(schema: Fields, text: str) -> dict[str, str] | None:
    """Return the named strings that `text` states as a JSON object or, without one, as labelled lines."""
    objects = list(_objects(text))
    for found in objects:
        stated = {_key(name): value for name, value in found.items()}
        if any(_key(name) in stated for name in schema.names):
            return _present(schema, {name: _as_text(stated.get(_key(name))) for name in schema.names})
    if objects:
        return None
    lines = _labelled_lines(schema, text)
    return _present(schema, lines) if lines else None


def _present(schema: Fields, stated: dict[str, Any]) -> dict[str, str]:
    """Keep the fields that say something, in declared order, each cut to the longest allowed."""
    kept = {name: well_formed(stated[name]).strip() for name in schema.names if stated.get(name)}
    return {name: text[: schema.max_chars].rstrip() for name, text in kept.items() if text.lower() not in ABSENT}


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the outermost JSON objects in order, at most `MAX_OBJECTS` tries; objects within objects are skipped."""
    text = _TRAILING_COMMA.sub(lambda found: "" if found[0] == "," else found[0], text)
    decoder = json.JSONDecoder(strict=False, parse_constant=lambda _: None)
    position = text.find("{")
    for _ in range(MAX_OBJECTS):
        if position < 0:
            return
        end = position + 1
        try:
            found, end = decoder.raw_decode(text, position)
            yield found
        except (ValueError, RecursionError):
            pass
        position = text.find("{", end)


def _load(text: str) -> object:
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def _as_text(value: object) -> str | None:
    """Return a JSON string or finite number as text, None for everything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) or abs(value) < 1e15:
        return str(int(value)) if value == int(value) else str(value)
    return None


def _labelled_lines(schema: Fields, text: str) -> dict[str, str]:
    """Return the text after each known label; a value runs to a blank line or the next known label."""
    names = {_key(name): name for name in schema.names}
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        label = _LINE_LABEL.fullmatch(line)
        name = names.get(_key(label[1])) if label is not None else None
        if name is not None and label is not None:
            # A label that comes again starts a value nobody reads: the first one stands.
            current = found.setdefault(name, []) if not any(found.get(name, ())) else []
            current.append(label[2])
        elif line.strip() or not any(part.strip(_TAIL) for part in current):
            current.append(line)
        else:
            current = []
    return {name: _EMPHASIS.sub("", "\n".join(lines)).strip() for name, lines in found.items()}


def _key(name: str) -> str:
    """Spell a name so that `Explanation of treatment` and `explanation_of_treatment` are one."""
    return " ".join(name.casefold().replace("_", " ").split())


def _unfenced(text: str) -> str:
    fenced = _FENCE.search(text)
    return fenced[1].strip() if fenced is not None else text
