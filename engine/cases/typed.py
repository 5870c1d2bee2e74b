"""Cases of any protocol: records of the protocol's own type, one a line, in a `.jsonl` file.

Every fault names its file and line, all at once. Knows nothing of what a record means.
"""

from typing import Any, Final

import msgspec

from engine.cases.errors import CaseError
from engine.cases.schema import MAX_ID_CHARS, show
from engine.cases.sources import find_file, read_text

GIVEN: Final = "given"
"""The source of cases that a command made itself: the run keeps them, no file does."""


def load_typed(source: str, kind: type[Any], *, limit: int | None = None) -> list[Any]:
    """Load the records of a file, at most `limit`, in its order. A file is checked whole, even beyond `limit`.

    Raises CaseError with every line that is no `kind`, has no usable id, or repeats one.
    """
    path = find_file(source, (GIVEN,), (".jsonl",))
    decoder = msgspec.json.Decoder(kind)
    cases: list[Any] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    # Only newlines end a line: str.splitlines also breaks at characters that JSON strings may hold.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            case = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            problems.append(f"{path}: line {number}: must be a {kind.__name__}, got {error}: correct the line")
            continue
        problems += [f"{path}: line {number}: {fault}" for fault in _id_faults(case.id, seen)]
        seen.setdefault(case.id, number)
        cases.append(case)
    if not cases and not problems:
        problems.append(f"{path}: must hold at least one record, got none: add some")
    if problems:
        raise CaseError(problems)
    return cases[:limit]


def _id_faults(name: str, seen: dict[str, int]) -> list[str]:
    if not 1 <= len(name) <= MAX_ID_CHARS:
        return [f"id must have 1..{MAX_ID_CHARS} characters, got {show(name)}: change it"]
    if name in seen:
        return [f"id must be unique, got {show(name)}, that of line {seen[name]}: rename one"]
    return []
