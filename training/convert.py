"""Conversion: sources of episodes to rows, with a count and a reason for every sample that is not among them.

Streams: memory holds what tells duplicates apart, and nothing else. Knows no files to write to.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from engine.duplicates import EXACT, Seen
from engine.token_count import bytes_count
from training.filters import TokenCount, reason_to_drop
from training.formats import Row, row_maker, sample_of
from training.published import legacy_answers, legacy_messages, legacy_text
from training.samples import ANSWER_MAKERS, Sample
from training.settings import WARMUP, SampleSettings

LEGACY_MAKERS: Final = {"messages": legacy_messages, "text": legacy_text}


class Tally(msgspec.Struct):
    """What became of samples: rows per kind, and drops per reason."""

    kept: Counter[str] = msgspec.field(default_factory=Counter)
    dropped: Counter[str] = msgspec.field(default_factory=Counter)

    @property
    def num_rows(self) -> int:
        """Rows kept."""
        return self.kept.total()


class Converter:
    """Turns samples into rows of one format, dropping what filters and duplicates name. Raises InputError as
    `row_maker` does.
    """

    def __init__(self, format: str, settings: SampleSettings, count: TokenCount = bytes_count) -> None:
        self.tally = Tally()
        self._make = row_maker(format, settings)
        self._settings = settings
        self._count = count
        self._seen = Seen(settings.near)

    def chosen(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield the samples that are taught."""
        for sample in samples:
            reason = reason_to_drop(sample, self._settings, self._count) or self._seen.reason_to_drop(*compared(sample))
            if reason is None:
                self.tally.kept[sample.kind] += 1
                yield sample
            else:
                self.tally.dropped[reason] += 1

    def remember(self, rows: Iterable[Row], kept: Mapping[str, int], dropped: Mapping[str, int]) -> None:
        """Go on behind rows (messages or pairs) that were made before, and their counts."""
        for row in rows:
            self._seen.reason_to_drop(*compared(sample_of(row)))
        self.tally.kept.update(kept)
        self.tally.dropped.update(dropped)

    def rows(self, samples: Iterable[Sample]) -> Iterator[Row]:
        """Yield the rows of the samples that are taught."""
        return map(self._make, self.chosen(samples))


def compared(sample: Sample) -> tuple[str, str]:
    """Return (scope, text) by which duplicates are told: what is taught, within one question or one kind.

    That many people get the same diagnosis is no duplicate; that one profile gets it twice is.
    """
    if sample.kind in ANSWER_MAKERS or sample.kind == WARMUP:
        scope = "\0".join(message["content"] for message in sample.prompt)
        return f"{sample.kind}\0{scope}", sample.completion
    taught = [message["content"] for message in sample.messages if message["role"] == "assistant"]
    return sample.kind, "\n".join([*taught, sample.rejected])


def legacy_rows(records: Iterable[dict[str, str]], format: str, kinds: Iterable[str], tally: Tally) -> Iterator[Row]:
    """Yield the rows of the published conversion of six-field records; only its text form drops equal rows."""
    make: Callable[[str, str], Row] = LEGACY_MAKERS[format]
    wanted, seen = frozenset(kinds), Seen(EXACT)
    for fields in records:
        for kind, question, answer in legacy_answers(fields):
            if kind not in wanted:
                continue
            row = make(question, answer)
            if format == "text" and seen.reason_to_drop("", row["text"]):
                tally.dropped["duplicate"] += 1
                continue
            tally.kept[kind] += 1
            yield row
