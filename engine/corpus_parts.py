"""Sealed parts of a corpus: Parquet files that count only once their journal's manifest names them.

Invariant: a part's bytes are durable before the manifest that names it, and never change after. Everything else in the
folder is a left-over and may be removed by the journal's owner. Knows nothing of SQLite or threads.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.errors import JournalError
from engine.files import TMP_SUFFIX, append_durably, fsync_directory, write_atomic
from engine.record import EpisodeKey, EpisodeRecord, Status
from engine.rundir import RunDirectory
from engine.totals import Totals

VERSION: Final = 2
"""Of the manifests that are written here; those of older versions are read."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file. `first_seq` and `last_seq` are inclusive; `size` is in bytes; `sha256` is hexadecimal."""

    file: str
    rows: int
    size: int
    sha256: str
    first_seq: int
    last_seq: int
    totals: Totals


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one journal is sealed: all that its writer keeps, so that a long run needs no more than a short one.

    `last_seq` is the highest sealed seq, -1 when nothing is sealed; `totals` are sums over all parts.
    """

    journal: int = 0
    num_parts: int = 0
    last_seq: int = -1
    totals: Totals = Totals()

    @property
    def next_file(self) -> str:
        """The name of the part to come."""
        return f"{self.journal:03d}-{self.num_parts:05d}.parquet"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What of one journal is sealed, oldest part first. `version` is the schema's.

    In its file a line says version and journal, and each further one a part: naming a part appends a line, and a last
    line that is not whole names nothing.
    """

    version: int = VERSION
    journal: int = 0
    parts: tuple[Part, ...] = ()

    @property
    def last_seq(self) -> int:
        """The highest sealed seq, -1 when nothing is sealed."""
        return self.parts[-1].last_seq if self.parts else -1

    @property
    def totals(self) -> Totals:
        """Sums over all parts."""
        return sum((p.totals for p in self.parts), Totals())

    @property
    def extent(self) -> Extent:
        """What its writer needs of it."""
        return Extent(journal=self.journal, num_parts=len(self.parts), last_seq=self.last_seq, totals=self.totals)


class _Head(msgspec.Struct, frozen=True):
    """The first line of a manifest."""

    version: int
    journal: int


def read_manifest(rundir: RunDirectory, index: int) -> Manifest:
    """Return a journal's manifest, an empty one when nothing was sealed yet.

    Raises JournalError when it cannot be read, was written by a newer version, or names a part that is not whole.
    """
    path = rundir.manifest(index)
    try:
        try:
            manifest = decode_manifest(path.read_bytes(), str(path))
        except FileNotFoundError:
            manifest = _parse_first(path, index)
    except (OSError, msgspec.DecodeError) as error:
        raise _unreadable(error, str(path)) from error
    for part in manifest.parts:
        _require_whole(rundir.episodes / part.file, part)
    return manifest


def decode_manifest(data: bytes, place: str) -> Manifest:
    """Return the manifest that a file's bytes are. Raises JournalError naming where it lies."""
    lines = data.split(b"\n")[:-1]
    try:
        if not lines:
            raise msgspec.DecodeError("no first line")
        head = msgspec.json.decode(lines[0], type=_Head)
        if head.version > VERSION:  # its further lines may be anything
            raise _newer(head.version, place)
        parts = tuple(msgspec.json.decode(line, type=Part) for line in lines[1:])
    except msgspec.DecodeError as error:
        raise _unreadable(error, place) from error
    return Manifest(journal=head.journal, parts=parts)


def encode_manifest(journal: int, parts: Iterable[Part]) -> bytes:
    """Return the file of a manifest that names these parts."""
    return _head(journal) + b"".join(map(_line, parts))


def _unreadable(error: Exception, place: str) -> JournalError:
    return JournalError(f"a manifest must be readable JSON, got {error} in {place}: restore it from a copy")


def _newer(version: int, place: str) -> JournalError:
    return JournalError(
        f"the manifest's version must be at most {VERSION}, got {version} in {place}: use a newer Sandplay"
    )


def _parse_first(path: Path, index: int) -> Manifest:
    """Read the manifest of a run that began under version 1: one object in a file that was written anew each time."""
    first = path.with_suffix(".json")
    try:
        manifest = msgspec.json.decode(first.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest(journal=index)
    if manifest.version > VERSION:
        raise _newer(manifest.version, str(first))
    return manifest


def own_manifest(rundir: RunDirectory, index: int) -> Manifest:
    """Return a journal's manifest for its owner, who writes to it: of this version, and rid of left-overs.

    Raises as `read_manifest` does, and OSError.
    """
    manifest = read_manifest(rundir, index)
    path = rundir.manifest(index)
    if manifest.parts and (manifest.version < VERSION or not path.read_bytes().endswith(b"\n")):
        manifest = msgspec.structs.replace(manifest, version=VERSION)
        write_atomic(path, encode_manifest(index, manifest.parts))
    path.with_suffix(".json").unlink(missing_ok=True)
    remove_leftovers(rundir, manifest)
    return manifest


def _head(journal: int) -> bytes:
    return msgspec.json.encode(_Head(VERSION, journal)) + b"\n"


def _line(part: Part) -> bytes:
    return msgspec.json.encode(part) + b"\n"


def _require_whole(path: Path, part: Part) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise JournalError(f"every sealed part must be there, got {error}: restore it from a copy") from error
    if size != part.size:
        raise JournalError(f"a sealed part must have {part.size} bytes, got {size} in {path}: restore it from a copy")


def form_part(file: str, records: Sequence[EpisodeRecord]) -> tuple[Part, bytes]:
    """Return records (at least one, in order of seq) as a part of that name and its bytes; touches no file.

    Raises what `to_table` raises.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from engine.corpus_schema import to_table

    sink = pa.BufferOutputStream()
    pq.write_table(to_table(records), sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    part = Part(
        file=file,
        rows=len(records),
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        first_seq=records[0].seq,
        last_seq=records[-1].seq,
        totals=sum((Totals.of(r) for r in records), Totals()),
    )
    return part, data


def keep_part(rundir: RunDirectory, part: Part, data: bytes, before: Callable[[], None] = lambda: None) -> Part:
    """Make a part's bytes durable; it does not count yet. `before` may refuse at the last moment. Raises OSError."""
    write_atomic(rundir.episodes / part.file, data, before=before)
    return part


def name_part(rundir: RunDirectory, extent: Extent, part: Part) -> Extent:
    """Write one more part into the manifest; it counts from here on. Return how much is sealed now. Raises OSError."""
    path = rundir.manifest(extent.journal)
    if extent.num_parts:
        append_durably(path, _line(part))
    else:
        write_atomic(path, encode_manifest(extent.journal, (part,)))
    return Extent(
        journal=extent.journal,
        num_parts=extent.num_parts + 1,
        last_seq=part.last_seq,
        totals=extent.totals + part.totals,
    )


def remove_leftovers(rundir: RunDirectory, manifest: Manifest) -> list[str]:
    """Remove this journal's parts that the manifest does not name, and temporary files; return their names."""
    named = {p.file for p in manifest.parts}
    prefix = f"{manifest.journal:03d}"
    found = [
        p
        for p in rundir.episodes.iterdir()
        if (p.name.startswith(f"{prefix}-") and p.name not in named)
        or (p.name.startswith(f"{prefix}.manifest.json") and p.name.endswith(TMP_SUFFIX))
    ]
    for path in found:
        path.unlink()
    if found:
        fsync_directory(rundir.episodes)
    return sorted(p.name for p in found)


def sealed_keys(rundir: RunDirectory, manifest: Manifest) -> Iterator[tuple[EpisodeKey, Status]]:
    """Yield key and status of every sealed episode, in order of seq. Raises JournalError for a damaged part."""
    for part in manifest.parts:
        columns = _read(rundir, part, ["case_id", "repeat", "attempt", "status"]).to_pydict()
        for case, repeat, attempt, status in zip(*columns.values(), strict=True):
            yield EpisodeKey(case, repeat, attempt), status


def read_sealed(
    rundir: RunDirectory,
    manifest: Manifest,
    after_seq: int = -1,
    status: Status | None = None,
    columns: Iterable[str] | None = None,
) -> Iterator[EpisodeRecord]:
    """Yield sealed records with a higher seq, in order; at most one part is in memory.

    `columns` names fields of `EpisodeRecord`; those left out keep their defaults (key, seed, protocol, status and seq
    always come). Raises JournalError for a damaged part, ValueError for an unknown column.
    """
    import pyarrow.compute as pc

    from engine.corpus_schema import columns_of, from_table

    names = columns_of(columns)
    for part in manifest.parts:
        if part.last_seq <= after_seq or (status is not None and not getattr(part.totals, status)):
            continue
        table = _read(rundir, part, names)
        if part.first_seq <= after_seq:
            table = table.filter(pc.greater(table["seq"], after_seq))
        if status is not None:
            table = table.filter(pc.equal(table["status"], status))
        yield from from_table(table)


def read_rows(rundir: RunDirectory, part: Part, rows: Sequence[int]) -> Iterator[EpisodeRecord]:
    """Yield the records at these places of a part. Raises JournalError for a damaged part."""
    from engine.corpus_schema import columns_of, from_table

    yield from from_table(_read(rundir, part, columns_of(None)).take(list(rows)))


def _read(rundir: RunDirectory, part: Part, columns: list[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = rundir.episodes / part.file
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise JournalError(f"a sealed part must be readable, got {error} in {path}: restore it from a copy") from error


def damaged_parts(rundir: RunDirectory, manifest: Manifest) -> list[str]:
    """Return the names of parts whose bytes differ from the manifest's sha256."""
    return [
        part.file
        for part in manifest.parts
        if hashlib.sha256((rundir.episodes / part.file).read_bytes()).hexdigest() != part.sha256
    ]
