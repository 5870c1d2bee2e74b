"""The corpus of a run, for readers: finished episodes of all journals, streamed.

Invariant: never opens the database of a live driver; sees what is sealed, and, when no driver lives, also what ended
but was not sealed. A corpus is a snapshot of the moment it was opened. Knows nothing of samples or training.
"""

import bisect
import functools
import itertools
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from engine.corpus_parts import Manifest, damaged_parts, read_manifest, read_rows, read_sealed
from engine.errors import JournalError
from engine.journal_store import Store, journal_error
from engine.record import EpisodeKey, EpisodeRecord, Status
from engine.rundir import RunDirectory
from engine.totals import Totals

GROUP: Final = 50
"""Episodes sampled from one part: a part is read whole (about 256 episodes), whatever is drawn of it."""
_Piece = tuple[int, Callable[[Sequence[int]], Iterator[EpisodeRecord]]]


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

    def sample(self, size: int, seed: int = 0) -> Iterator[EpisodeRecord]:
        """Yield at most `size` episodes in order of journal and seq: all when there are no more, else a seeded sample.

        Drawn in groups of `GROUP` from parts spread evenly over the run, so that few parts are read; every episode is
        as likely as any other, but those of one part come together. Raises JournalError for a damaged part.
        """
        if len(self) <= size:
            yield from self.iterate()
            return
        draw = random.Random(seed)
        pieces: list[_Piece] = []
        for manifest, unsealed in self._sources.values():
            pieces += [(part.rows, functools.partial(read_rows, self.rundir, part)) for part in manifest.parts]
            pieces += [(len(unsealed), functools.partial(_picked, unsealed))] if unsealed else []
        quotas = _quotas([num_rows for num_rows, _ in pieces], size, draw)
        for (num_rows, read), quota in zip(pieces, quotas, strict=True):
            if quota:
                yield from read(sorted(draw.sample(range(num_rows), quota)))

    def damaged(self) -> list[str]:
        """Return the names of parts whose bytes are not those that were sealed; reads all of them."""
        return [name for manifest, _ in self._sources.values() for name in damaged_parts(self.rundir, manifest)]


def _quotas(sizes: Sequence[int], size: int, draw: random.Random) -> list[int]:
    """Return how many to draw of each piece: groups fall on equally spaced rows of all pieces laid end to end."""
    ends = list(itertools.accumulate(sizes))
    num_groups = -(-size // GROUP)
    start, pace = draw.random(), ends[-1] / num_groups
    places = [bisect.bisect_right(ends, (group + start) * pace) for group in range(num_groups)]
    quotas = [0] * len(sizes)
    for group, place in enumerate(places):
        share = (group + 1) * size // num_groups - group * size // num_groups
        quotas[place] = min(quotas[place] + share, sizes[place])
    return quotas


def _picked(records: Sequence[EpisodeRecord], rows: Sequence[int]) -> Iterator[EpisodeRecord]:
    return (records[row] for row in rows)


class Keyed(Protocol):
    """What stands for one try of an episode: its record, or what was made of it."""

    @property
    def key(self) -> EpisodeKey:
        """Which try."""


K = TypeVar("K", bound=Keyed)


def latest_tries(records: Iterable[K]) -> list[K]:
    """Return the latest try of each (case, repeat), sorted by key. Of the others none is kept."""
    latest: dict[tuple[str, int], K] = {}
    for record in records:
        place = (record.key.case, record.key.repeat)
        if place not in latest or latest[place].key < record.key:
            latest[place] = record
    return sorted(latest.values(), key=lambda record: record.key)


def _indices(rundir: RunDirectory) -> list[int]:
    names = [*rundir.episodes.glob("*.manifest.json*"), *rundir.journals.glob("*.db")]
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
        raise journal_error(path, error, rundir.path) from error
