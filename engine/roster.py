"""Which episodes a run plays, and how each that ended did: a byte per episode, set aside when the run begins.

Invariant: nothing here grows while a run is played, whatever its length, but for tries after the first. Pure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from engine.record import EpisodeKey, Status

_STATUSES: Final[tuple[Status, ...]] = ("completed", "failed", "cancelled")
_CODES: Final = {status: code for code, status in enumerate(_STATUSES, start=1)}


class Roster(Collection[EpisodeKey]):
    """The episodes of a run in playing order: every case once, then the next repeat, then `extra` tries."""

    def __init__(self, cases: Sequence[str] = (), repeats: int = 1, extra: Iterable[EpisodeKey] = ()) -> None:
        self._cases = cases
        self._places = {case: place for place, case in enumerate(cases)}
        self._repeats = repeats
        self._extra = dict.fromkeys(key for key in extra if self.place(key) is None)

    @property
    def num_first(self) -> int:
        """Episodes of the first try: cases times repeats."""
        return len(self._cases) * self._repeats

    def place(self, key: EpisodeKey) -> int | None:
        """Return an episode's place among those of the first try, None if it is not one of them."""
        place = self._places.get(key.case)
        if place is None or key.attempt or not 0 <= key.repeat < self._repeats:
            return None
        return key.repeat * len(self._cases) + place

    def at(self, place: int) -> EpisodeKey:
        """Return the episode of the first try at a place."""
        repeat, case = divmod(place, len(self._cases))
        return EpisodeKey(self._cases[case], repeat)

    def __len__(self) -> int:
        return self.num_first + len(self._extra)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, EpisodeKey) and (self.place(key) is not None or key in self._extra)

    def __iter__(self) -> Iterator[EpisodeKey]:
        for repeat in range(self._repeats):
            for case in self._cases:
                yield EpisodeKey(case, repeat)
        yield from self._extra


class Ledger(Mapping[EpisodeKey, Status]):
    """How each try that ended did. Those of the roster's first try take a byte each, from the start."""

    def __init__(self, roster: Roster | None = None) -> None:
        self._roster = roster or Roster()
        self._codes = bytearray(self._roster.num_first)
        self._others: dict[EpisodeKey, Status] = {}
        self._num_first = 0

    def put(self, key: EpisodeKey, status: Status) -> None:
        """Note how a try ended; the last word holds."""
        place = self._roster.place(key)
        if place is None:
            self._others[key] = status
            return
        self._num_first += not self._codes[place]
        self._codes[place] = _CODES[status]

    def __getitem__(self, key: EpisodeKey) -> Status:
        place = self._roster.place(key)
        if place is None:
            return self._others[key]
        if not (code := self._codes[place]):
            raise KeyError(key)
        return _STATUSES[code - 1]

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, EpisodeKey):
            return False
        place = self._roster.place(key)
        return key in self._others if place is None else bool(self._codes[place])

    def __len__(self) -> int:
        return self._num_first + len(self._others)

    def __iter__(self) -> Iterator[EpisodeKey]:
        yield from (self._roster.at(place) for place, code in enumerate(self._codes) if code)
        yield from self._others


def latest_tries(ended: Mapping[EpisodeKey, Status]) -> Iterator[tuple[EpisodeKey, Status]]:
    """Yield the latest ended try of each (case, repeat) with its status."""
    last: dict[tuple[str, int], int] = {}
    for key in ended:
        if key.attempt:
            place = (key.case, key.repeat)
            last[place] = max(key.attempt, last.get(place, 0))
    for key, status in ended.items():
        if key.attempt == last.get((key.case, key.repeat), key.attempt):
            yield key, status


def latest_counts(ended: Mapping[EpisodeKey, Status]) -> dict[str, int]:
    """Return how many (case, repeat) stand at each status."""
    counts: dict[str, int] = dict.fromkeys(_STATUSES, 0)
    for _, status in latest_tries(ended):
        counts[status] += 1
    return counts


def retry_keys(ended: Mapping[EpisodeKey, Status]) -> list[EpisodeKey]:
    """Return a new try of every episode whose latest try failed, sorted."""
    failed = sorted(key for key, status in latest_tries(ended) if status == "failed")
    return [EpisodeKey(key.case, key.repeat, key.attempt + 1) for key in failed]
