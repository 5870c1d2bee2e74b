import sys

import pytest

from engine.memory import give_back, resident_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="the system says nothing of memory")
def test_what_is_free_is_given_back() -> None:
    pieces = [bytes(4096) for _ in range(50_000)]
    held = resident_bytes()
    kept = pieces[::1000]
    del pieces
    give_back()
    after = resident_bytes()
    assert held is not None and after is not None and len(kept) == 50
    assert held - after > 100 << 20
