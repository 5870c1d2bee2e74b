"""Samples as the file that a fine-tuning API takes: one chat a line, every assistant turn taught.

Only roles and texts leave the machine; the other columns of a row stay. What the API would refuse is refused here, all
of it at once. The file is named after what it holds: equal rows are one file, whoever uploads them.
"""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.errors import InputError, JournalError
from engine.files import write_atomic
from engine.staging import encoded
from engine.transcript import one_line
from training.sample_log import SampleReader

MIN_ROWS: Final = 10
MAX_BYTES: Final = 512_000_000
"""The API's own bounds on one file."""

_ROLES: Final = ("system", "user", "assistant")
_REMEDY: Final = "make the samples in the format messages"


class RowsFile(msgspec.Struct, frozen=True):
    """A file to upload."""

    name: str
    num_rows: int
    num_bytes: int


def write_rows(samples: str, held_out: str, directory: Path) -> tuple[RowsFile, RowsFile | None]:
    """Write the files of two closed sample logs, the second may be ""; return them.

    Raises InputError with everything that the API would refuse; nothing is then written.
    """
    problems: list[str] = []
    training = _lines(Path(samples), MIN_ROWS, problems)
    validation = _lines(Path(held_out), 1, problems) if held_out else []
    if problems:
        raise InputError(problems)
    return _written(training, directory), _written(validation, directory) if held_out else None


def _lines(path: Path, least: int, problems: list[str]) -> list[bytes]:
    """Return the rows of a log as lines, and add what is wrong with them."""
    if not path.is_file():
        problems.append(f"{path} must be a sample log, got no file: correct the path")
        return []
    with closing(SampleReader(path)) as reader:
        try:
            is_closed = reader.refresh().is_closed
        except JournalError as error:
            problems.append(str(error))
            return []
        if not is_closed:
            problems.append(f"{path} must be a closed sample log, got one that still grows: let its writer finish")
        if len(reader) < least:
            problems.append(f"{path} must hold at least {least} rows, got {len(reader)}: play more cases")
        lines = []
        for ordinal in range(len(reader)):
            row = _row(reader, ordinal)
            faults = [f"{path} row {ordinal + 1}: {fault}" for fault in _faults(row)]
            problems += faults
            if not faults:
                lines.append(_line(row))
    if (size := sum(map(len, lines))) > MAX_BYTES:
        problems.append(f"{path} must make a file of at most {MAX_BYTES} bytes, got {size}: use fewer samples")
    return lines


def _row(reader: SampleReader, ordinal: int) -> Any:
    try:
        return reader.row(ordinal)
    except msgspec.DecodeError:
        return None


def _faults(row: Any) -> Iterator[str]:
    """Yield what the API would refuse about a row."""
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        columns = ", ".join(map(one_line, row)) if isinstance(row, dict) and row else "nothing"
        yield f"it must have messages, got {one_line(columns)}: {_REMEDY}"
        return
    for number, message in enumerate(messages, start=1):
        yield from _message_faults(message, f"message {number}")
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") in ("system", "user"):
        yield f"the last message must be the assistant's, got the {last['role']}'s: end it with the turn to teach"


def _message_faults(message: Any, where: str) -> Iterator[str]:
    found = message if isinstance(message, dict) else {}
    role, content = found.get("role"), found.get("content")
    if role not in _ROLES:
        yield f"{where} must have the role {', '.join(_ROLES[:-1])} or {_ROLES[-1]}, got {_shown(role)}: {_REMEDY}"
    if not isinstance(content, str):
        yield f"{where} must have text as content, got {type(content).__name__}: {_REMEDY}"
    elif role == "assistant" and not content.strip():
        yield f"{where} must say something, because it is taught, got an empty turn: drop the row"


def _shown(value: Any) -> str:
    return repr(one_line(value, 40)) if isinstance(value, str) else type(value).__name__


def _line(row: dict[str, Any]) -> bytes:
    return encoded({"messages": [{"role": one["role"], "content": one["content"]} for one in row["messages"]]})


def _written(lines: list[bytes], directory: Path) -> RowsFile:
    data = b"".join(lines)
    name = f"sandplay-{hashlib.sha256(data).hexdigest()[:16]}.jsonl"
    write_atomic(directory / name, data)
    return RowsFile(name, len(lines), len(data))
