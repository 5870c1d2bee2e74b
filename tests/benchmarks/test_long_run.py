"""A long run, killed once: neither driver nor journal grows with it, and nothing is there twice."""

from pathlib import Path

import pytest

from benchmarks.long_run import growth, measure_long_run


@pytest.mark.timeout(600)
def test_fifty_thousand_episodes_killed_once(tmp_path: Path) -> None:
    found = measure_long_run(50_000, tmp_path / "run", killed_at=0.1, warm_up=0.5)
    assert found.episodes == 50_000 and found.calls >= 2 * found.episodes
    assert found.parts >= 50_000 // 256
    # Fifty thousand episodes are too few for more: half of them pass until caches are full. A key kept of each
    # episode would be above it.
    assert found.growth[1] < 100_000
    assert max(found.resident_mib) < 600 and found.journal_max_mib < 200
    assert found.corpus_mib > 10


def test_growth_is_that_after_the_warm_up_and_no_single_moment_decides() -> None:
    filling = [(float(at), 1e6 * at) for at in range(20)]
    flat = [(20.0 + at, 2e7 + 5 * at) for at in range(80)]
    assert growth([*filling, *flat]) == pytest.approx(5000)
    spiked = [(at, size + 9e9 * (at == 70)) for at, size in flat]
    assert growth([*filling, *spiked]) == pytest.approx(5000)
    assert growth([(0.0, 1.0)]) == 0
