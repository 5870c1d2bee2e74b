"""The corpus of a run, for readers: finished episodes of all journals, streamed.

Invariant: never opens the database of a live driver; sees what is sealed, and, when no driver lives, also what ended
but was not sealed. A corpus is a snapshot of the moment it was opened. Knows nothing of samples or training.
"""

import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

from engine.corpus_parts import Manifest, damaged_parts, read_manifest, read_sealed
from engine.errors import JournalError
from engine.journal_store import Store, journal_error
from engine.record import EpisodeRecord, Status
from engine.rundir import RunDirectory
from engine.totals import Totals


class Corpus:
    """Finished episodes of one run; `open` is the way to get one."""

    def __init__(self, rundir: RunDirectory, sources: dict[int, tuple[Manifest, tuple[EpisodeRecord, ...]]]) -> None:
        self.rundir = rundir
        self._sources = sources

    @classmethod
    def open(cls, rundir: RunDirectory) -> "Corpus":
        """Take a snapshot of a run's finished episodes. Raises JournalError when something kept is damaged."""
        with rundir.read_lock() as is_free:
            sources = {}
            for index in _indices(rundir):
                manifest = read_manifest(rundir, index)
                sources[index] = (manifest, _unsealed(rundir, manifest) if is_free else ())
        return cls(rundir, sources)

    def __iter__(self) -> Iterator[EpisodeRecord]:
        """Iterate over all episodes in order of `seq`."""
        return self.iterate()

    def __len__(self) -> int:
        return self.totals.episodes

    @property
    def journals(self) -> list[int]:
        """Indices of the journals, ascending."""
        return list(self._sources)

    @property
    def totals(self) -> Totals:
        """Sums over all episodes of the snapshot."""
        sums = Totals()
        for manifest, unsealed in self._sources.values():
            sums = sum((Totals.of(r) for r in unsealed), sums + manifest.totals)
        return sums

    def iterate(
        self,
        after_seq: int = -1,
        status: Status | None = None,
        columns: Iterable[str] | None = None,
        journal: int | None = None,
    ) -> Iterator[EpisodeRecord]:
        """Yield episodes, journal by journal, in order of seq; at most one part is in memory.

        `seq` counts per journal: give `journal` to tail one of several with its own `after_seq`. `columns` names the
        fields of `EpisodeRecord` to read (None: all); key, seed, protocol, status and seq always come, the others keep
        their defaults. Raises JournalError for a damaged part, ValueError for an unknown column.
        """
        wanted = None if columns is None else tuple(columns)
        for index, (manifest, unsealed) in self._sources.items():
            if journal not in (None, index):
                continue
            yield from read_sealed(self.rundir, manifest, after_seq, status, wanted)
            yield from (r for r in unsealed if r.seq > after_seq and status in (None, r.status))

    def damaged(self) -> list[str]:
        """Return the names of parts whose bytes are not those that were sealed; reads all of them."""
        return [name for manifest, _ in self._sources.values() for name in damaged_parts(self.rundir, manifest)]


def latest_tries(records: Iterable[EpisodeRecord]) -> list[EpisodeRecord]:
    """Return the latest try of each (case, repeat), sorted by key."""
    latest: dict[tuple[str, int], EpisodeRecord] = {}
    for record in records:
        place = (record.key.case, record.key.repeat)
        if place not in latest or latest[place].key < record.key:
            latest[place] = record
    return sorted(latest.values(), key=lambda record: record.key)


def _indices(rundir: RunDirectory) -> list[int]:
    names = [*rundir.episodes.glob("*.manifest.json"), *rundir.journals.glob("*.db")]
    return sorted({int(p.name.split(".")[0]) for p in names if p.name.split(".")[0].isdigit()})


def _unsealed(rundir: RunDirectory, manifest: Manifest) -> tuple[EpisodeRecord, ...]:
    path = rundir.journal(manifest.journal)
    if not path.exists():
        return ()
    try:
        store = Store(path, exclusive=True)
        try:
            return tuple(record for _, record in store.ended(manifest.last_seq))
        finally:
            store.close()
    except (sqlite3.Error, OSError, msgspec.MsgspecError, JournalError) as error:
        raise journal_error(path, error) from error
