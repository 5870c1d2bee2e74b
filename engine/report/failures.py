"""Why episodes failed: all of them counted by kind, two drawn to be read."""

from collections import Counter
from itertools import islice
from typing import Final

import msgspec

from engine.corpus import Corpus
from engine.page.markup import NONE, Html, heading, joined, paragraph, table
from engine.page.plots import bars
from engine.record import EpisodeRecord
from engine.report.blocks import MAX_ROWS, plots
from engine.sampling import Reservoir
from engine.transcript import one_line

MAX_READ: Final = 20_000
"""Errors that are looked at: more of them say nothing new, and a run may have failed as a whole."""
NUM_SHOWN: Final = 2
MESSAGE_CHARS: Final = 300


class Failures(msgspec.Struct, kw_only=True):
    """Errors by kind, the first message of each, and the failed episodes that are shown; `num` were looked at."""

    num: int
    kinds: Counter[str]
    examples: dict[str, str]
    records: list[EpisodeRecord]


def read_failures(corpus: Corpus, seed: int = 0) -> Failures:
    """Read why episodes failed. Raises JournalError for a damaged part."""
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    drawn: Reservoir[tuple[int, int]] = Reservoir(NUM_SHOWN, seed)
    failed = (
        (journal, record)
        for journal in corpus.journals
        for record in corpus.iterate(columns=("error",), status="failed", journal=journal)
    )
    for journal, record in islice(failed, MAX_READ):
        kind = one_line(record.error.kind) if record.error is not None else "unknown"
        kinds[kind] += 1
        if kind not in examples:
            examples[kind] = one_line(record.error.message if record.error is not None else "", MESSAGE_CHARS)
        drawn.add((journal, record.seq))
    records = [next(iter(corpus.iterate(seq - 1, journal=journal))) for journal, seq in sorted(drawn.items)]
    return Failures(num=kinds.total(), kinds=kinds, examples=examples, records=records)


def of_failures(found: Failures, attempts: Counter[str], num_failed: int) -> Html:
    """Return failed episodes by kind, and attempts that failed."""
    if not found.num and not attempts:
        return NONE
    rows = [(kind, f"{num:,}", found.examples[kind]) for kind, num in found.kinds.most_common(MAX_ROWS)]
    heads = ("failed by", "episodes", "the first says")
    parts = [heading(2, "Failures"), table(heads, rows, numbers=heads[1:2]) if rows else NONE]
    if found.num < num_failed:
        parts.append(paragraph(f"The first {found.num:,} of {num_failed:,} failed episodes.", "dim"))
    tried = [(one_line(kind), num, f"{num:,}") for kind, num in attempts.most_common()]
    return joined([*parts, plots([bars("Attempts that failed, by kind", tried)])])
