"""Episodes as the page shows them: what `show` prints, as HTML. Every text of a record is cleaned and escaped."""

from collections.abc import Iterable, Sequence

from engine.page.markup import Html, element, folded, heading, joined, pairs_table, paragraph, table
from engine.protocol import ProtocolSpec, Section
from engine.record import EpisodeRecord
from engine.show import CALL_HEADS, CALL_NUMBERS, call_cells, head_rows
from engine.transcript import Turn, turns


def transcripts(title: str, records: Iterable[EpisodeRecord], spec: ProtocolSpec) -> Html:
    """Return episodes one below the other, each folded but the first."""
    shown = [_transcript(record, spec, is_open=not place) for place, record in enumerate(records)]
    return joined([heading(2, title), *shown]) if shown else joined([])


def _transcript(record: EpisodeRecord, spec: ProtocolSpec, *, is_open: bool) -> Html:
    spoken = turns(record, spec.turns)
    parts = [pairs_table(head_rows(record, spec).items()), dialogue(spoken)]
    parts += map(section, spec.sections(record) if spec.sections else [])
    cells = (call_cells(step) for step in record.steps)
    parts.append(folded(f"{len(record.steps)} calls", table(CALL_HEADS, cells, numbers=CALL_NUMBERS)))
    summary = f"{record.episode} ({record.status}), {len(spoken)} turns"
    return folded(summary, *parts, is_open=is_open)


def dialogue(spoken: Sequence[Turn]) -> Html:
    """Return the turns in the order spoken, each role with an edge of its own."""
    roles = list(dict.fromkeys(turn.role for turn in spoken))
    if not roles:
        return paragraph("No turn was spoken.", "dim")
    return joined(
        element("div", paragraph(turn.role, "dim"), paragraph(turn.text.strip()), class_=f"turn t{at % 2}")
        for turn in spoken
        for at in (roles.index(turn.role),)
    )


def section(shown: Section) -> Html:
    """Return one of the protocol's tables with its note."""
    parts = [heading(3, shown.title)]
    if shown.columns or shown.rows:
        width = max((len(row) for row in shown.rows), default=0)
        heads = (*shown.columns, *[""] * (width - len(shown.columns)))
        parts.append(table(heads, shown.rows))
    if shown.note:
        parts.append(paragraph(shown.note, "dim"))
    return joined(parts)
