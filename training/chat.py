"""Chats as token ids with labels: every assistant turn is taught, with the token that ends it, and nothing else.

Rendered by the very renderer that serves the model, turn by turn: what is taught after a prompt is what would have been
sampled after it. Knows nothing of torch.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from engine.token_ids import pack_ids
from engine.transcript import ChatMessage
from engine.views import Message

IGNORED: Final = -100
"""Label of a token that is not taught; torch's own default."""


class Encoded(msgspec.Struct, frozen=True):
    """One chat; `labels` are `input_ids` where they are taught, else `IGNORED`. Both have one length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def num_taught(self) -> int:
        """Tokens taught."""
        return sum(label != IGNORED for label in self.labels)


class Prompt(Protocol):
    """A rendered prompt."""

    @property
    def token_ids(self) -> list[int]:
        """Its ids."""


class Renderer(Protocol):
    """What serves the model its prompts; `actors.rendering.PromptRenderer` is one."""

    fingerprint: str

    @property
    def end_of_turn_ids(self) -> tuple[int, ...]:
        """The control tokens right after an assistant turn, none where the template has none."""

    def render(self, messages: Sequence[Message]) -> Prompt:
        """Return the prompt that asks for the turn after `messages`."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text, none of them a control token's."""


class ChatEncoder:
    """Encodes chats for one tokenizer; `eos_id` ends a turn where the template has no token of its own for that."""

    def __init__(self, renderer: Renderer, eos_id: int) -> None:
        self._renderer = renderer
        self._end = renderer.end_of_turn_ids[:1] or (eos_id,)

    def encode(self, messages: Sequence[ChatMessage]) -> Encoded:
        """Return a chat's ids and labels, up to its last assistant turn.

        Raises ValueError when the template refuses the roles, or rewrites earlier turns, so that no one sequence of
        ids holds all turns as they would be sampled.
        """
        turns: list[Message] = []
        ids: list[int] = []
        labels: list[int] = []
        for message in messages:
            if message["role"] != "assistant":
                turns.append(Message(message["role"], message["content"]))
                continue
            prompt = self._renderer.render(turns).token_ids
            if prompt[: len(ids)] != ids:
                raise ValueError("the chat template must keep earlier turns as they were, got one that rewrites them")
            own = [*self._renderer.encode(message["content"]), *self._end]
            labels += [IGNORED] * (len(prompt) - len(ids)) + own
            ids = [*prompt, *own]
            turns.append(Message("assistant", message["content"], pack_ids(own), self._renderer.fingerprint))
        return Encoded(ids, labels)
