"""Data sets of the hub that a configuration names, brought here before it is planned."""

from collections.abc import Mapping
from typing import Any, Final

from engine.cases import loaders, principles
from engine.cases.datasets import Dataset, is_dataset, parse_dataset
from engine.errors import InputError
from engine.tables import say

SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {"cases": loaders.SUFFIXES, "principles": principles.SUFFIXES}
"""Sections whose source may be a data set, and the files that they read."""


def dataset_sources(table: Mapping[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Return source and revision of each section that names a data set; what else is wrong is the plan's to say."""
    found = {}
    for section in SUFFIXES:
        inner = table.get(section)
        source = inner.get("source") if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and isinstance(source, str) and is_dataset(source):
            revision = inner.get("revision")
            found[section] = source, revision if isinstance(revision, str) else None
    return found


def bring_datasets(table: Mapping[str, Any], *, is_local_only: bool = False) -> dict[str, Dataset]:
    """Return where the data sets of a configuration lie, by section, downloaded if need be.

    Raises InputError with every problem found, for those not in the local cache too with `is_local_only`.
    """
    from actors.hub import commit_of, fetch_dataset

    found: dict[str, Dataset] = {}
    problems: list[str] = []
    for section, (source, revision) in dataset_sources(table).items():
        say(f"preparing {section}.source: {source}")
        try:
            path = fetch_dataset(parse_dataset(source), SUFFIXES[section], revision, is_local_only=is_local_only)
        except InputError as refused:
            problems += [f"{section}.source: {problem}" for problem in refused.problems]
        else:
            found[section] = Dataset(path, commit_of(path) or "")
    if problems:
        raise InputError(problems)
    return found
