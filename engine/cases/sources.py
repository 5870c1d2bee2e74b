"""Text sources: reading files and JSON so that every fault names its file, line and column.

Knows nothing of cases or principles. All failures are `CaseError`.
"""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from engine.cases.errors import CaseError
from engine.cases.schema import nearest, show


class Malformed(Exception):
    """A text is not JSON. `line` and `column` are 1-based, within the text given."""

    def __init__(self, reason: str, line: int, column: int) -> None:
        self.reason = reason
        self.line = line
        self.column = column
        super().__init__(reason)


def bundled_text(name: str) -> str:
    """Return the text of a file that ships with the package, `name` relative to `engine/cases/`."""
    return resources.files("engine.cases").joinpath(name).read_text(encoding="utf-8")


def find_file(source: str, words: Sequence[str], suffixes: Sequence[str]) -> Path:
    """Return the file that `source` names.

    `words` are the sources that are no files, `suffixes` the accepted endings. Raises `CaseError` if there is no such
    file or its ending is another.
    """
    accepted = " or ".join([*map(repr, words), f"the path of a {', '.join(suffixes)} file"])
    path = Path(source)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        what = "a folder" if path.is_dir() else "no such file"
        hint = "" if path.suffix else f" (did you mean {nearest(source, words)!r}?)"
        raise CaseError(f"source must be {accepted}, got {show(source, 400)}, {what}: correct it{hint}")
    if path.suffix.lower() not in suffixes:
        raise CaseError(f"source must be {accepted}, got {show(source, 400)}: convert or rename it")
    return path


def read_text(path: Path) -> str:
    """Read a UTF-8 file, a byte order mark allowed. Raises `CaseError`."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise CaseError(
            f"{path}: line {line}, column {column}: must be UTF-8, got byte 0x{raw[error.start]:02x}: convert the file"
        ) from error


def parse_json(text: str) -> Any:
    """Decode one JSON text; a key given twice in one object is an error. Raises `Malformed`."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise Malformed(error.msg, error.lineno, error.colno) from error
    except (RecursionError, ValueError) as error:
        raise Malformed(str(error) or "nested too deeply", 1, 1) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {show(twice)} is given twice in one object")
    return found
