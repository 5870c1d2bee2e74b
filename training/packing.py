"""Encoded chats put together to one batch: packed without padding, or padded to one length; pure.

Invariant: a packed row attends to itself alone and is taught what it is taught alone: its positions start at 0, which
is how transformers tells packed rows apart when no attention mask is given, and its first token is nobody's answer.
"""

from collections.abc import Sequence
from typing import TypeAlias

from training.chat import IGNORED, Encoded

Columns: TypeAlias = dict[str, list[list[int]]]
"""What a model takes, by name: rows of integers of one length."""


def pack(rows: Sequence[Encoded]) -> Columns:
    """Return rows, at least one, as one row without padding: `input_ids`, `labels`, `position_ids`."""
    ids = [token for row in rows for token in row.input_ids]
    labels = [label for row in rows for label in _after_first(row.labels)]
    positions = [position for row in rows for position in range(len(row.input_ids))]
    return {"input_ids": [ids], "labels": [labels], "position_ids": [positions]}


def pad(rows: Sequence[Encoded], pad_id: int) -> Columns:
    """Return rows, at least one, padded on the right: `input_ids`, `labels`, `attention_mask`."""
    length = max(len(row.input_ids) for row in rows)
    missing = [length - len(row.input_ids) for row in rows]
    pairs = list(zip(rows, missing, strict=True))
    return {
        "input_ids": [row.input_ids + [pad_id] * more for row, more in pairs],
        "labels": [_after_first(row.labels) + [IGNORED] * more for row, more in pairs],
        "attention_mask": [[1] * (length - more) + [0] * more for more in missing],
    }


def _after_first(labels: list[int]) -> list[int]:
    """The first token follows nothing of its own row."""
    return [IGNORED, *labels[1:]]
