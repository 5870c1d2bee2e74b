import msgspec
import pytest

from actors import wire
from benchmarks.wire import ITEM_BYTES, make_request, make_text, measure


def test_an_item_has_4_kb_on_the_wire() -> None:
    size = len(wire.encode([make_request(12345, "base/0", make_text())]))
    assert abs(size - ITEM_BYTES) < 64


def test_requests_are_told_apart() -> None:
    keys = {make_request(number, "base/0", "text").key for number in range(12_000)}
    assert len(keys) == 12_000


@pytest.mark.slow
def test_turns_come_back_through_ray() -> None:
    [found] = measure(1, brief=True)
    assert found.median > 0
    assert found.configuration["request_bytes"] > 4000
    assert msgspec.json.encode(found)
