"""Item files: the records of a JSONL or CSV file, a folder of them or a Hugging Face data set, each with its place.

Invariant: every record has the 1-based line on which it begins, and every fault of a source is reported at once, with
file and line. Knows nothing of tasks: a record is a mapping from keys to values.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from engine.errors import InputError

Columns: TypeAlias = Callable[[Sequence[str]], Sequence[str] | None]
"""Given the first row of a CSV file, the names of its columns where that row is a record already; None where it names
them itself."""

SUFFIXES: Final = (".jsonl", ".csv")
MAX_FIELD_CHARS: Final = 10_000_000
"""Characters that one CSV field may have; the module's own limit is too small for long posts."""
_NAME: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)?(?::[\w.-]+)?")
_MAX_SHOWN: Final = 80


class Record(NamedTuple):
    """A decoded record, the file it is from and the 1-based line on which it begins."""

    file: str
    line: int
    values: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Where the record stands, for messages."""
        return f"{self.file}: line {self.line}"


def read_records(source: str | Path, *, split: str = "test", columns: Columns = lambda first: None) -> list[Record]:
    """Read a file, the files of a folder in order of name, or a split of a data set (`NAME` or `NAME:CONFIGURATION`).

    A folder without such files is read as a local data set. `columns` tells CSV files that begin with a record; by
    default the first row names the columns. Raises InputError with every fault found.
    """
    path = Path(source)
    problems: list[str] = []
    if path.is_file():
        records = list(_read_file(path, columns, problems))
    elif path.is_dir() and (paths := sorted(one for one in path.iterdir() if one.suffix.lower() in SUFFIXES)):
        records = [record for one in paths for record in _read_file(one, columns, problems)]
    elif path.is_dir() or (path.suffix.lower() not in SUFFIXES and _NAME.fullmatch(str(source))):
        records = _read_data_set(str(source), split)
    else:
        wanted = f"a {' or '.join(SUFFIXES)} file, a folder or a data set name"
        raise InputError(f"source must be {wanted}, got {shown(str(source))}, which is not there: correct the path")
    if problems:
        raise InputError(problems)
    if not records:
        raise InputError(f"{source}: must hold at least one record, got none: give the file that has the items")
    return records


def shown(value: object) -> str:
    """Render a value of unknown origin for a message: one printable line."""
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def _read_file(path: Path, columns: Columns, problems: list[str]) -> Iterator[Record]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        problems.append(f"{path}: must be readable, got {error.strerror}: check its permissions")
        return
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.append(f"{path}: line {line}: must be UTF-8, got byte 0x{error.object[error.start]:02x}: convert it")
        return
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        problems.append(f"{path}: must end in {' or '.join(SUFFIXES)}, got {path.suffix!r}: convert or rename the file")
        return
    yield from _jsonl(str(path), text, problems) if suffix == ".jsonl" else _csv(str(path), text, columns, problems)


def _jsonl(file: str, text: str, problems: list[str]) -> Iterator[Record]:
    # Only newlines end a JSONL line: str.splitlines also breaks at characters that JSON strings may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            problems.append(f"{file}: line {number}: must be a JSON object, got {reason}: correct the line")
            continue
        if isinstance(values, dict):
            yield Record(file, number, values)
        else:
            problems.append(f"{file}: line {number}: must be a JSON object, got {shown(values)}: correct the line")


def _csv(file: str, text: str, columns: Columns, problems: list[str]) -> Iterator[Record]:
    limit = csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        yield from list(_csv_rows(file, text, columns, problems))
    finally:
        csv.field_size_limit(limit)


def _csv_rows(file: str, text: str, columns: Columns, problems: list[str]) -> Iterator[Record]:
    """Yield the rows; a quoted field may run over lines, so a row's line is the one after the last row's end."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    heads: Sequence[str] | None = None
    wanted = ""
    begun = 1
    try:
        for row in rows:
            if not row:
                pass
            elif heads is None and (heads := columns(row)) is None:
                heads = [name.strip() for name in row]
                wanted = f"{len(heads)} fields as in the first line"
                problems += [f"{file}: line {begun}: {problem}" for problem in _named_twice(heads)]
            elif len(row) == len(heads):
                yield Record(file, begun, dict(zip(heads, row, strict=True)))
            else:
                what = wanted or f"{len(heads)} fields ({', '.join(heads)})"
                problems.append(
                    f"{file}: line {begun}: must have {what}, got {len(row)}: correct its quotes and commas"
                )
            begun = rows.line_num + 1
    except csv.Error as error:
        problems.append(f"{file}: line {begun}: must be a CSV row, got {error}: correct its quotes")


def _named_twice(heads: Sequence[str]) -> list[str]:
    """Return a sentence for each column that is named more than once."""
    return [
        f"must name each column once, got {shown(name)} {number} times: rename or remove one"
        for name, number in Counter(filter(None, heads)).items()
        if number > 1
    ]


def _read_data_set(source: str, split: str) -> list[Record]:
    """Read a split record by record, so that nothing is written to a cache."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(f"{source}: datasets must be installed to read it, got none: pip install datasets") from error
    path, _, configuration = (source, "", "") if Path(source).is_dir() else source.partition(":")
    try:
        rows: Iterable[Mapping[str, Any]] = load_dataset(path, configuration or None, split=split, streaming=True)
        return [Record(source, number, dict(row)) for number, row in enumerate(rows, 1)]
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        what = f"a file, or a data set that can be loaded with split {split!r}"
        raise InputError(f"{source}: must be {what}, got {reason}: correct the name or the split") from error
