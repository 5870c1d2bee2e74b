"""Principles: how the simulated patient should talk, in groups by the expert who wrote them.

Loading yields at least `MIN_GROUPS` non-empty groups or one `CaseError` with every fault. Knows nothing of how groups
are ranked against a case's coping strategies.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from engine.cases.errors import CaseError
from engine.cases.schema import is_clean_text, show
from engine.cases.sources import Malformed, bundled_text, find_file, parse_json, read_text

MIN_GROUPS: Final = 5
WORDS: Final = ("bundled",)
SUFFIXES: Final = (".csv", ".json")
BUNDLED: Final = "bundled/principles.json"
CREATOR: Final = "CreatorID"
PRINCIPLE: Final = "Principles"


class PrincipleGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The principles of one expert, each one imperative sentence or paragraph."""

    id: str
    principles: tuple[str, ...]


def load_principles(source: str) -> list[PrincipleGroup]:
    """Load the principle groups of a source, in order of first appearance.

    `source` is "bundled", the path of a Roleplay-doh `.csv` file (columns `CreatorID` and `Principles`, others
    ignored), or the path of a `.json` file with an object of lists, group id to principles. The reference shows the
    judge five groups (MentalArena, principle matching), so fewer are refused. Raises `CaseError`.
    """
    problems: list[str] = []
    if source == "bundled":
        name, groups = source, _from_json(source, bundled_text(BUNDLED), problems)
    else:
        path = find_file(source, WORDS, SUFFIXES)
        read = _from_csv if path.suffix.lower() == ".csv" else _from_json
        name, groups = str(path), read(str(path), read_text(path), problems)
    if not problems and len(groups) < MIN_GROUPS:
        problems.append(f"{name}: must hold at least {MIN_GROUPS} groups for ranking, got {len(groups)}: add groups")
    if problems:
        raise CaseError(problems)
    return [PrincipleGroup(key, tuple(principles)) for key, principles in groups.items()]


def _from_csv(name: str, text: str, problems: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [column for column in (CREATOR, PRINCIPLE) if column not in (reader.fieldnames or ())]
        if missing:
            found = show(", ".join(map(str, reader.fieldnames or ())))
            problems.append(f"{name}: line 1: must have the columns {CREATOR} and {PRINCIPLE}, got {found}: add them")
            return groups
        for line, row in _rows(reader):
            _add_row(groups, row, f"{name}: line {line}", problems)
    except csv.Error as error:
        problems.append(f"{name}: line {reader.line_num}: must be CSV, got {error}: correct the quoting")
    return groups


def _rows(reader: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yield each row with the line it begins on (a quoted cell may span several)."""
    line = reader.line_num + 1
    for row in reader:
        yield line, row
        line = reader.line_num + 1


def _add_row(groups: dict[str, list[str]], row: dict[str, str | None], place: str, problems: list[str]) -> None:
    creator = (row[CREATOR] or "").strip()
    principle = (row[PRINCIPLE] or "").strip()
    for column, value in ((CREATOR, creator), (PRINCIPLE, principle)):
        if not value:
            problems.append(f"{place}: {column} must not be empty, got {show(row[column])}: fill it in")
    if creator and principle:
        groups.setdefault(creator, []).append(principle)


def _from_json(name: str, text: str, problems: list[str]) -> dict[str, list[str]]:
    try:
        decoded = parse_json(text)
    except Malformed as error:
        problems.append(
            f"{name}: line {error.line}, column {error.column}: must be JSON, got {error.reason}: correct the file"
        )
        return {}
    if not isinstance(decoded, dict):
        problems.append(f"{name}: must be an object of lists, got {show(decoded)}: write {{group id: [...]}}")
        return {}
    return {key: _principles(name, key, value, problems) for key, value in decoded.items()}


def _principles(name: str, key: str, value: Any, problems: list[str]) -> list[str]:
    place = f"{name}: group {show(key)}"
    if not isinstance(value, list) or not value:
        problems.append(f"{place}: must be a non-empty list of strings, got {show(value)}: write [...]")
        return []
    bad = [item for item in value if not (isinstance(item, str) and item.strip() and is_clean_text(item))]
    problems += [f"{place}: must hold non-empty strings only, got {show(item)}: correct or remove it" for item in bad]
    return [] if bad else value
