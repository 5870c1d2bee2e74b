"""Views: what one role may see of a dialogue.

A view only grows at its end, so that a served model's prefix cache keeps working, and is immutable: a fork is free,
keep the old reference. Views that grew out of each other share one log of messages and see its first so many; a fork
begins a log of its own behind what it shares. Digests are chained over the messages, so hashing a request costs one
message, not one transcript. A view knows nothing of tokens beyond carrying the sampled ids of its own turns, and
nothing of who else listens.
"""

import functools
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from engine.token_ids import TokenIds

MessageRole = Literal["system", "user", "assistant"]

JOINT = "\n\n"
DIGEST_BYTES: Final = 16
MAX_COMMON: Final = 4096
"""Beginnings kept for `View.common`: the personas of so many cases, whose repeats may come much later."""

# Control tokens of the common chat templates. A model's text must never open or close a turn in another prompt.
_CONTROL = re.compile(
    r"<\|[^<>|\s]{1,64}\|>|<｜[^<>\s]{1,64}｜>|</?s>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\]|<</?SYS>>"
    r"|<(?:start_of_turn|end_of_turn|bos|eos|pad|unk|end_of_text)>|<\|",
    re.IGNORECASE,
)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Bytes of UTF-8 without which a text holds neither: every token above begins with < or [, and what lies from U+0080 to
# U+009F is encoded behind 0xC2.
_SUSPECT = bytes([*range(0x09), *range(0x0B, 0x20), 0x7F, 0xC2]) + b"<["
_harmless = ""


def neutralize(text: str) -> str:
    """Return `text` with chat-template control tokens broken up and control characters removed.

    The words stay readable: `<|im_end|>` becomes `< |im_end|>`. Backends that tokenize themselves also encode
    message text without special tokens; this is the guard for those that cannot.
    """
    global _harmless
    # What one role says the other hears: the same object often comes twice in a row.
    if text is _harmless:
        return text
    # Ordinary text is told apart by its bytes, at a tenth of the patterns' cost, and comes back as the same object.
    data = text.encode("utf-8", "surrogatepass")
    if len(data.translate(None, _SUSPECT)) == len(data):
        _harmless = text
        return text
    return _CONTROL.sub(_broken_up, _UNPRINTABLE.sub("", text))


def _broken_up(token: re.Match[str]) -> str:
    return f"{token[0][0]} {token[0][1:]}"


HASHER = blake2b(digest_size=DIGEST_BYTES)
"""To be copied, at two thirds of the cost of making one."""

_HEADS: dict[MessageRole, bytes] = {"system": b"system\0", "user": b"user\0", "assistant": b"assistant\0"}


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One chat message as a backend sees it.

    `token_ids` are the ids sampled for an assistant turn (empty when unknown), valid only for the tokenizer whose
    fingerprint is `tokenizer`.
    """

    role: MessageRole
    text: str
    token_ids: TokenIds = b""
    tokenizer: str = ""


class Log(msgspec.Struct, eq=False, gc=False):
    """Messages in a row, behind those of `base`; views of it see its first few.

    Only ever appended to, so that a view may go on seeing what it saw. `digests` holds 16 bytes per message, as far as
    they were asked for. A log that `is_shared` by dialogues is not appended to: each goes on in one of its own.
    """

    base: "View | None"
    messages: list[Message]
    digests: bytes = b""
    is_shared: bool = False

    def chain(self, size: int) -> None:
        """Compute the digests of the first `size` messages, as far as they are missing; `base` must have its own."""
        known, base = self.digests, self.base
        digest = known[-DIGEST_BYTES:] or (base.digest if base is not None else b"")
        for message in self.messages[len(known) // DIGEST_BYTES : size]:
            text = message.text.encode("utf-8", "surrogatepass")
            hasher = HASHER.copy()
            hasher.update(digest + _HEADS[message.role] + text)
            digest = hasher.digest()
            known += digest
        self.digests = known


class View(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What one role sees, oldest message first; immutable.

    Two user texts in a row are joined into one message, and a view never begins with an assistant turn. Views and logs
    only point backwards, so the cyclic collector need not know of them. `log` and `size` are how it is kept: whoever
    keeps both has the view.
    """

    log: Log
    size: int

    @property
    def message(self) -> Message:
        """The latest message."""
        return self.log.messages[self.size - 1]

    @property
    def parent(self) -> "View | None":
        """The view without its latest message, None when there is no other."""
        return View(self.log, self.size - 1) if self.size > 1 else self.log.base

    @property
    def digest(self) -> bytes:
        """16 bytes chained over all messages; computed when first asked for, each message once."""
        log, end = self.log, self.size * DIGEST_BYTES
        if len(log.digests) < end:
            if not log.digests and log.base is not None:
                log.base._catch_up()
            log.chain(self.size)
        return log.digests[end - DIGEST_BYTES : end]

    def _catch_up(self) -> None:
        """See to it that all logs up to this view have their digests; without recursion, however often it forked."""
        behind: list[View] = []
        view: View | None = self
        while view is not None and len(view.log.digests) < view.size * DIGEST_BYTES:
            behind.append(view)
            view = view.log.base
        for view in reversed(behind):
            view.log.chain(view.size)

    @classmethod
    def of(cls, system: str) -> "View":
        """Start a view with its one system text."""
        return cls.starting(Message("system", system))

    @classmethod
    def starting(cls, message: Message) -> "View":
        """Start a view with any message."""
        return cls(Log(None, [message]), 1)

    @classmethod
    @functools.lru_cache(maxsize=MAX_COMMON)
    def common(cls, *texts: str) -> "View":
        """Start a view with a system text, and perhaps a user text, that many dialogues have in common.

        They share its messages and digests.
        """
        view = cls.of(texts[0])
        for text in texts[1:]:
            view = view.hear(text)
        return view.shared()

    def shared(self) -> "View":
        """Return the view as a beginning that many dialogues have in common: each goes on in a log of its own."""
        self.log.is_shared = True
        return self

    def hear(self, text: str) -> "View":
        """Append user text: the other role's turn or an instruction."""
        text = neutralize(text)
        log, size = self.log, self.size
        last = log.messages[size - 1]
        if last.role != "user":
            return self._grown(Message("user", text))
        joined = Message("user", last.text + JOINT + text)
        # What others may see stays as it is: the joined message stands in a log of its own.
        return View(Log(View(log, size - 1) if size > 1 else log.base, [joined]), 1)

    def say(self, text: str, token_ids: TokenIds = b"", tokenizer: str = "") -> "View":
        """Append the role's own turn.

        Raises ValueError after a system text or another own turn: chat templates demand alternation.
        """
        role = self.log.messages[self.size - 1].role
        if role != "user":
            raise ValueError(f"an assistant turn must follow a user turn, got one after {role!r}")
        clean = neutralize(text)
        if clean != text:  # the sampled ids would put back what was taken out of the text
            token_ids, tokenizer = b"", ""
        return self._grown(Message("assistant", clean, token_ids, tokenizer))

    def _grown(self, message: Message) -> "View":
        """Return the view with one message more: in its own log when nobody has gone on from here, else in a fork."""
        log, size = self.log, self.size
        if size == len(log.messages) and not log.is_shared:
            log.messages.append(message)
            return View(log, size + 1)
        return View(Log(self, [message]), 1)

    def __iter__(self) -> Iterator["View"]:
        """Iterate over the view's beginnings, the shortest first, itself last."""
        found: list[View] = []
        view: View | None = self
        while view is not None:
            found.append(view)
            view = view.parent
        return reversed(found)

    def messages(self) -> tuple[Message, ...]:
        """Return the messages, oldest first."""
        log, size = self.log, self.size
        messages = tuple(log.messages if size == len(log.messages) else log.messages[:size])
        while (base := log.base) is not None:
            log, size = base.log, base.size
            messages = (*(log.messages if size == len(log.messages) else log.messages[:size]), *messages)
        return messages
