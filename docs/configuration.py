"""The reference of the configuration, written from the types that read it.

    python -m docs.configuration > docs/configuration.md

Every table is a struct: its keys, types, defaults and least values come from its fields, its words from its docstring.
"""

import re
import sys
import types
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec

from engine.config import Config, is_operational
from engine.protocol import BUILT_IN, ProtocolSpec, Rules, find_protocol
from eval.exam import PROTOCOL as ITEMS
from eval.exam.planning import Chosen
from eval.judging import PROTOCOL as JUDGING
from training.round_planning import MAY_CHANGE
from training.round_settings import Settings

ROOT: Final = Path(__file__).parents[1]
INTRO: Final = """\
# Configuration

Written by `python -m docs.configuration` from the types that read a configuration; edit their docstrings instead.

A configuration is a TOML file. Every key may be left out unless its default is *required*; unknown keys, wrong types
and values out of range are refused, all at once, before anything is started. `sandplay generate CONFIG.toml --dry-run`
prints the file with every default written out, and a run keeps it as `config.toml`. Behind any command that takes a
configuration, `a.b=c` replaces one key; c is read as TOML, and as plain text where it is none:
`models.base.replicas=4 cases.source=sampled 'training.report_to=["tensorboard"]'`.

An *identity* key is part of what a corpus is: `sandplay resume` refuses another value and names the difference. An
*operational* key says how fast or where, and may follow `sandplay resume DIR` as `a.b=c`. Where a key has no value by
default, that is written -, and it is given by leaving it out: TOML has no word for it."""

PROTOCOLS: Final = """\
## Protocols: `[protocol]`

`protocol.name` decides which of the following tables `[protocol]` is; all its keys are identity. A protocol of one's
own has the keys of every protocol and those of its own rules ([protocol.md](protocol.md))."""

ROUNDS: Final = """\
## Rounds and training

`sandplay rounds` takes these beside the tables of a run: `[training]` where a served model is trained, `[tuning]` where
a hosted one is. `sandplay train` takes `[training]`, `[samples]`, `[models]` and `[ray]`, and `sandplay samples` the
keys of `[samples]` as `key=value`."""

EXAMS: Final = """\
## Exams

`sandplay exam` takes these beside the tables of a run. The protocol is `items` and there are no cases to choose; with
one model and no `[roles]` that model is examined."""


def reference() -> str:
    """Return the page as Markdown."""
    parts = [INTRO, "## A run", *_tables(Config, "")]
    parts += [PROTOCOLS, "### `[protocol]` of any protocol", _words(Rules), _rows(Rules, "protocol")]
    parts += [*(part for spec in _protocols() for part in _protocol(spec))]
    parts += [ROUNDS, *(part for field in _fields(Settings) for part in _tables(field.type, field.name))]
    parts += [EXAMS, *_tables(Chosen, "")]
    return "\n\n".join(parts) + "\n"


def _protocols() -> list[ProtocolSpec]:
    return [*(find_protocol(name, ROOT) for name in sorted(BUILT_IN)), ITEMS, JUDGING]


def _protocol(spec: ProtocolSpec) -> list[str]:
    title = f'### `[protocol]` with `name = "{spec.name}"`'
    roles = f"Roles: {', '.join(f'`{role}`' for role in spec.roles)}."
    return [title, _words(spec.rules), roles, _rows(spec.rules, "protocol", skipped=("name",))]


def _tables(kind: type[msgspec.Struct], where: str) -> Iterator[str]:
    """Yield a table's parts, then those of the tables in it. `where` is its dotted name, "" for the top of the file."""
    config = kind.__struct_config__
    tagged = f' with `{config.tag_field} = "{config.tag}"`' if config.tag is not None else ""
    yield f"### {_header(where)}{tagged}"
    if kind.__doc__ is not None:
        yield _words(kind)
    if rows := _rows(kind, where):
        yield rows
    for field in _fields(kind):
        for inner, name in _inner(field.type, f"{where}.{field.name}".lstrip(".")):
            yield from _tables(inner, name)


def _header(where: str) -> str:
    if not where:
        return "The top of the file"
    return f"`[[{where[:-2]}]]`" if where.endswith("[]") else f"`[{where}]`"


def _words(kind: type[msgspec.Struct]) -> str:
    """Return a docstring with its paragraphs kept and its lines unindented."""
    lines = [line.strip() for line in (kind.__doc__ or "").strip().splitlines()]
    return "\n".join(lines)


def _rows(kind: type[msgspec.Struct], where: str, skipped: Collection[str] = ()) -> str:
    """Return the Markdown table of the keys that are values; "" when all are tables themselves."""
    minima: Mapping[str, float] = getattr(kind, "minima", {})
    rows = [
        f"| `{field.name}` | {_type(field.type)}{_least(minima.get(field.name))} | {_default(field)} | "
        f"{_standing(f'{where}.{field.name}'.lstrip('.'))} |"
        for field in _fields(kind)
        if field.name not in skipped and (not list(_inner(field.type, "")) or _is_listed(field.type))
    ]
    return "\n".join(["| key | type | default | on resume |", "|---|---|---|---|", *rows]) if rows else ""


def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _inner(kind: Any, where: str) -> Iterator[tuple[type[msgspec.Struct], str]]:
    """Yield the tables that a field's type stands for, with their dotted names."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind, where
        return
    origin, inside = get_origin(kind), get_args(kind)
    if origin is dict:
        yield from _inner(inside[1], f"{where}.NAME")
    elif origin in (tuple, list):
        yield from _inner(inside[0], f"{where}[]")
    elif origin in (Union, types.UnionType):
        for option in inside:
            yield from _inner(option, where)


def _is_listed(kind: Any) -> bool:
    return get_origin(kind) in (tuple, list)


WORDS: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Any: "any value",
    dict: "table",
    types.NoneType: "",
}


def _type(kind: Any) -> str:
    """Say a type in words."""
    if kind in WORDS:
        return WORDS[kind]
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " \\| ".join(_literal(value) for value in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(word for word in map(_type, inside) if word)
    if origin in (tuple, list):
        return "list of tables" if list(_inner(inside[0], "")) else f"list of {_type(inside[0])}"
    if origin is dict:
        return "table" if inside[1] is Any else f"by name: {_type(inside[1])}"
    return "table"


def _least(least: float | None) -> str:
    return "" if least is None else f", at least {least:g}"


def _literal(value: object) -> str:
    return f"`{msgspec.json.encode(value).decode()}`"


def _default(field: msgspec.structs.FieldInfo) -> str:
    """Return a default as TOML has it; tables in a list one a line."""
    if field.required:
        return "*required*"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None:
        return "-"
    if _is_listed(field.type) and list(_inner(field.type, "")):
        return "<br>".join(f"`{_inline(msgspec.to_builtins(one))}`" for one in value)
    return f"`{_inline(msgspec.to_builtins(value))}`".replace("|", "\\|")


def _inline(value: Any) -> str:
    """Return a value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(one)}" for key, one in value.items() if one is not None) + "}"
    return msgspec.json.encode(value).decode()


def _standing(dotted: str) -> str:
    """Whether a key is identity or operational. `NAME` stands for any name, `[]` for any place in a list."""
    plain = re.sub(r"\[\]", "", dotted)
    may_change = is_operational(plain) or any(plain == one or plain.startswith(f"{one}.") for one in MAY_CHANGE)
    return "operational" if may_change else "identity"


if __name__ == "__main__":
    sys.stdout.write(reference())
