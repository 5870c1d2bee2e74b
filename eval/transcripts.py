"""Transcripts: what was said in a finished episode, without how it came about; the case of a judging run.

Pure. Turns are the utterances that the played protocol names, in order, numbered from 1. The case stands beside them as
JSON, for rubrics that may see fields of it. Knows nothing of rubrics.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from engine.record import EpisodeRecord
from engine.transcript import turns
from engine.values import well_formed


class TurnText(msgspec.Struct, frozen=True, gc=False):
    """One utterance: who spoke, and what was said (as the model wrote it: hostile text)."""

    role: str
    text: str


class Transcript(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One episode's dialogue. `id` is the episode's name; `case` is a JSON object, "" where nothing is known of it."""

    id: str
    turns: tuple[TurnText, ...]
    case: str = ""


def transcript_of(record: EpisodeRecord, spec_turns: Collection[str] = ()) -> Transcript:
    """Return an episode's transcript; `spec_turns` are the purposes that count as utterances, as in a `ProtocolSpec`.

    An episode in which nothing was said has no turns; what cannot be encoded as UTF-8 is replaced.
    """
    said = (TurnText(turn.role, well_formed(turn.text.strip())) for turn in turns(record, spec_turns))
    return Transcript(id=str(record.key), turns=tuple(said), case=record.case)


def case_statements(transcript: Transcript, fields: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return what the case says in these fields, as (field, statement), in the order of `fields`.

    A list makes one statement per entry; absent and empty fields make none. A case that is no JSON object has none.
    """
    try:
        case = msgspec.json.decode(transcript.case) if transcript.case else {}
    except msgspec.DecodeError:
        return ()
    if not isinstance(case, dict):
        return ()
    return tuple((field, text) for field in fields for text in _statements(case.get(field)))


def _statements(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = [str(one) for one in values if isinstance(one, str | int | float) and not isinstance(one, bool)]
    return [text.strip() for text in texts if text.strip()]
