"""The window over a journal's end: no gap, no more than its bytes, and nothing before somebody asks."""

from hypothesis import given
from hypothesis import strategies as st

from engine.recent import Recent


def body(seq: int) -> bytes:
    return f"{seq:010d}".encode()


def test_nothing_is_kept_before_somebody_asks() -> None:
    recent = Recent()
    recent.add([(0, body(0))])
    assert recent.after(-1, 9) is None
    recent.add([(1, body(1))])
    assert recent.after(-1, 9) is None, "the first was not kept"
    assert recent.after(0, 9) == [body(1)]
    assert recent.after(1, 9) == []


@given(st.lists(st.integers(1, 5), max_size=30), st.integers(1, 12), st.integers(-1, 80), st.integers(1, 9))
def test_what_it_has_is_exactly_what_comes_behind(batches: list[int], room: int, after: int, limit: int) -> None:
    recent = Recent(max_bytes=10 * room)
    recent.after(-1, 1)
    seq = 0
    for size in batches:
        recent.add([(number, body(number)) for number in range(seq, seq + size)])
        seq += size
    found = recent.after(after, limit)
    first = max(seq - room, 0)
    if not seq or after + 1 < first:
        assert found is None
    else:
        assert found == [body(number) for number in range(after + 1, min(after + 1 + limit, seq))]
