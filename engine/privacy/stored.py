"""Stored text looked through: what a run was given and what its models wrote, or a file of rows. Only read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.corpus import Corpus
from engine.errors import InputError
from engine.privacy.finding import Detector
from engine.privacy.screening import Finding, look_through
from engine.rundir import RunDirectory

LINES: Final = (".jsonl", ".ndjson")
OBJECT: Final = ".json"
PARQUET: Final = ".parquet"


def kept_in(directory: Path) -> list[Path]:
    """Return each directory of a run in this one, itself among them: of rounds, of their exams, of arms.

    What holds inputs alone, as a run of rounds does, counts. Raises InputError when there is none.
    """
    places = [directory, *directory.glob("*"), *directory.glob("*/*")]
    found = [place for place in places if _is_run(place) or (place / "inputs").is_dir()]
    if not found:
        what = "holds none" if directory.is_dir() else "is no directory"
        raise InputError(f"must be a run, hold runs, or be a file, got {directory}, which {what}: check the path")
    return sorted(found, key=lambda place: (len(place.parts), len(place.name), place))


def _is_run(place: Path) -> bool:
    return (place / "journals").is_dir() and (place / "episodes").is_dir()


def scan_run(directory: Path, detect: Detector) -> Iterator[Finding]:
    """Yield what is found in the inputs of a run and in the replies of its finished episodes.

    Prompts are made of these and not looked at again. Raises JournalError when something kept is damaged.
    """
    rundir = RunDirectory(directory)
    for path in sorted(rundir.inputs.iterdir()) if rundir.inputs.is_dir() else ():
        if path.suffix in (*LINES, OBJECT):
            yield from scan_file(path, detect, f"inputs/{path.name}")
    if not _is_run(directory):
        return
    for number, record in enumerate(Corpus.open(rundir), 1):
        said = {step.path: step.reply.text for step in record.steps if step.reply is not None}
        yield from look_through(said, f"episode {record.key}", detect, number)


def scan_file(path: Path, detect: Detector, name: str = "") -> Iterator[Finding]:
    """Yield what is found in a file: rows of JSON or Parquet, one JSON value, else lines of text.

    Raises InputError for one that cannot be read.
    """
    name = name or path.name
    try:
        for number, value in _values(path):
            yield from look_through(value, f"{name}:{number}", detect, number)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} must be a readable file of text in UTF-8, got {error}: correct the path") from None


def _values(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the values of a file, each with its line or row."""
    suffix = path.suffix.lower()
    if suffix == PARQUET:
        yield from _rows(path)
    elif suffix == OBJECT:
        yield 1, _decoded(path, 1, path.read_bytes())
    else:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _decoded(path, number, line) if suffix in LINES else line.decode()


def _decoded(path: Path, number: int, data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{path}:{number}: must be a JSON value, got {error}: correct the line") from None


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} must be a Parquet file, got an unreadable one ({error}): write it again") from None
