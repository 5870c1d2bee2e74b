"""Views: what one role may see of a dialogue.

A view is an immutable linked list that only grows at its end, so that a served model's prefix cache keeps working
and a fork is free: keep the old reference. Every node carries a digest chained over all nodes before it, so hashing
a request costs one node, not one transcript. A view knows nothing of tokens beyond carrying the sampled ids of its
own turns, and nothing of who else listens.
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from engine.token_ids import TokenIds

MessageRole = Literal["system", "user", "assistant"]

JOINT = "\n\n"

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


def neutralize(text: str) -> str:
    """Return `text` with chat-template control tokens broken up and control characters removed.

    The words stay readable: `<|im_end|>` becomes `< |im_end|>`. Backends that tokenize themselves also encode
    message text without special tokens; this is the guard for those that cannot.
    """
    # Ordinary text is told apart by its bytes, at a tenth of the patterns' cost, and comes back as the same object.
    data = text.encode("utf-8", "surrogatepass")
    if len(data.translate(None, _SUSPECT)) == len(data):
        return text
    return _CONTROL.sub(_broken_up, _UNPRINTABLE.sub("", text))


def _broken_up(token: re.Match[str]) -> str:
    return f"{token[0][0]} {token[0][1:]}"


HASHER = hashlib.blake2b(digest_size=16)
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


class View(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What one role sees, oldest message first; immutable.

    Two user texts in a row are joined into one message, and a view never begins with an assistant turn. Nodes only
    point backwards, so the cyclic collector need not know of them: with 100,000
    live dialogues there are millions.
    """

    parent: "View | None"
    message: Message
    _digest: bytes = b""

    @property
    def digest(self) -> bytes:
        """16 bytes chained over all messages; computed when first asked for, each node once."""
        return self._digest or self._chain()

    def _chain(self) -> bytes:
        nodes: list[View] = []
        node: View | None = self
        while node is not None and not node._digest:
            nodes.append(node)
            node = node.parent
        digest = b"" if node is None else node._digest
        while nodes:
            node = nodes.pop()
            message = node.message
            text = message.text.encode("utf-8", "surrogatepass")
            hasher = HASHER.copy()
            hasher.update(digest + _HEADS[message.role] + text)
            digest = hasher.digest()
            msgspec.structs.force_setattr(node, "_digest", digest)
        return digest

    @classmethod
    def of(cls, system: str) -> "View":
        """Start a view with its one system text."""
        return cls(None, Message("system", system))

    @classmethod
    @functools.lru_cache(maxsize=64)
    def common(cls, system: str) -> "View":
        """Start a view with a system text that many dialogues have in common: they share the node."""
        return cls.of(system)

    def hear(self, text: str) -> "View":
        """Append user text: the other role's turn or an instruction."""
        text = neutralize(text)
        if self.message.role == "user":
            return View(self.parent, Message("user", self.message.text + JOINT + text))
        return View(self, Message("user", text))

    def say(self, text: str, token_ids: TokenIds = b"", tokenizer: str = "") -> "View":
        """Append the role's own turn.

        Raises ValueError after a system text or another own turn: chat templates demand alternation.
        """
        if self.message.role != "user":
            raise ValueError(f"an assistant turn must follow a user turn, got one after {self.message.role!r}")
        clean = neutralize(text)
        if clean != text:  # the sampled ids would put back what was taken out of the text
            token_ids, tokenizer = b"", ""
        return View(self, Message("assistant", clean, token_ids, tokenizer))

    def __iter__(self) -> Iterator["View"]:
        """Iterate over the nodes, oldest first."""
        nodes: list[View] = []
        node: View | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return reversed(nodes)

    def messages(self) -> tuple[Message, ...]:
        """Return the messages, oldest first."""
        messages: list[Message] = []
        node: View | None = self
        while node is not None:
            messages.append(node.message)
            node = node.parent
        messages.reverse()
        return tuple(messages)
