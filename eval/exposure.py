"""Exposure: which items of an exam a training corpus has shown before they were asked.

A corpus is files of rows (JSONL of any form: every text of a row counts, the row as one), what `sandplay samples` made,
runs, or a run of rounds; of an episode its case and every reply count. Invariant: nothing is kept of the corpus but
what overlaps, so it may be of any size. Knows nothing of models or scores.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.corpus import Corpus
from engine.errors import InputError
from engine.record import EpisodeRecord
from engine.rundir import RunDirectory
from engine.staging import DATA_FILE
from eval.items import Item
from eval.overlap import ItemOverlap, OverlapCheck
from eval.tasks import find_task

MAX_NAMED: Final = 3


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of an exam's items in the corpora `paths`, of `num_texts` in all.

    `found` are the items that occur; `unchecked` the ids of those with too few words to be looked for.
    """

    paths: tuple[str, ...]
    num_texts: int
    num_items: int
    found: tuple[ItemOverlap, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """How many items overlap, the first few named with what they stand in."""
        said = (
            f"{len(self.found)} of {self.num_items - len(self.unchecked)} exam items stand in {', '.join(self.paths)}"
        )
        if self.found:
            said += f", so that a good score may be memory: {_named(self.found)}"
        return said + (f"; {len(self.unchecked)} more have too few words to tell" if self.unchecked else "")


def find_exposure(items: Sequence[Item], paths: Sequence[Path]) -> Exposure:
    """Return what stands of the items in corpora. Raises InputError as `sources_in` does, and for every bad line."""
    check = OverlapCheck((item.id, words_of(item)) for item in items)
    problems: list[str] = []
    for name, path in sources_in(paths):
        for source, text in _texts(name, path, problems):
            check.read(source, text)
    result = check.result()
    if not problems and not result.num_texts:
        problems.append(f"a corpus must hold at least one text, got none in {', '.join(map(str, paths))}: name another")
    if problems:
        raise InputError(problems)
    checked = {one.id for one in result.items}
    return Exposure(
        paths=tuple(map(str, paths)),
        num_texts=result.num_texts,
        num_items=len(items),
        found=result.overlapping,
        unchecked=tuple(item.id for item in items if item.id not in checked),
    )


def sources_in(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return (name, path) of each file and run that corpora are made of. Raises InputError with all that are none."""
    problems: list[str] = []
    found: list[tuple[str, Path]] = []
    for path in paths:
        if path.is_file() or (path / DATA_FILE).is_file():
            file = path if path.is_file() else path / DATA_FILE
            found.append((str(file), file))
            continue
        runs = _runs(path)
        found += runs
        if not runs:
            what = "which holds neither" if path.is_dir() else "which is not there"
            rule = "a corpus must be a file of rows (JSONL), what `sandplay samples` made, a run or a run of rounds"
            problems.append(f"{rule}, got {path}, {what}: check the path")
    if problems:
        raise InputError(problems)
    return found


def _runs(path: Path) -> list[tuple[str, Path]]:
    from eval.quality.command import runs_in

    try:
        return runs_in([path])
    except InputError:
        return []


def _texts(name: str, path: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (source, text) of one file or run; bad lines are added to the problems."""
    if path.is_file():
        yield from _row_texts(path, problems)
        return
    for record in Corpus.open(RunDirectory.open(path)):
        for text in _episode_texts(record):
            yield f"{name}/{record.episode}", text


def _row_texts(path: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                row = msgspec.json.decode(line)
                yield place, "\n".join(texts_in(row))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                problems.append(f"{place}: must be one JSON value, got {error}: correct the line")


def _episode_texts(record: EpisodeRecord) -> Iterator[str]:
    if record.case:
        yield from texts_in(msgspec.json.decode(record.case))
    for step in record.steps:
        if step.reply is not None:
            yield step.reply.text


def overlap_warning(items: Iterable[Item], texts: Iterable[tuple[str, str]], where: str) -> str:
    """Return a sentence on items whose words stand in texts, (source, text) each; "" when none do."""
    check = OverlapCheck((item.id, words_of(item)) for item in items)
    for source, text in texts:
        check.read(source, text)
    found = check.result().overlapping
    if not found:
        return ""
    return f"{len(found)} exam items stand in {where}, so that a good score may be memory: {_named(found)}"


def _named(found: Sequence[ItemOverlap]) -> str:
    named = ", ".join(f"{one.id} ({one.longest} words in {one.sources[0]})" for one in found[:MAX_NAMED])
    return named + (", ..." if len(found) > MAX_NAMED else "")


def words_of(item: Item) -> str:
    """Return what is an item's own: classes, and the question about a quoted post, are those of its whole set."""
    if find_task(item.task).classes:
        return item.context or item.question
    return " ".join([item.context, item.question, *(option.text for option in item.options)])


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in plain data, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner)
