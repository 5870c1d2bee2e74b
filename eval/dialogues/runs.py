"""A run of dialogues read for comparing: streamed, and brought to one row of figures per case.

Repeats of a case are averaged first, so that a case counts once however often it was played. Of several tries of an
episode the latest counts. Knows nothing of other runs.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from engine.corpus import Corpus, latest_tries
from engine.errors import InputError
from engine.protocol import ProtocolSpec
from engine.record import EpisodeKey, EpisodeRecord
from engine.rundir import RunDirectory
from engine.show import protocol_of
from eval.dialogues.disclosure import at_turn
from eval.dialogues.episode import Canonical, EpisodeFigures, measure_episode


class DialogueRun(msgspec.Struct, frozen=True, kw_only=True):
    """The finished dialogues of one run, and how many episodes failed."""

    name: str
    protocol: str
    episodes: tuple[EpisodeFigures, ...]
    num_failed: int = 0

    @property
    def digests(self) -> dict[str, str]:
        """What each case says, by its id."""
        return {one.key.case: one.digest for one in self.episodes}

    @property
    def turns(self) -> tuple[int, int]:
        """The fewest and the most turns that a patient has in a dialogue."""
        counts = [len(one.disclosure) for one in self.episodes]
        return min(counts), max(counts)


class CaseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One case: means over its repeats. A figure that none of them has is None, a field that none compared left out."""

    curve: tuple[float, ...]
    similarities: Mapping[str, float]
    label: float | None
    exchanges: float
    guided: float | None


class _Tried(msgspec.Struct, frozen=True, gc=False):
    """One try of an episode; `figures` is None when it did not complete."""

    key: EpisodeKey
    figures: EpisodeFigures | None


def read_run(directory: Path, canonical: Canonical) -> DialogueRun:
    """Return the dialogues of a run directory. Raises InputError when none is finished."""
    rundir = RunDirectory.open(directory)
    spec = protocol_of(rundir)
    tried = latest_tries(_tries(Corpus.open(rundir).iterate(), spec, canonical))
    episodes = tuple(one.figures for one in tried if one.figures is not None)
    if not episodes:
        advice = f"`sandplay resume {directory}` plays on"
        raise InputError(f"{directory}: must hold a finished dialogue of a case, got none: {advice}")
    return DialogueRun(
        name=directory.absolute().name, protocol=spec.name, episodes=episodes, num_failed=len(tried) - len(episodes)
    )


def _tries(records: Iterable[EpisodeRecord], spec: ProtocolSpec, canonical: Canonical) -> Iterator[_Tried]:
    for record in records:
        if record.status != "cancelled":
            yield _Tried(record.key, measure_episode(record, spec, canonical))


def by_case(run: DialogueRun) -> dict[str, CaseFigures]:
    """Return the figures of each case, in the order of their ids."""
    grouped: defaultdict[str, list[EpisodeFigures]] = defaultdict(list)
    for one in run.episodes:
        grouped[one.key.case].append(one)
    most = run.turns[1]
    return {case: _case(grouped[case], most) for case in sorted(grouped)}


def _case(repeats: Sequence[EpisodeFigures], num_turns: int) -> CaseFigures:
    fields = dict.fromkeys(field for one in repeats for field in one.similarities)
    return CaseFigures(
        curve=tuple(
            statistics.fmean(at_turn(one.disclosure, turn + 1) for one in repeats) for turn in range(num_turns)
        ),
        similarities={
            field: statistics.fmean(one.similarities[field] for one in repeats if field in one.similarities)
            for field in fields
        },
        label=mean_of(one.is_named for one in repeats),
        exchanges=statistics.fmean(one.num_exchanges for one in repeats),
        guided=mean_of(one.num_guided for one in repeats),
    )


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of those that are there, None when none is."""
    known = [float(value) for value in values if value is not None]
    return statistics.fmean(known) if known else None
