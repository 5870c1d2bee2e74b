"""Files for others to read, data and its card: both appear whole, or neither does.

They are written into a folder beside the target, made durable, and renamed. Knows nothing of what rows mean.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.errors import InputError
from engine.files import fsync_directory

DATA_FILE: Final = "train.jsonl"
CARD_FILE: Final = "README.md"


class Staged(msgspec.Struct, frozen=True):
    """Where data and card are to be written, and what they will be called."""

    data: Path
    card: Path
    final_data: Path
    final_card: Path


@contextmanager
def staged(to: Path) -> Iterator[Staged]:
    """Give two places to write to; leaving without an exception renames what is there.

    `to` becomes a directory with `train.jsonl` and `README.md`; a name ending in `.jsonl` becomes that file, its card
    beside it as `NAME.card.md`. Raises InputError when the target exists or cannot be written.
    """
    is_file = to.suffix == ".jsonl"
    data = to if is_file else to / DATA_FILE
    card = to.with_name(f"{to.name}.card.md") if is_file else to / CARD_FILE
    _refuse_taken([to, card] if is_file else [to])
    folder = to.parent / f".{to.name}.{os.getpid()}.tmp"
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        yield Staged(folder / data.name, folder / card.name, data, card)
        # The data last: whoever sees it finds its card.
        for path in (card, data) if is_file else ():
            os.rename(folder / path.name, path)
        if not is_file:
            os.rename(folder, to)
        fsync_directory(to.parent)
    except OSError as error:
        raise InputError(
            f"the corpus must be readable and the target writable, got {error}: correct the path"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_taken(targets: Iterable[Path]) -> None:
    for path in targets:
        if path.exists() or path.is_symlink():
            raise InputError(f"an export must go to a new path, got {path}, which exists: remove it or choose another")


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write lines durably, to a file that is private to its owner."""
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def encoded(row: Mapping[str, Any]) -> bytes:
    """Encode a row as a line of JSON; halves of surrogate pairs, which UTF-8 cannot hold, become U+FFFD."""
    try:
        return msgspec.json.encode(row) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_paired(row)) + b"\n"


def _paired(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_paired(key): _paired(item) for key, item in value.items()}
        case list():
            return [_paired(item) for item in value]
        case _:
            return value
