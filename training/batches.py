"""A worker's batches as tokens: rows of its share encoded, those that cannot be taught dropped and counted; no torch.

Invariant: all workers get the same number of batches, a multiple of `accumulate`, whatever is dropped: a batch without
a row that can be taught holds two tokens of which none is taught.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from engine.errors import InputError
from engine.transcript import ChatMessage
from training.chat import IGNORED, ChatEncoder, Encoded
from training.formats import Row
from training.stream import Batch, Position, Stream

TOO_LONG: Final = "longer than max_length"
REFUSED: Final = "refused by the chat template"
NOTHING: Final = "nothing to teach"


class _Chat(msgspec.Struct):
    messages: list[ChatMessage]


class TokenBatch(msgspec.Struct, frozen=True):
    """One worker's rows and where reading goes on behind them; `num_rows` counts those that are taught."""

    rows: list[Encoded]
    after: Position
    num_rows: int = 0
    dropped: dict[str, int] = {}
    waited_s: float = 0.0

    @property
    def num_tokens(self) -> int:
        """Tokens that the model reads."""
        return sum(len(row.input_ids) for row in self.rows)

    @property
    def num_taught(self) -> int:
        """Tokens taught; a row's first never is."""
        return sum(label != IGNORED for row in self.rows for label in row.labels[1:])


class TokenBatches:
    """Encodes the batches of a stream. `eos_id` is any token of the model's."""

    def __init__(
        self, stream: Stream, encoder: ChatEncoder, *, max_length: int, eos_id: int, accumulate: int = 1
    ) -> None:
        self._stream = stream
        self._encoder = encoder
        self._max_length = max_length
        self._accumulate = accumulate
        self._nothing = Encoded([eos_id, eos_id], [IGNORED, IGNORED])

    def read(self, start: Position, num_epochs: int) -> Iterator[TokenBatch]:
        """Yield the batches from a position to the end; waits while the log grows.

        Raises InputError for a row that is no chat.
        """
        number, after = 0, start
        batches = self._stream.batches(start, num_epochs)
        while True:
            since = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                break
            number, after = number + 1, batch.after
            yield self._encoded(batch, time.monotonic() - since)
        for _ in range(-number % self._accumulate):
            yield TokenBatch([self._nothing], after)

    def _encoded(self, batch: Batch, waited_s: float) -> TokenBatch:
        rows: list[Encoded] = []
        dropped: Counter[str] = Counter()
        for row in () if batch.is_padding else batch.rows:
            encoded, reason = self._encode(row)
            if encoded is None:
                dropped[reason] += 1
            else:
                rows.append(encoded)
        return TokenBatch(rows or [self._nothing], batch.after, len(rows), dict(dropped), waited_s)

    def _encode(self, row: Row) -> tuple[Encoded | None, str]:
        """Return (the row, "") or (None, why it cannot be taught)."""
        try:
            chat = msgspec.convert(row, _Chat)
        except msgspec.ValidationError as error:
            raise InputError(f"a row to train on must hold messages, got {error}: use the format messages") from None
        try:
            encoded = self._encoder.encode(chat.messages)
        except ValueError:
            return None, REFUSED
        if len(encoded.input_ids) > self._max_length:
            return None, TOO_LONG
        if all(label == IGNORED for label in encoded.labels[1:]):
            return None, NOTHING
        return encoded, ""
