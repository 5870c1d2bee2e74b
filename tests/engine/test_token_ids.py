"""Token ids: packed and back, in either form a journal may hold."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.steps import Reply
from engine.token_ids import pack_ids, unpack_ids

IDS = st.lists(st.integers(0, 2**32 - 1), max_size=20)


@given(IDS)
def test_unpacking_gives_back_the_ids_in_either_form(ids: list[int]) -> None:
    assert list(unpack_ids(pack_ids(ids))) == ids
    assert list(unpack_ids(tuple(ids))) == ids
    assert len(pack_ids(ids)) == 4 * len(ids)


def test_the_packed_form_is_the_same_on_every_machine() -> None:
    assert pack_ids([1, 256, 49_151]) == bytes([1, 0, 0, 0, 0, 1, 0, 0, 0xFF, 0xBF, 0, 0])


@pytest.mark.parametrize("wrong", [[-1], [2**32]])
def test_an_id_that_is_none_is_refused(wrong: list[int]) -> None:
    with pytest.raises(OverflowError):
        pack_ids(wrong)


@given(IDS)
def test_a_reply_from_before_ids_were_packed_is_read(ids: list[int]) -> None:
    old = msgspec.msgpack.encode(("text", "stop", ids, "tokenizer"))
    new = msgspec.msgpack.encode(Reply("text", token_ids=pack_ids(ids)))
    for data in (old, new):
        assert list(unpack_ids(msgspec.msgpack.decode(data, type=Reply).token_ids)) == ids
