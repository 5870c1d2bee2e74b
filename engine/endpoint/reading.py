"""From the bytes of a request to its struct; pure. Everything in it is hostile.

A field is taken, changes nothing (and is named in the answer's header), holds a value that asks for nothing, or is
refused: an option that is silently passed over would make an evaluation measure something else. All problems of a
request are reported at once.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Meta

from engine.endpoint.wire import NO_LIMIT, Asked, ChatAsked, CompletionAsked, Refusal
from engine.steps import Fields
from engine.values import well_formed
from engine.views import neutralize

A = TypeVar("A", bound=Asked)

MAX_QUOTED: Final = 120
MAX_FIELD_CHARS: Final = 2000
"""Bound of a string in a constrained object whose schema states none; a shorter string satisfies the schema too."""
MAX_FIELDS: Final = 64

IGNORED: Final = frozenset(
    "seed user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention verbosity".split()
)
"""What changes nothing here; `seed` because the engines take none."""
NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "top_k": (0, -1),
    "min_p": (0,),
    "best_of": (1,),
    "num_beams": (1,),
    "suffix": ("",),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
}
"""Values that ask for nothing, of options that are not taken otherwise."""

_OBJECT_KEYS: Final = frozenset("type properties required additionalProperties title description $schema".split())
_STRING_KEYS: Final = frozenset("type maxLength title description".split())
_TOKEN_ID: Final = Meta(ge=0, lt=NO_LIMIT)


def read_chat(body: bytes) -> tuple[ChatAsked, list[str]]:
    """Return a chat request and the fields that change nothing. Raises `Refusal`."""
    given, ignored, problems = _sort(body, ChatAsked)
    asked = _convert(ChatAsked, given, problems)
    if asked is not None and asked.top_logprobs and not asked.logprobs:
        problems.append(f"top_logprobs must come with logprobs=true, got {asked.top_logprobs} without: set it too")
    _refuse(problems, given)
    assert asked is not None
    return asked, ignored


def read_completion(body: bytes) -> tuple[CompletionAsked, list[str]]:
    """Return a completion request and the fields that change nothing. Raises `Refusal`."""
    given, ignored, problems = _sort(body, CompletionAsked, "prompt")
    prompt = given.pop("prompt", None)
    prompts = _prompts(prompt)
    if not prompts:
        rule = "prompt must be a text, token ids, or a list of either, none of them empty"
        problems.append(f"{rule}, got {quoted(prompt)}: send at least one")
    asked = _convert(CompletionAsked, given, problems)
    _refuse(problems, given)
    assert asked is not None
    return msgspec.structs.replace(asked, prompts=prompts), ignored


def _sort(body: bytes, kind: type[Asked], *also: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the fields of a kind of request, those that change nothing, and what is wrong with the others.

    A field that is null counts as left out.
    """
    table = {name: value for name, value in _object(body).items() if value is not None}
    known = {*kind.__struct_fields__, *also} - ({"prompts"} if also else set())
    given, ignored, problems = {}, [], []
    for name, value in table.items():
        if name in known:
            given[name] = value
        elif name in IGNORED:
            ignored.append(name)
        elif name in NEUTRAL:
            if value not in NEUTRAL[name]:
                allowed = " or ".join(map(quoted, NEUTRAL[name]))
                problems.append(f"{name} must be {allowed}, got {quoted(value)}: leave it out, it is not taken here")
        else:
            problems.append(f"a field must be one that is taken here, got {quoted(name)}: leave it out")
    return given, ignored, problems


def _object(body: bytes) -> dict[str, Any]:
    try:
        table = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refusal(f"the body must be JSON, got a body that is not: {quoted(str(error))}: correct it") from None
    if not isinstance(table, dict):
        raise Refusal(f"the body must be a JSON object, got {quoted(table)}: send the fields of the request")
    return table


def _convert(kind: type[A], given: Mapping[str, Any], problems: list[str]) -> A | None:
    """Return the struct, or None after noting what is wrong with each field."""
    values: dict[str, Any] = {}
    num_before = len(problems)
    for field in msgspec.structs.fields(kind):
        name = field.name
        if name not in given:
            if field.required:
                problems.append(f"{name} must be {_rule(field.type)}, got none: send it")
            continue
        try:
            values[name] = msgspec.convert(given[name], field.type, strict=True)
        except (msgspec.ValidationError, RecursionError) as error:
            where = f" ({quoted(str(error))})" if "`$" in str(error) else ""
            problems.append(f"{name} must be {_rule(field.type)}, got {quoted(given[name])}{where}: correct it")
    return kind(**values) if len(problems) == num_before else None


def _rule(kind: Any) -> str:
    """Return in words what a field must be: the description in its type."""
    for part in (kind, *getattr(kind, "__args__", ())):
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    return "of another type"


def _refuse(problems: list[str], given: Mapping[str, Any]) -> None:
    if problems:
        first = problems[0].split(" ", 1)[0]
        raise Refusal(problems, param=first if first in given or first in {"messages", "prompt"} else None)


def _prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """Return the prompts of any of the four forms, none where it is of no form or one of them is empty."""
    if isinstance(value, str):
        found: list[Any] = [value]
    elif isinstance(value, list) and value and all(_is_token(one) for one in value):
        found = [value]
    elif isinstance(value, list) and all(isinstance(one, str | list) for one in value):
        found = value
    else:
        return ()
    is_fit = all(one and (isinstance(one, str) or all(_is_token(token) for token in one)) for one in found)
    return tuple(one if isinstance(one, str) else tuple(one) for one in found) if is_fit else ()


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < NO_LIMIT


def quoted(value: object) -> str:
    """Return a short printable form of anything from outside, on one line."""
    if isinstance(value, str):
        text = f"'{value[:MAX_QUOTED]}'"
    elif isinstance(value, list | dict) and len(value) > 8:
        text = f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= NO_LIMIT:
        text = "a number out of range"
    else:
        text = _encoded(value)
    line = " ".join(neutralize(well_formed(text)).split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= MAX_QUOTED else f"{line[: MAX_QUOTED - 3]}..."


def _encoded(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()[: 4 * MAX_QUOTED]
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError):
        return f"{type(value).__name__} too deep to show"


# ---------------------------------------------------------------- response formats


def read_format(given: Mapping[str, Any]) -> Fields | None:
    """Return what a `response_format` constrains the reply to, None for free text. Raises `Refusal`.

    An object of strings, all required and nothing beside them, is all that a constrained reply can be here.
    """
    kind = given.get("type", "text")
    if kind == "text":
        return None
    problems = [f"response_format.type must be text or json_schema, got {quoted(kind)}: leave it out"]
    if kind == "json_schema":
        described = given.get("json_schema")
        schema = described.get("schema") if isinstance(described, dict) else None
        problems = list(_schema_problems(schema))
        if schema is not None and not problems:
            return _fields(schema)
    raise Refusal(problems, param="response_format")


def _schema_problems(schema: Any) -> Iterator[str]:
    rule = "response_format.json_schema.schema must be an object of strings, all required, nothing beside them"
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield f"{rule}, got {quoted(schema)}: ask for text and read it yourself"
        return
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not 0 < len(properties) <= MAX_FIELDS:
        yield f"{rule}, got properties {quoted(properties)}: name 1 to {MAX_FIELDS}"
        return
    for name, inner in properties.items():
        if not isinstance(inner, dict) or inner.get("type") != "string" or not _STRING_KEYS.issuperset(inner):
            yield f"{rule}, got {quoted(name)} as {quoted(inner)}: make it a string without other rules"
    limits = [inner.get("maxLength") for inner in properties.values() if isinstance(inner, dict)]
    if not all(limit is None or (_is_token(limit) and limit) for limit in limits) or not _are_equal(limits):
        yield f"maxLength must be one whole number for all strings, got {quoted(limits)}: make them equal"
    if not isinstance(required, list) or not all(isinstance(n, str) for n in required) or {*required} != {*properties}:
        yield f"{rule}, got required {quoted(required)}: list all of them"
    if schema.get("additionalProperties") is not False:
        yield f"{rule}, got additionalProperties {quoted(schema.get('additionalProperties'))}: set false"
    if more := schema.keys() - _OBJECT_KEYS:
        yield f"{rule}, got other rules {quoted(sorted(map(str, more)))}: remove them"


def _are_equal(values: list[Any]) -> bool:
    return all(value == values[0] for value in values)


def _fields(schema: Mapping[str, Any]) -> Fields:
    properties: dict[str, dict[str, Any]] = schema["properties"]
    limit = next(iter(properties.values())).get("maxLength")
    return Fields(tuple(properties), MAX_FIELD_CHARS if limit is None else min(int(limit), 4 * MAX_FIELD_CHARS))
