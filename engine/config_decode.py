"""Strict decoding of plain tables into msgspec structs, collecting every problem instead of the first.

Knows types only; ranges and references between fields are the caller's.
"""

import difflib
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from engine.api_keys import shown

S = TypeVar("S", bound=msgspec.Struct)


def decode(kind: type[S], table: object, where: str) -> tuple[S | None, list[str]]:
    """Return (the struct, []) or (None, problems). `where` is the dotted prefix for messages ("" or "a.b.")."""
    if not isinstance(table, Mapping):
        return None, [f"{where.rstrip('.')} must be a table, got {shown(table)}"]
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    tag_field = kind.__struct_config__.tag_field
    problems = [_unknown(key, where, fields) for key in table if key not in fields and key != tag_field]
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key not in table:
            if field.required:
                problems.append(f"{where}{key} is required and missing: set it")
            continue
        value, found = _value(field.type, table[key], f"{where}{key}")
        problems += found
        values[field.name] = value
    return (None, problems) if problems else (kind(**values), [])


def _unknown(key: str, where: str, fields: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
    hint = f"did you mean {where}{near[0]}?" if near else f"known keys: {', '.join(fields)}"
    return f"unknown configuration key {where}{key}: {hint}"


def _value(kind: Any, value: object, where: str) -> tuple[Any, list[str]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return decode(kind, value, f"{where}.")
    if get_origin(kind) is dict and isinstance(value, Mapping) and _structs(get_args(kind)[1]):
        return _named_tables(_structs(get_args(kind)[1]), value, where)
    try:
        return msgspec.convert(value, kind, strict=True), []
    except msgspec.ValidationError as bad:
        rule, *_ = str(bad).lower().split(" '")  # of a word that is not known the message holds the value as well
        return None, [f"{where}: {rule}, got {shown(value)}"]


def _named_tables(structs: dict[str, Any], table: Mapping[str, object], where: str) -> tuple[Any, list[str]]:
    """Decode {name: table} where each table's `kind` chooses its struct (the first one by default)."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, inner in table.items():
        chosen = inner.get("kind", next(iter(structs))) if isinstance(inner, Mapping) else next(iter(structs))
        if chosen not in structs:
            problems.append(f"{where}.{name}.kind must be one of {', '.join(structs)}, got {shown(chosen)}")
            continue
        values[name], found = decode(structs[chosen], inner, f"{where}.{name}.")
        problems += found
    return values, problems


def _structs(kind: Any) -> dict[str, Any]:
    """Return {tag: struct} for a struct type or a union of tagged ones; empty for anything else."""
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    structs = [option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    return {str(option.__struct_config__.tag): option for option in structs}
