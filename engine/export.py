"""Exports: a corpus as training data that `datasets.load_dataset` reads, with a card that says what it is.

An export is whole or absent: it is written beside its target and renamed. Episodes stream through, memory is constant.
Model text goes in with chat-template control tokens broken up. Knows nothing of how the corpus is kept.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from engine.config import is_operational, read_table
from engine.errors import InputError
from engine.export_card import CardFacts, ExportMeta, card, flat
from engine.protocol import ProtocolSpec
from engine.record import EpisodeRecord
from engine.rundir import RunDirectory
from engine.show import protocol_of
from engine.staging import encoded, staged, write_lines
from engine.transcript import ChatMessage, role_messages, seen_messages, turns
from engine.views import neutralize

Format = Literal["records", "messages", "prompt-completion", "sharegpt"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
OWN_SOURCES: Final = ("bundled", "sampled")
OWN_LICENSE: Final = "Apache-2.0 (shipped with Sandplay)"
_SHAREGPT: Final = {"system": "system", "user": "human", "assistant": "gpt"}

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Callable[[EpisodeRecord, ProtocolSpec], Iterable[Row]]


class ExportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What an export holds, and its files. `skipped` counts episodes left out by status, `missing` empty values."""

    format: str
    data: str
    card: str
    rows: int
    episodes: int
    skipped: dict[str, int]
    missing: dict[str, int]


def export_run(rundir: RunDirectory, format: str, to: Path, *, only_completed: bool = True) -> ExportSummary:
    """Export the corpus of a run, with what its configuration says on the card. Raises InputError as `export` does."""
    from engine.corpus import Corpus

    meta = meta_of(read_table(rundir.config))
    return export(Corpus.open(rundir).iterate(), format, to, protocol_of(rundir), meta, only_completed=only_completed)


def meta_of(table: Mapping[str, Any]) -> ExportMeta:
    """Return what a resolved configuration says of a run: its identity, without the paths of this machine."""
    settings = {name: _shareable(value) for name, value in flat(table) if not is_operational(name)}
    source = str(settings.get("cases.source", ""))
    return ExportMeta(
        name=str(table.get("name", "run")),
        cases=source,
        cases_license=OWN_LICENSE if source in OWN_SOURCES else "",
        settings=settings,
    )


def _shareable(value: Any) -> Any:
    """Return a setting without the folders of an absolute path: they name people and machines."""
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def export(
    corpus: Iterable[EpisodeRecord],
    format: str,
    to: Path,
    spec: ProtocolSpec,
    meta: ExportMeta,
    *,
    only_completed: bool = True,
) -> ExportSummary:
    """Write the corpus to `to`, as `staged` says, and return what it holds.

    Raises InputError when the target exists, cannot be written, the format does not fit the protocol, or no episode
    gives a row; nothing is then left behind.
    """
    rows = _rows_of(format, spec)
    tally = _Tally(only_completed)
    with staged(to) as files:
        lines = (encoded(row) for record in tally.chosen(corpus) for row in tally.counted(rows(record, spec)))
        write_lines(files.data, lines)
        facts = CardFacts(format=format, data_file=files.data.name, **tally.facts())
        write_lines(files.card, [card(meta, facts).encode()])
    return ExportSummary(
        format=format,
        data=str(files.final_data),
        card=str(files.final_card),
        rows=tally.num_rows,
        episodes=sum(tally.statuses.values()),
        skipped=dict(tally.skipped),
        missing=dict(tally.missing),
    )


class _Tally:
    """Counts what goes into an export."""

    def __init__(self, only_completed: bool) -> None:
        self.only_completed = only_completed
        self.num_rows = 0
        self.statuses: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.models: dict[str, Counter[str]] = {}
        self.weights: Counter[str] = Counter()
        self.protocols: Counter[str] = Counter()
        self.columns: tuple[str, ...] = ()

    def chosen(self, corpus: Iterable[EpisodeRecord]) -> Iterator[EpisodeRecord]:
        """Yield the episodes to export and count them."""
        for record in corpus:
            if self.only_completed and record.status != "completed":
                self.skipped[record.status] += 1
                continue
            self.statuses[record.status] += 1
            self.protocols[record.protocol] += 1
            self.weights.update(record.weights)
            for role, model in record.models.items():
                self.models.setdefault(role, Counter())[_shareable(model)] += 1
            yield record

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows and count them and their missing values."""
        for row in rows:
            self.num_rows += 1
            self.columns = self.columns or tuple(row)
            self.missing.update(name for name, value in row.items() if value in ("", None, []))
            yield row

    def facts(self) -> Mapping[str, Any]:
        """Return the counts for the card. Raises InputError when there is nothing to export."""
        if not self.num_rows:
            raise InputError(self._nothing())
        return {
            "num_rows": self.num_rows,
            "statuses": dict(self.statuses),
            "skipped": dict(self.skipped),
            "missing": dict(self.missing),
            "models": {role: dict(models) for role, models in self.models.items()},
            "weights": dict(self.weights),
            "protocols": dict(self.protocols),
            "columns": self.columns,
        }

    def _nothing(self) -> str:
        left_out = ", ".join(f"{number} {status}" for status, number in self.skipped.items())
        found = f"no row from {sum(self.statuses.values())} episodes" + (f" ({left_out} left out)" if left_out else "")
        remedy = "export all statuses" if self.skipped else "play some episodes first"
        return f"an export must hold at least one row, got {found}: {remedy}"


def _rows_of(format: str, spec: ProtocolSpec) -> Rows:
    """Return the row builder. Raises InputError."""
    builders: dict[str, Rows] = {
        "records": _record_rows,
        "messages": _message_rows,
        "prompt-completion": _completion_rows,
        "sharegpt": _sharegpt_rows,
    }
    if format not in builders:
        raise InputError(f"an export format must be one of {', '.join(FORMATS)}, got {format!r}")
    if format == "records" and spec.records is None:
        others = ", ".join(other for other in FORMATS if other != "records")
        raise InputError(f"format 'records' must be defined by the protocol, got {spec.name!r}: choose {others}")
    return builders[format]


def _record_rows(record: EpisodeRecord, spec: ProtocolSpec) -> Iterator[Row]:
    for row in spec.records(record) if spec.records else []:
        yield {name: neutralize(value) for name, value in row.items()}


def _sides(record: EpisodeRecord, spec: ProtocolSpec) -> Iterator[tuple[str, list[ChatMessage]]]:
    """Yield (role, its chat messages) per role that speaks."""
    spoken = turns(record, spec.turns)
    for role in dict.fromkeys(turn.role for turn in spoken):
        yield role, role_messages(record, role, spoken)


def _message_rows(record: EpisodeRecord, spec: ProtocolSpec) -> Iterator[Row]:
    for role, messages in _sides(record, spec):
        yield {"messages": messages, "role": role, **_origin(record, role)}


def _sharegpt_rows(record: EpisodeRecord, spec: ProtocolSpec) -> Iterator[Row]:
    for role, messages in _sides(record, spec):
        talk = [{"from": _SHAREGPT[message["role"]], "value": message["content"]} for message in messages]
        yield {"conversations": talk, "role": role, **_origin(record, role)}


def _completion_rows(record: EpisodeRecord, spec: ProtocolSpec) -> Iterator[Row]:
    """One row per turn: what the role really saw, and what it said."""
    for turn in turns(record, spec.turns):
        reply = turn.step.reply
        yield {
            "prompt": seen_messages(record, turn.step),
            "completion": [{"role": "assistant", "content": neutralize(turn.text)}],
            "role": turn.role,
            **_origin(record, turn.role),
            "purpose": turn.step.purpose,
            "path": turn.step.path,
            "finish": reply.finish if reply else "",
            "weights": reply.weights if reply else "",
        }


def _origin(record: EpisodeRecord, role: str) -> Row:
    return {
        "episode": record.episode,
        "case": record.key.case,
        "status": record.status,
        "protocol": record.protocol,
        "model": _shareable(record.models.get(role, "")),
    }
