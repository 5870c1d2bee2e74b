"""The Parquet form of an episode record: one row per episode, flat columns to filter by, nested nodes and steps.

Invariant: record -> row -> record loses nothing, but for lone surrogates, which Parquet text cannot hold: they become
U+FFFD. Raise `VERSION` when a column changes its meaning. This module loads pyarrow: import it inside functions.
"""

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, ErrorRecord, NodeRecord, StepRecord
from engine.steps import Reply, Sampling, Usage
from engine.token_ids import pack_ids, unpack_ids
from engine.totals import Totals

VERSION = 1
# Rows converted in one uninterruptible call: what the scheduler's loop may have to wait for.
CHUNK = 4
SEALED_CHUNK = 128

_ATTEMPT = pa.struct(
    [("attempt", pa.int32()), ("kind", pa.string()), ("message", pa.string()), ("replica", pa.string())]
)
_SAMPLING = pa.struct([("max_tokens", pa.int32()), ("temperature", pa.float64()), ("top_p", pa.float64())])
_REPLY = pa.struct(
    [
        ("text", pa.string()),
        ("finish", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("tokenizer", pa.string()),
        ("probabilities", pa.list_(pa.struct([("option", pa.string()), ("probability", pa.float64())]))),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("model", pa.string()),
        ("replica", pa.string()),
        ("weights", pa.string()),
        ("attempt", pa.int32()),
        ("started_at", pa.float64()),
        ("queue_s", pa.float64()),
        ("latency_s", pa.float64()),
        ("num_rendered", pa.int32()),
    ]
)
_STEP = pa.struct(
    [
        ("path", pa.string()),
        ("kind", pa.string()),
        ("hash", pa.string()),
        ("role", pa.string()),
        ("purpose", pa.string()),
        ("view", pa.int32()),
        ("sampling", _SAMPLING),
        ("schema", pa.string()),
        ("reply", _REPLY),
        ("pairs", pa.list_(pa.struct([("first", pa.string()), ("second", pa.string())]))),
        ("floats", pa.list_(pa.float64())),
        ("attempts", pa.list_(_ATTEMPT)),
    ]
)
SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),
        ("episode", pa.string()),
        ("case_id", pa.string()),
        ("repeat", pa.int32()),
        ("attempt", pa.int32()),
        ("seed", pa.int64()),
        ("protocol", pa.string()),
        ("status", pa.string()),
        ("error_kind", pa.string()),
        ("error_message", pa.string()),
        ("error_path", pa.string()),
        ("outcome", pa.string()),
        ("case", pa.string()),
        ("models", pa.list_(pa.struct([("role", pa.string()), ("model", pa.string())]))),
        ("weights", pa.list_(pa.string())),
        ("started_at", pa.float64()),
        ("ended_at", pa.float64()),
        ("num_calls", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("nodes", pa.list_(pa.struct([("parent", pa.int32()), ("role", pa.string()), ("text", pa.string())]))),
        ("steps", pa.list_(_STEP)),
    ],
    metadata={"sandplay.schema": str(VERSION)},
)

# What every row needs to become a record, and the columns behind each further field of a record.
KEY_COLUMNS = ("seq", "case_id", "repeat", "attempt", "seed", "protocol", "status")
FIELD_COLUMNS: dict[str, tuple[str, ...]] = {
    "case": ("case",),
    "outcome": ("outcome",),
    "error": ("error_kind", "error_message", "error_path"),
    "models": ("models",),
    "weights": ("weights",),
    "started_at": ("started_at",),
    "ended_at": ("ended_at",),
    "nodes": ("nodes",),
    "steps": ("steps",),
}


def columns_of(fields: Iterable[str] | None) -> list[str]:
    """Return the columns needed for these fields of a record (None: all).

    Raises ValueError for a name that is no field.
    """
    wanted = tuple(FIELD_COLUMNS) if fields is None else tuple(fields)
    unknown = [f for f in wanted if f not in FIELD_COLUMNS and f not in EpisodeRecord.__struct_fields__]
    if unknown:
        raise ValueError(f"columns must be among {sorted(FIELD_COLUMNS)}, got {unknown}: see EpisodeRecord")
    return [*KEY_COLUMNS, *(column for field in wanted for column in FIELD_COLUMNS.get(field, ()))]


def to_table(records: Sequence[EpisodeRecord]) -> Any:
    """Return records as a `pyarrow.Table` of `SCHEMA`.

    Column by column: rows of nested dictionaries cost eight times as much, with the interpreter's lock held.
    Raises `pyarrow.ArrowInvalid` or OverflowError for a number its column cannot hold.
    """
    chunks = [records[start : start + SEALED_CHUNK] for start in range(0, len(records), SEALED_CHUNK)]
    batches = [pa.RecordBatch.from_arrays(_columns(chunk), schema=SCHEMA) for chunk in chunks]
    return pa.Table.from_batches(batches, SCHEMA).combine_chunks()


def _columns(records: Sequence[EpisodeRecord]) -> list[Any]:
    """Return one array per field of `SCHEMA`."""
    errors = [record.error for record in records]
    totals = [Totals.of(record) for record in records]
    columns: dict[str, list[Any]] = {
        "seq": [record.seq for record in records],
        "episode": [record.episode for record in records],
        "case_id": [record.key.case for record in records],
        "repeat": [record.key.repeat for record in records],
        "attempt": [record.key.attempt for record in records],
        "error_kind": [None if error is None else error.kind for error in errors],
        "error_message": [None if error is None else error.message for error in errors],
        "error_path": [None if error is None else error.path for error in errors],
        "num_calls": [total.calls for total in totals],
        "prompt_tokens": [total.prompt_tokens for total in totals],
        "completion_tokens": [total.completion_tokens for total in totals],
        "cached_tokens": [total.cached_tokens for total in totals],
    }
    for name in ("seed", "protocol", "status", "outcome", "case", "started_at", "ended_at"):
        columns[name] = _each(records, name)
    arrays = {name: _array(values, SCHEMA.field(name).type) for name, values in columns.items()}
    arrays["weights"] = _lists(SCHEMA.field("weights").type, [record.weights for record in records], _array)
    pairs = [tuple(record.models.items()) for record in records]
    arrays["models"] = _lists(SCHEMA.field("models").type, pairs, _pairs)
    arrays["nodes"] = _lists(SCHEMA.field("nodes").type, [record.nodes for record in records], _structs)
    arrays["steps"] = _lists(SCHEMA.field("steps").type, [record.steps for record in records], _steps)
    return [arrays[name] for name in SCHEMA.names]


def _each(items: Sequence[Any], name: str) -> list[Any]:
    return list(map(operator.attrgetter(name), items))


def _array(values: list[Any], form: Any) -> Any:
    try:
        return pa.array(values, form)
    except UnicodeEncodeError:
        return pa.array([_scrubbed(value) for value in values], form)


def _lists(form: Any, lists: Sequence[Sequence[Any]], make: Callable[[list[Any], Any], Any]) -> Any:
    """Return a list column; `make` builds the array of all its items from items and their type."""
    offsets = pa.array(itertools.accumulate(map(len, lists), initial=0), pa.int32())
    items = list(itertools.chain.from_iterable(lists))
    return pa.ListArray.from_arrays(offsets, make(items, form.value_type), type=form)


def _structs(items: list[Any], form: Any, **made: Any) -> Any:
    """Return a struct column of objects with these attributes; None is null. `made` are columns built already."""
    rest = [item for item in items if item is not None]
    # Null structs borrow the fields of another item: no reader sees them. Without any, all fields are null.
    filled = items if len(rest) == len(items) else [item if item is not None else (rest or [None])[0] for item in items]
    arrays = [
        made[field.name]
        if field.name in made
        else _array(_each(filled, field.name) if rest else [None] * len(items), field.type)
        for field in form
    ]
    nulls = pa.array([item is None for item in items], pa.bool_())
    return pa.StructArray.from_arrays(arrays, fields=list(form), mask=nulls)


def _pairs(items: list[tuple[Any, Any]], form: Any) -> Any:
    first, second = form
    arrays = [_array([one for one, _ in items], first.type), _array([two for _, two in items], second.type)]
    return pa.StructArray.from_arrays(arrays, fields=list(form))


def _steps(steps: list[StepRecord], form: Any) -> Any:
    return _structs(
        steps,
        form,
        sampling=_structs(_each(steps, "sampling"), _SAMPLING),
        reply=_replies(_each(steps, "reply")),
        pairs=_lists(form.field("pairs").type, _each(steps, "pairs"), _pairs),
        floats=_lists(form.field("floats").type, _each(steps, "floats"), _array),
        attempts=_lists(form.field("attempts").type, _each(steps, "attempts"), _structs),
    )


def _replies(replies: list[Reply | None]) -> Any:
    usages = [Usage() if reply is None else reply.usage for reply in replies]
    alternatives = [() if r is None or r.probabilities is None else tuple(r.probabilities.items()) for r in replies]
    form = _REPLY.field("probabilities").type
    probabilities = _lists(form, alternatives, _pairs)
    unknown = pa.array([r is None or r.probabilities is None for r in replies], pa.bool_())
    made = {name: _array(_each(usages, name), pa.int64()) for name in Usage.__struct_fields__}
    made["probabilities"] = pa.ListArray.from_arrays(
        probabilities.offsets, probabilities.values, type=form, mask=unknown
    )
    ids = [() if reply is None else unpack_ids(reply.token_ids) for reply in replies]
    made["token_ids"] = _lists(_REPLY.field("token_ids").type, ids, _array)
    return _structs(replies, _REPLY, **made)


def from_table(table: Any) -> Iterable[EpisodeRecord]:
    """Yield the records of a table; fields without a column keep their defaults."""
    for batch in table.to_batches(max_chunksize=CHUNK):
        yield from (from_row(row) for row in batch.to_pylist())


def from_row(row: dict[str, Any]) -> EpisodeRecord:
    """Return the record of one row, which may lack columns outside `KEY_COLUMNS`."""
    fields: dict[str, Any] = {f: _FROM[f](row) for f, names in FIELD_COLUMNS.items() if names[0] in row}
    return EpisodeRecord(
        key=EpisodeKey(row["case_id"], row["repeat"], row["attempt"]),
        seed=row["seed"],
        protocol=row["protocol"],
        status=row["status"],
        seq=row["seq"],
        **fields,
    )


def _error(row: dict[str, Any]) -> ErrorRecord | None:
    if row["error_kind"] is None:
        return None
    return ErrorRecord(row["error_kind"], row["error_message"], row["error_path"])


_FROM: dict[str, Callable[[dict[str, Any]], Any]] = {
    "case": lambda row: row["case"],
    "outcome": lambda row: row["outcome"],
    "error": _error,
    "models": lambda row: {m["role"]: m["model"] for m in row["models"]},
    "weights": lambda row: tuple(row["weights"]),
    "started_at": lambda row: row["started_at"],
    "ended_at": lambda row: row["ended_at"],
    "nodes": lambda row: tuple(NodeRecord(**n) for n in row["nodes"]),
    "steps": lambda row: tuple(_step(s) for s in row["steps"]),
}


def _step(row: dict[str, Any]) -> StepRecord:
    return StepRecord(
        **row
        | {
            "sampling": None if row["sampling"] is None else Sampling(**row["sampling"]),
            "reply": None if row["reply"] is None else _reply(row["reply"]),
            "pairs": tuple((p["first"], p["second"]) for p in row["pairs"]),
            "floats": tuple(row["floats"]),
            "attempts": tuple(AttemptRecord(**a) for a in row["attempts"]),
        }
    )


def _reply(row: dict[str, Any]) -> Reply:
    usage = Usage(**{f: row.pop(f) for f in Usage.__struct_fields__})
    row["token_ids"] = pack_ids(row["token_ids"])
    if row["probabilities"] is not None:
        row["probabilities"] = {p["option"]: p["probability"] for p in row["probabilities"]}
    return Reply(**row, usage=usage)


def _scrubbed(value: Any) -> Any:
    """The same value with lone surrogates of a text replaced."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value
