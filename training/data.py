"""From what somebody has to a sample log that is whole: a run directory, six-field records, cases, or chats in JSONL.

Chats are lines with `messages`; they are taught as they are. All else is converted and filtered as for
`sandplay samples`.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from engine.errors import InputError
from engine.transcript import ChatMessage
from training.convert import LEGACY_MAKERS, Converter, Tally, legacy_rows
from training.filters import TokenCount
from training.formats import Row
from training.sample_log import Mark, SampleReader, SampleWriter
from training.settings import SampleSettings
from training.sources import check_sources, read_samples, read_six_fields

CHAT: Final = "chat"
"""The kind of a row that names none."""

_AT_ONCE: Final = 1000


class _Chat(msgspec.Struct):
    messages: list[ChatMessage]
    kind: str = CHAT


def write_log(source: Path, path: Path, settings: SampleSettings, count: TokenCount) -> Mark:
    """Write all samples of a source to a new, closed log, whole or not at all; return its last mark.

    `count` counts the tokens of a text. Raises InputError with every bad line, or when no row is left.
    """
    rows, tally = _rows(source, settings, count)
    beside = path.with_name(f".{path.name}.tmp")
    beside.unlink(missing_ok=True)
    writer = SampleWriter.open(beside)
    try:
        waiting = iter(rows)
        while batch := list(itertools.islice(waiting, _AT_ONCE)):
            writer.append(batch, Mark(kept=dict(tally.kept), dropped=dict(tally.dropped)))
        if not tally.num_rows:
            raise InputError(_nothing(source, tally))
        writer.append((), Mark(kept=dict(tally.kept), dropped=dict(tally.dropped)))
        writer.close(is_finished=True)
        os.rename(beside, path)
    finally:
        writer.close(is_finished=False)
        beside.unlink(missing_ok=True)
    return writer.mark


def read_mark(path: Path) -> Mark:
    """Return the last mark of a log."""
    reader = SampleReader(path)
    try:
        return reader.refresh()
    finally:
        reader.close()


def _rows(source: Path, settings: SampleSettings, count: TokenCount) -> tuple[Iterable[Row], Tally]:
    if _holds_chats(source):
        if problems := [problem for _, problem, _ in _chats(source) if problem]:
            raise InputError(problems)
        tally = Tally()
        return _counted(source, tally), tally
    check_sources([source], settings)
    if settings.legacy:
        tally = Tally()
        return legacy_rows(read_six_fields(source), next(iter(LEGACY_MAKERS)), settings.kinds, tally), tally
    converter = Converter("messages", settings, count)
    return converter.rows(read_samples(source, settings)), converter.tally


def _holds_chats(source: Path) -> bool:
    """Whether the first line of a file is a chat."""
    if source.is_dir():
        return False
    with source.open("rb") as file:
        try:
            first = msgspec.json.decode(file.readline() or b"null")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
    return isinstance(first, dict) and "messages" in first


def _counted(source: Path, tally: Tally) -> Iterator[Row]:
    for kind, _, row in _chats(source):
        tally.kept[kind] += 1
        yield row


def _chats(source: Path) -> Iterator[tuple[str, str, Row]]:
    """Yield (kind, what is wrong with it, the row) of each line that is not empty."""
    with source.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line, type=Row)
                chat = msgspec.convert(row, _Chat)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                yield "", f"{source}:{number}: must be a chat like the first line, got {error}: correct the line", {}
            else:
                yield chat.kind, "", row


def _nothing(source: Path, tally: Tally) -> str:
    dropped = ", ".join(f"{number} {reason}" for reason, number in tally.dropped.items())
    return f"{source} must give at least one row, got none{f' ({dropped} dropped)' if dropped else ''}: use other kinds"
