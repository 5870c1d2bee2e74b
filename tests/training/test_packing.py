"""Packing: what is packed is what was there, and the loss of packed rows is that of rows alone."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_model import write_tiny_model
from training.chat import IGNORED, Encoded
from training.packing import pack, pad


@st.composite
def encoded(draw: st.DrawFn) -> Encoded:
    ids = draw(st.lists(st.integers(0, 99), min_size=2, max_size=9))
    taught = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    return Encoded(ids, [token if is_taught else IGNORED for token, is_taught in zip(ids, taught, strict=True)])


rows = st.lists(encoded(), min_size=1, max_size=6)


def taught(row: Encoded) -> list[int]:
    return [IGNORED, *row.labels[1:]]


@given(rows)
def test_packed_rows_stand_one_after_the_other_and_begin_at_position_0(chats: list[Encoded]) -> None:
    columns = pack(chats)
    (ids,), (labels,), (positions,) = columns["input_ids"], columns["labels"], columns["position_ids"]
    starts = [place for place, position in enumerate(positions) if position == 0]
    ends = [*starts[1:], len(positions)]
    assert [ids[a:b] for a, b in zip(starts, ends, strict=True)] == [chat.input_ids for chat in chats]
    assert [labels[a:b] for a, b in zip(starts, ends, strict=True)] == [taught(chat) for chat in chats]
    assert all(positions[a:b] == list(range(b - a)) for a, b in zip(starts, ends, strict=True))


@given(rows)
def test_padding_is_neither_read_nor_taught(chats: list[Encoded]) -> None:
    columns = pad(chats, pad_id=7)
    assert len({len(row) for rows in columns.values() for row in rows}) == 1
    for chat, ids, labels, mask in zip(
        chats, columns["input_ids"], columns["labels"], columns["attention_mask"], strict=True
    ):
        length = len(chat.input_ids)
        assert mask == [1] * length + [0] * (len(mask) - length)
        assert (ids[:length], labels[:length]) == (chat.input_ids, taught(chat))
        assert set(ids[length:]) <= {7} and set(labels[length:]) <= {IGNORED}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    path: Path = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    return AutoModelForCausalLM.from_pretrained(path, attn_implementation="sdpa").eval()


def losses(model: Any, columns: dict[str, list[list[int]]]) -> tuple[float, int]:
    """Return the summed loss over taught tokens, and their number."""
    import torch

    inputs = {name: torch.tensor(values) for name, values in columns.items()}
    labels = inputs.pop("labels")
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
    total = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")
    return float(total), int((labels[:, 1:] != IGNORED).sum())


def test_the_loss_of_packed_rows_is_that_of_rows_alone(model: Any) -> None:
    chats = [
        Encoded([5, 6, 7, 8, 9], [IGNORED, IGNORED, 7, 8, 9]),
        Encoded([11, 12], [11, 12]),
        Encoded([400, 3, 400, 3, 2000, 17], [IGNORED, 3, 400, IGNORED, 2000, 17]),
    ]
    alone = [losses(model, pack([chat])) for chat in chats]
    expected = (pytest.approx(sum(total for total, _ in alone), rel=1e-5), sum(number for _, number in alone))
    assert losses(model, pack(chats)) == expected
    assert losses(model, pad(chats, 0)) == expected
    assert losses(model, pack(chats[::-1])) == expected
    # Were a row to see the one before it, the sum would be another.
    blind = {name: rows for name, rows in pack(chats).items() if name != "position_ids"}
    assert losses(model, blind)[0] != pytest.approx(expected[0].expected, rel=1e-4)
