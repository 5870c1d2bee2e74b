"""The dialogue inside an episode record: its turns, each role's side of it as chat messages, and safe text for people.

Pure. A turn is an utterance: a reply whose purpose the protocol names, that says something. Everything a model wrote is
hostile: nothing from a record goes to a terminal but through `clean` (plain text) or `printable` (rich markup). Knows
nothing of files or screens.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Final, Literal, TypedDict

import msgspec

from engine.record import EpisodeRecord, StepRecord
from engine.views import JOINT, neutralize

_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colors, cursor, screen
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS, APC, PM, SOS with text
    r"|\x1b[ -/]*[0-~]"  # two-character escapes
)
_NEWLINES: Final = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_MARKUP: Final = re.compile(r"(\\*)(\[[a-z#/@][^[]*?])")
# Joiners change how letters connect, never the order of what is read: scripts and emoji need them.
_JOINERS: Final = frozenset("\u200c\u200d")
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs"})


class ChatMessage(TypedDict):
    """One chat message in the common form."""

    role: Literal["system", "user", "assistant"]
    content: str


class Turn(msgspec.Struct, frozen=True, gc=False):
    """One utterance; `step` is the step whose reply it is."""

    role: str
    text: str
    step: StepRecord


def turns(record: EpisodeRecord, spec_turns: Collection[str] = ()) -> list[Turn]:
    """Return the utterances in program order.

    `spec_turns` are the purposes that count (empty: every reply without a value schema). Empty replies, which a
    protocol asks again, are no turns.
    """
    return [
        Turn(step.role, step.reply.text, step)
        for step in record.steps
        if step.reply is not None
        and step.reply.text.strip()
        and (step.purpose in spec_turns if spec_turns else not step.schema)
    ]


def role_messages(record: EpisodeRecord, role: str, turns: Sequence[Turn]) -> list[ChatMessage]:
    """Return `role`'s side of the dialogue as chat messages, alternating, ending with its last own turn.

    First comes its own system text; its turns are `assistant`, everybody else's `user`. A dialogue that it opens begins
    with the user text that cued it. Empty when the role says nothing.
    """
    own = [turn for turn in turns if turn.role == role]
    if not own:
        return []
    messages: list[ChatMessage] = []
    for turn in turns:
        _append(messages, "assistant" if turn.role == role else "user", neutralize(turn.text))
    while messages[-1]["role"] != "assistant":
        messages.pop()
    view = record.view(own[0].step)
    if messages[0]["role"] == "assistant":
        cue = next((node.text for node in view if node.role == "user"), "")
        messages = [{"role": "user", "content": cue}, *messages] if cue else messages
    if view and view[0].role == "system":
        messages = [{"role": "system", "content": view[0].text}, *messages]
    return messages


def _append(messages: list[ChatMessage], role: Literal["user", "assistant"], text: str) -> None:
    """Append a message, or join it to the one before when both have the same role."""
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += JOINT + text
    else:
        messages.append({"role": role, "content": text})


def seen_messages(record: EpisodeRecord, step: StepRecord) -> list[ChatMessage]:
    """Return what the step's role saw when it was asked."""
    return [{"role": node.role, "content": node.text} for node in record.view(step)]  # type: ignore[typeddict-item]


def clean(text: str) -> str:
    """Return `text` as plain text that is safe on a terminal; lines are kept.

    Escape sequences go with their contents, control, format and direction-changing characters are dropped, and
    half a surrogate pair becomes U+FFFD.
    """
    text = _NEWLINES.sub("\n", _ESCAPES.sub("", text)).expandtabs(4)
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(map(_safe, text))


def _safe(character: str) -> str:
    if character == "\n" or character in _JOINERS:
        return character
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"
    return "" if category in _HIDDEN else character


def printable(text: str, *, markup: bool = True) -> str:
    """Return `text` cleaned; with `markup`, rich markup is escaped too, for text in front of a tag or at the end.

    Trailing backslashes are then doubled: a single one would swallow the tag that follows.
    """
    if not markup:
        return clean(text)
    escaped = _MARKUP.sub(lambda m: f"{m[1]}{m[1]}\\{m[2]}", clean(text))
    num_backslashes = len(escaped) - len(escaped.rstrip("\\"))
    return escaped + "\\" * num_backslashes


def one_line(text: str, max_chars: int = 80) -> str:
    """Return `text` cleaned, on one line, at most `max_chars` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= max_chars else f"{line[: max_chars - 1]}…"
