"""Data sets of the Hugging Face hub as sources of cases and principles: `hf:ORG/NAME` or `hf:ORG/NAME:FILE`.

Knows names and what was found for them, not how they are fetched.
"""

import re
from pathlib import Path
from typing import Final

import msgspec

from engine.cases.errors import CaseError
from engine.cases.schema import show

PREFIX: Final = "hf:"
_ID: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)


class DatasetName(msgspec.Struct, frozen=True):
    """One file of a data set; `file` is its path there, "" for the only one that fits."""

    id: str
    file: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}" + (f":{self.file}" if self.file else "")


class Dataset(msgspec.Struct, frozen=True):
    """Where a data set's file lies here, and which commit of the data set it is."""

    path: Path
    commit: str


def is_dataset(source: str) -> bool:
    """Whether a source names a data set of the hub; any other one is a word or a file."""
    return source.startswith(PREFIX)


def parse_dataset(source: str) -> DatasetName:
    """Return what a source of the hub names. Raises CaseError."""
    id_, colon, file = source.removeprefix(PREFIX).partition(":")
    parts = file.split("/")
    if not _ID.fullmatch(id_) or (colon and not all(part and part not in (".", "..") for part in parts)):
        raise CaseError(
            f"a data set must be {PREFIX}ORG/NAME or {PREFIX}ORG/NAME:FILE, got {show(source, 200)}: such as"
            f" {PREFIX}org/cases:data/train.parquet"
        )
    return DatasetName(id_, file)
