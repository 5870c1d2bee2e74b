"""A worker's batches: what cannot be taught is dropped with a reason, and the number of batches stays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.models import prepare_model
from actors.rendering import load_renderer
from engine.errors import InputError
from tests.training.jobs import make_chat, write_log
from training.batches import NOTHING, REFUSED, TOO_LONG, TokenBatch, TokenBatches
from training.chat import IGNORED, ChatEncoder
from training.sample_log import SampleReader
from training.stream import Position, Stream

EOS = 2


@pytest.fixture(scope="module")
def encoder() -> ChatEncoder:
    return ChatEncoder(load_renderer(str(prepare_model("smollm2-135m"))), EOS)


@pytest.fixture
def readers() -> Iterator[list[SampleReader]]:
    opened: list[SampleReader] = []
    yield opened
    for reader in opened:
        reader.close()


@pytest.fixture
def play(tmp_path: Path, encoder: ChatEncoder, readers: list[SampleReader]) -> Any:
    def played(rows: list[dict[str, Any]], rank: int = 0, world: int = 1, **more: Any) -> list[TokenBatch]:
        path = tmp_path / "samples.jsonl"
        path.unlink(missing_ok=True)
        write_log(path, rows)
        readers.append(SampleReader(path))
        stream = Stream(readers[-1], batch_size=2, rank=rank, world=world)
        made = TokenBatches(stream, encoder, max_length=more.pop("max_length", 256), eos_id=EOS, **more)
        return list(made.read(Position(), 1))

    return played


def test_rows_are_encoded_as_the_encoder_does(play: Any, encoder: ChatEncoder) -> None:
    chats = [make_chat(number) for number in range(5)]
    batches = play(chats)
    found = [row for batch in batches for row in batch.rows]
    key = lambda row: row.input_ids  # noqa: E731
    assert sorted(found, key=key) == sorted((encoder.encode(chat["messages"]) for chat in chats), key=key)
    assert [batch.num_rows for batch in batches] == [2, 2, 1]
    assert batches[0].num_taught == sum(row.num_taught for row in batches[0].rows)
    assert batches[0].num_tokens == sum(len(row.input_ids) for row in batches[0].rows)


def test_what_cannot_be_taught_is_counted_by_reason(play: Any) -> None:
    chat = make_chat(0)["messages"]
    rows = [
        {"messages": chat[:2]},
        {"messages": [*chat, {"role": "user", "content": "x " * 300}, chat[-1]]},
        {"messages": [chat[1], {"role": "system", "content": "x"}, chat[2]]},
        {"messages": chat},
    ]
    batches = play(rows)
    assert len(batches) == 2
    dropped = {reason: number for batch in batches for reason, number in batch.dropped.items()}
    assert dropped[NOTHING] == 1 and dropped[TOO_LONG] == 1 and set(dropped) <= {NOTHING, TOO_LONG, REFUSED}
    assert sum(dropped.values()) + sum(batch.num_rows for batch in batches) == len(rows)


def test_all_workers_get_as_many_batches_whole_steps_each(play: Any) -> None:
    rows = [{"messages": make_chat(0)["messages"][:2]}, *(make_chat(number) for number in range(8))]
    for accumulate, expected in ((1, 2), (2, 2), (3, 3)):
        both = [play(rows, rank, 3, accumulate=accumulate) for rank in range(3)]
        assert [len(batches) for batches in both] == [expected] * 3
        assert sum(batch.num_rows for batches in both for batch in batches) == 8
        empty = [batch for batches in both for batch in batches if not batch.num_rows]
        assert all(batch.num_taught == 0 and batch.num_tokens == 2 for batch in empty)
        assert all(row.labels == [IGNORED, IGNORED] for batch in empty for row in batch.rows)
        assert len({batch.after for batches in both for batch in batches[-1:]}) == 1


@pytest.mark.parametrize("row", [{"prompt": [], "chosen": []}, {"messages": "x"}, {"messages": [{"role": "user"}]}])
def test_a_row_that_is_no_chat_is_refused(play: Any, row: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a row to train on must hold messages"):
        play([row])
