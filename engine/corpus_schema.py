"""The Parquet form of an episode record: one row per episode, flat columns to filter by, nested nodes and steps.

Invariant: record -> row -> record loses nothing, but for lone surrogates, which Parquet text cannot hold: they become
U+FFFD. Raise `VERSION` when a column changes its meaning. This module loads pyarrow: import it inside functions.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, ErrorRecord, NodeRecord, StepRecord
from engine.steps import Reply, Sampling, Usage

VERSION = 1
# Rows converted in one uninterruptible call: what the scheduler's loop may have to wait for.
CHUNK = 4

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

    Raises `pyarrow.ArrowInvalid` or OverflowError for a number its column cannot hold.
    """
    batches = []
    for start in range(0, len(records), CHUNK):
        rows = [to_row(r) for r in records[start : start + CHUNK]]
        try:
            batches.append(pa.RecordBatch.from_pylist(rows, SCHEMA))
        except UnicodeEncodeError:
            batches.append(pa.RecordBatch.from_pylist([_scrubbed(row) for row in rows], SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA).combine_chunks()


def from_table(table: Any) -> Iterable[EpisodeRecord]:
    """Yield the records of a table; fields without a column keep their defaults."""
    for batch in table.to_batches(max_chunksize=CHUNK):
        yield from (from_row(row) for row in batch.to_pylist())


def to_row(record: EpisodeRecord) -> dict[str, Any]:
    """Return one record as the row of `SCHEMA`."""
    error, replies = record.error, [s.reply for s in record.steps if s.reply is not None]
    return {
        "seq": record.seq,
        "episode": record.episode,
        "case_id": record.key.case,
        "repeat": record.key.repeat,
        "attempt": record.key.attempt,
        "seed": record.seed,
        "protocol": record.protocol,
        "status": record.status,
        "error_kind": None if error is None else error.kind,
        "error_message": None if error is None else error.message,
        "error_path": None if error is None else error.path,
        "outcome": record.outcome,
        "case": record.case,
        "models": [{"role": role, "model": model} for role, model in record.models.items()],
        "weights": record.weights,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "num_calls": record.num_calls,
        "prompt_tokens": sum(r.usage.prompt_tokens for r in replies),
        "completion_tokens": sum(r.usage.completion_tokens for r in replies),
        "cached_tokens": sum(r.usage.cached_tokens for r in replies),
        "nodes": [{"parent": n.parent, "role": n.role, "text": n.text} for n in record.nodes],
        "steps": [_step_row(s) for s in record.steps],
    }


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


def _step_row(step: StepRecord) -> dict[str, Any]:
    sampling = step.sampling
    return {
        "path": step.path,
        "kind": step.kind,
        "hash": step.hash,
        "role": step.role,
        "purpose": step.purpose,
        "view": step.view,
        "sampling": None if sampling is None else {f: getattr(sampling, f) for f in Sampling.__struct_fields__},
        "schema": step.schema,
        "reply": None if step.reply is None else _reply_row(step.reply),
        "pairs": [{"first": first, "second": second} for first, second in step.pairs],
        "floats": step.floats,
        "attempts": [{f: getattr(a, f) for f in AttemptRecord.__struct_fields__} for a in step.attempts],
    }


def _reply_row(reply: Reply) -> dict[str, Any]:
    row = {f: getattr(reply, f) for f in Reply.__struct_fields__}
    usage: Usage = row.pop("usage")
    row |= {f: getattr(usage, f) for f in Usage.__struct_fields__}
    if reply.probabilities is not None:
        row["probabilities"] = [{"option": o, "probability": p} for o, p in reply.probabilities.items()]
    return row


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
    row["token_ids"] = tuple(row["token_ids"])
    if row["probabilities"] is not None:
        row["probabilities"] = {p["option"]: p["probability"] for p in row["probabilities"]}
    return Reply(**row, usage=usage)


def _scrubbed(value: Any) -> Any:
    """The same rows with lone surrogates replaced."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {k: _scrubbed(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_scrubbed(v) for v in value]
    if isinstance(value, tuple):
        return tuple(_scrubbed(v) for v in value)
    return value
