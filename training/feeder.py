"""The feeder: durable episodes of a run to samples in its log, as they end.

    journal -> episodes after the last seq -> samples -> filters -> duplicates -> sample log

Reads what is durable and nothing else, so that no sample can come of an episode that a crash takes back. One feeder per
log. Invariant: a log's last mark names, for each journal, the last episode whose samples stand before it; a feeder that
begins again goes on behind it, and what it read before is told from duplicates as if it had never stopped.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from engine.protocol import ProtocolSpec
from engine.record import EpisodeRecord
from training.convert import Converter
from training.formats import Row
from training.sample_log import Mark, SampleReader, SampleWriter
from training.samples import ANSWER_MAKERS, samples_of
from training.settings import SampleSettings

MAX_EPISODES: Final = 32
"""Episodes converted in one go, and appended as one batch: a sample waits for those beside it."""


class Tail(Protocol):
    """Where durable episodes come from, in order of seq; a `Journal` is one."""

    def episodes(self, after_seq: int = -1, limit: int = 100, *, is_whole: bool = True) -> list[EpisodeRecord]:
        """Return durable terminal episodes with a higher seq, in order of seq; steps may lack unless `is_whole`."""

    async def grown(self, after_seq: int) -> bool:
        """Return true once there is one, false once the source is closed."""


class Feeder:
    """Feeds one sample log from the journals of a run, given by name."""

    def __init__(
        self, tails: Mapping[str, Tail], spec: ProtocolSpec, writer: SampleWriter, settings: SampleSettings
    ) -> None:
        self._tails = tails
        self._spec = spec
        self._writer = writer
        self._settings = settings
        self._converter = Converter("messages", settings)
        # The three answers are made of the outcome alone.
        self._needs_steps = any(kind not in ANSWER_MAKERS for kind in settings.kinds)
        self._one_at_a_time = asyncio.Lock()
        self._is_over = asyncio.Event()

    async def run(self) -> None:
        """Feed until `finish` is called and everything durable by then is in the log, which is then closed.

        Raises JournalError when a journal fails.
        """
        is_finished = False
        try:
            await asyncio.to_thread(self._remember)
            async with asyncio.TaskGroup() as group:
                for name, tail in self._tails.items():
                    group.create_task(self._follow(name, tail), name=f"feed {name}")
            is_finished = True
        finally:
            self._writer.close(is_finished=is_finished)

    def finish(self) -> None:
        """Say that no episode will end any more; the journals must stay open until `run` has returned."""
        self._is_over.set()

    def _remember(self) -> None:
        """Take note of what the log holds already, for telling duplicates."""
        reader = SampleReader(self._writer.path)
        reader.refresh()
        mark = self._writer.mark
        self._converter.remember(reader.rows(), mark.kept, mark.dropped)
        reader.close()

    async def _follow(self, name: str, tail: Tail) -> None:
        last = self._writer.mark.seqs.get(name, -1)
        is_over = False
        while not is_over:
            await self._wait(tail, last)
            is_over = self._is_over.is_set()
            async with self._one_at_a_time:
                last = await asyncio.to_thread(self._feed, name, tail, last)

    async def _wait(self, tail: Tail, last: int) -> None:
        """Wait until more has ended, or nothing will."""
        grown = asyncio.ensure_future(tail.grown(last))
        over = asyncio.ensure_future(self._is_over.wait())
        done, waiting = await asyncio.wait((grown, over), return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        if grown in done:
            grown.result()

    def _feed(self, name: str, tail: Tail, last: int) -> int:
        """Convert what has ended since; return the last seq read."""
        while episodes := tail.episodes(last, MAX_EPISODES, is_whole=self._needs_steps):
            last = episodes[-1].seq
            rows = self._rows(episodes)
            tally = self._converter.tally
            seqs = {**self._writer.mark.seqs, name: last}
            self._writer.append(rows, Mark(seqs=seqs, kept=dict(tally.kept), dropped=dict(tally.dropped)))
        return last

    def _rows(self, episodes: Sequence[EpisodeRecord]) -> list[Row]:
        samples = (one for record in episodes for one in samples_of(record, self._spec, self._settings))
        return list(self._converter.rows(samples))
