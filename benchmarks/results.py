"""Records on disk: one file per run of `sandplay bench`, written after every row, and when a run goes on with one.

The newest record is continued when it is of the same machine, versions, code and way of measuring (all of `machine`)
and lacks a row that is asked for; rows it has are then not measured again. Anything else begins a new record.
Invariant: a record file is whole at any time.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.figures import Figure, Record
from benchmarks.machine import describe_machine
from engine.errors import InputError
from engine.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("engine", "actors", "training", "eval", "benchmarks")
NAME_FORMAT = "%Y%m%d-%H%M%S"


def results_directory() -> Path:
    """Return where records are kept: the checkout's `benchmarks/results`, or the same under the current directory."""
    root = ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()
    return root / "benchmarks" / "results"


def hash_code() -> str:
    """Return a hash over all source files: figures of different code are not one record."""
    digest = hashlib.blake2b(digest_size=8)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def describe_run(repeats: int | None, *, is_brief: bool) -> dict[str, Any]:
    """Return machine, versions, code and way of measuring. `repeats` None is each row's own number."""
    way = {"repeats": "default" if repeats is None else repeats, "brief": is_brief}
    return {**describe_machine(), "code": hash_code(), **way}


def load_record(path: Path) -> Record:
    """Read a record. Raises InputError when it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path} must be a record of `sandplay bench`, got: {error}") from None


def save_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all. Raises InputError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    except OSError as error:
        raise InputError(f"a record must be writable, got {error}: choose another path") from None


def records(directory: Path) -> Iterator[tuple[Path, Record]]:
    """Yield records, newest first; files that are none are passed over."""
    for path in sorted(directory.glob("[0-9]*-[0-9]*.json"), reverse=True):
        try:
            yield path, load_record(path)
        except InputError:
            continue


def open_record(
    directory: Path, machine: dict[str, Any], wanted: Sequence[str], *, is_new: bool = False
) -> tuple[Path, Record]:
    """Return the record to go on with, or a fresh one (not yet written). See the module's rule."""
    for path, record in () if is_new else records(directory):
        if record.machine == machine and any(name not in record.rows for name in wanted):
            return path, record
        break
    now = time.gmtime()
    path = directory / f"{time.strftime(NAME_FORMAT, now)}.json"
    while path.exists():
        path = path.with_name(f"{path.stem}a.json")
    return path, Record(date=time.strftime("%Y-%m-%dT%H:%M:%SZ", now), machine=machine, rows={})


def with_row(record: Record, name: str, figures: Iterable[Figure]) -> Record:
    """Return the record with one row more."""
    return msgspec.structs.replace(record, rows={**record.rows, name: tuple(figures)})


def newest_rows(found: Iterable[tuple[Path, Record]]) -> dict[str, tuple[Path, tuple[Figure, ...]]]:
    """Return each row's newest figures and their record. `found` is newest first; brief records do not count."""
    rows: dict[str, tuple[Path, tuple[Figure, ...]]] = {}
    for path, record in found:
        if not record.machine.get("brief"):
            rows = {**{name: (path, figures) for name, figures in record.rows.items()}, **rows}
    return rows
