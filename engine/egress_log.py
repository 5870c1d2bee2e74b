"""`egress.jsonl` in the directory of a run: where its texts were allowed to go, a line for each time that it changed.

A line is written before the first text is sent. It holds hosts and the names of models, never keys or texts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from engine.egress import Outlet, outlets
from engine.errors import JournalError
from engine.files import write_atomic
from engine.planning import Plan

FILE: Final = "egress.jsonl"


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` (Unix time) on texts went to these outlets, under that `privacy.egress`."""

    at: float
    egress: str
    outlets: tuple[Outlet, ...]


def note_egress(directory: Path, egress: str, found: Sequence[Outlet], at: float) -> None:
    """Note where texts go from now on, unless the last line says so already. Raises as `read_egress`, and OSError."""
    kept = read_egress(directory)
    new = Noted(at=at, egress=egress, outlets=tuple(found))
    if kept and msgspec.structs.replace(kept[-1], at=at) == new:
        return
    lines = b"".join(msgspec.json.encode(one) + b"\n" for one in [*kept, new])
    write_atomic(directory / FILE, lines)


def note_run(plan: Plan, directory: Path, at: float) -> None:
    """Note where the texts of a run go from now on; of several schedulers, their driver does. Raises as above."""
    note_egress(directory, plan.config.privacy.egress, outlets(plan.config, plan.spec), at)


def read_egress(directory: Path) -> list[Noted]:
    """Return what was noted, oldest first; nothing where no file is. Raises JournalError for a damaged file."""
    path = directory / FILE
    if not path.is_file():
        return []
    try:
        return [msgspec.json.decode(line, type=Noted) for line in path.read_bytes().splitlines()]
    except msgspec.DecodeError as damaged:
        raise JournalError(f"{path} is damaged ({damaged}): restore it") from None
