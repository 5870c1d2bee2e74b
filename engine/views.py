"""Views: what one role may see of a dialogue.

A view is an immutable linked list that only grows at its end, so that a served model's prefix cache keeps working
and a fork is free: keep the old reference. Every node carries a digest chained over all nodes before it, so hashing
a request costs one node, not one transcript. A view knows nothing of tokens beyond carrying the sampled ids of its
own turns, and nothing of who else listens.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Literal

import msgspec

MessageRole = Literal["system", "user", "assistant"]

JOINT = "\n\n"

# Control tokens of the common chat templates. A model's text must never open or close a turn in another prompt.
_CONTROL = re.compile(
    r"<\|[^<>|\s]{1,64}\|>|<｜[^<>\s]{1,64}｜>|</?s>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\]|<</?SYS>>"
    r"|<(?:start_of_turn|end_of_turn|bos|eos|pad|unk|end_of_text)>|<\|",
    re.IGNORECASE,
)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def neutralize(text: str) -> str:
    """Return `text` with chat-template control tokens broken up and control characters removed.

    The words stay readable: `<|im_end|>` becomes `< |im_end|>`. Backends that tokenize themselves also encode
    message text without special tokens; this is the guard for those that cannot.
    """
    return _CONTROL.sub(lambda m: f"{m[0][0]} {m[0][1:]}", _UNPRINTABLE.sub("", text))


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One chat message as a backend sees it.

    `token_ids` are the ids sampled for an assistant turn (empty when unknown), valid only for the tokenizer whose
    fingerprint is `tokenizer`.
    """

    role: MessageRole
    text: str
    token_ids: tuple[int, ...] = ()
    tokenizer: str = ""


class View:
    """What one role sees, oldest message first; immutable.

    Two user texts in a row are joined into one message, and a view never begins with an assistant turn.
    """

    __slots__ = ("digest", "message", "parent")

    def __init__(self, parent: "View | None", message: Message) -> None:
        self.parent = parent
        self.message = message
        before: bytes = parent.digest if parent is not None else b""
        head = f"{message.role}\0{message.text}".encode("utf-8", "surrogatepass")
        self.digest: bytes = hashlib.blake2b(before + head, digest_size=16).digest()

    @classmethod
    def of(cls, system: str) -> "View":
        """Start a view with its one system text."""
        return cls(None, Message("system", system))

    def hear(self, text: str) -> "View":
        """Append user text: the other role's turn or an instruction."""
        text = neutralize(text)
        if self.message.role == "user":
            return View(self.parent, Message("user", self.message.text + JOINT + text))
        return View(self, Message("user", text))

    def say(self, text: str, token_ids: tuple[int, ...] = (), tokenizer: str = "") -> "View":
        """Append the role's own turn.

        Raises ValueError after a system text or another own turn: chat templates demand alternation.
        """
        if self.message.role != "user":
            raise ValueError(f"an assistant turn must follow a user turn, got one after {self.message.role!r}")
        clean = neutralize(text)
        if clean != text:  # the sampled ids would put back what was taken out of the text
            token_ids, tokenizer = (), ""
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
        return tuple(node.message for node in self)
