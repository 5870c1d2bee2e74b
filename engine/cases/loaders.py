"""Loading cases from the bundled set, the sampler, or a file.

Whatever the source, the result is a non-empty list of valid cases with unique ids, or one `CaseError` that lists every
fault found. Knows files and positions; what makes a record a case is `schema`'s business.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine.cases.errors import CaseError
from engine.cases.sampler import sample_cases
from engine.cases.schema import KNOWN_KEYS, Case, case_from_record, nearest, show
from engine.cases.sources import Malformed, bundled_text, find_file, parse_json, read_text

WORDS: Final = ("bundled", "sampled")
SUFFIXES: Final = (".json", ".jsonl", ".parquet")
BUNDLED: Final = "bundled/cases.json"


class _Placed(NamedTuple):
    """A decoded record and where it stands."""

    place: str
    record: Any


def load_cases(
    source: str, *, seed: int, limit: int | None = None, columns: Mapping[str, str] | None = None
) -> list[Case]:
    """Load the cases of a source, at most `limit`, in source order.

    `source` is "bundled", "sampled" (`limit` cases drawn with `seed`), or the path of a `.json` file (an array of
    records with the Patient-Psi keys), a `.jsonl` or a `.parquet` file of such records. A file is checked whole, even
    beyond `limit`. `columns` maps fields to the columns that hold them; other columns are then left out. Raises
    `CaseError`.
    """
    if limit is not None and limit < 1:
        raise CaseError(f"limit must be >= 1, got {limit}: set how many cases to load")
    if source == "sampled":
        if limit is None:
            raise CaseError("source 'sampled' must come with a limit, got none: set how many cases to sample")
        return sample_cases(limit, seed)
    problems: list[str] = []
    name, placed = _open(source, problems)
    if columns:
        problems += _column_faults(columns)
        placed = [_Placed(place, _renamed(record, columns)) for place, record in placed]
    cases = _read(name, placed, problems)
    if problems:
        raise CaseError(problems)
    if not cases:
        raise CaseError(f"{name}: must hold at least one case, got none: add records")
    return cases[:limit]


def _open(source: str, problems: list[str]) -> tuple[str, list[_Placed]]:
    if source == "bundled":
        return source, _from_json(source, bundled_text(BUNDLED), problems)
    path = find_file(source, WORDS, SUFFIXES)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return str(path), _from_parquet(path)
    read = _from_json if suffix == ".json" else _from_jsonl
    return str(path), read(str(path), read_text(path), problems)


def _from_json(name: str, text: str, problems: list[str]) -> list[_Placed]:
    try:
        decoded = parse_json(text)
    except Malformed as error:
        problems.append(
            f"{name}: line {error.line}, column {error.column}: must be JSON, got {error.reason}: correct the file"
        )
        return []
    if not isinstance(decoded, list):
        problems.append(f"{name}: must be a JSON array of records, got {show(decoded)}: wrap the records in [...]")
        return []
    return [_Placed(f"record {index}", record) for index, record in enumerate(decoded)]


def _from_jsonl(name: str, text: str, problems: list[str]) -> list[_Placed]:
    placed: list[_Placed] = []
    # Only newlines end a JSONL line: str.splitlines also breaks at characters that JSON strings may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            placed.append(_Placed(f"line {number}", parse_json(line)))
        except Malformed as error:
            problems.append(
                f"{name}: line {number}, column {error.column}: must be JSON, got {error.reason}: correct the line"
            )
    return placed


def _from_parquet(path: Path) -> list[_Placed]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CaseError(f"{path}: pyarrow must be installed to read Parquet, got none: pip install pyarrow") from error
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise CaseError(f"{path}: must be a Parquet file, got an unreadable one ({reason}): write it again") from error
    return [_Placed(f"record {index}", record) for index, record in enumerate(table.to_pylist())]


def _column_faults(columns: Mapping[str, str]) -> list[str]:
    return [
        f"columns.{name} must be a field of a case, got column {show(column)} for it: did you mean"
        f" {nearest(name, KNOWN_KEYS)!r}?"
        for name, column in columns.items()
        if name not in KNOWN_KEYS
    ]


def _renamed(record: Any, columns: Mapping[str, str]) -> Any:
    """Return the fields of a record: those whose columns are named, and those that have their own names."""
    if not isinstance(record, dict):
        return record
    named = {field: record[column] for field, column in columns.items() if column in record}
    return {key: value for key, value in record.items() if key in KNOWN_KEYS and key not in columns} | named


def _read(name: str, placed: list[_Placed], problems: list[str]) -> list[Case]:
    cases: list[Case] = []
    seen: dict[str, str] = {}
    for place, record in placed:
        label = f"{place}{_id_label(record)}"
        faults: list[str] = []
        case = case_from_record(record, faults.append)
        problems += [f"{name}: {label}: {fault}" for fault in faults]
        for key in _ids(record):
            if key in seen:
                problems.append(f"{name}: {label}: id must be unique, got that of {seen[key]}: rename one")
            seen.setdefault(key, place)
        if case is not None:
            cases.append(case)
    return cases


def _ids(record: Any) -> Iterator[str]:
    """Yield the record's id if it has one, valid or not: duplicates are found among faulty records too."""
    if isinstance(record, dict) and isinstance(record.get("id"), str) and record["id"]:
        yield record["id"]


def _id_label(record: Any) -> str:
    return "".join(f" (id {show(key)})" for key in _ids(record))
