"""A long run, killed once: neither driver nor journal grows with it, and nothing is there twice."""

import asyncio
import gc
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from benchmarks.long_run import ScriptedCrew, growth, make_long_plan, measure_long_run
from engine.panel import make_panel
from engine.planning import freeze
from engine.run import Run
from engine.rundir import RunDirectory


@pytest.mark.timeout(600)
def test_fifty_thousand_episodes_killed_once(tmp_path: Path) -> None:
    found = measure_long_run(50_000, tmp_path / "run", killed_at=0.5)
    assert found.episodes == 50_000 and found.calls >= 2 * found.episodes
    assert found.parts >= 50_000 // 256
    # Caches and what waits to be sealed fill up for longer than that: 64 MiB each, beside 150 of the rest.
    assert max(found.resident_mib) < 360 and found.journal_max_mib < 200
    assert found.corpus_mib > 10


async def num_blocks(path: Path, num_episodes: int) -> int:
    """Blocks of memory that this process holds when a run of that many episodes has ended."""
    plan = make_long_plan(num_episodes)
    rundir = RunDirectory.create(path, freeze(plan))
    with rundir.lock():
        run = Run(plan, rundir, ScriptedCrew(), make_panel(False), plan.roster())
        await run.play()
        await run.journal.seal()
        gc.collect()
        held = sys.getallocatedblocks()
        await run.close(is_hasty=False)
    return held


def blocks_of_runs(path: Path, sizes: Sequence[int]) -> list[int]:
    return [asyncio.run(num_blocks(path / str(at), size)) for at, size in enumerate(sizes)]


def test_nothing_of_an_episode_is_kept_once_it_is_sealed(tmp_path: Path) -> None:
    # In a process of its own: threads of what other tests started allocate as well.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        # The first pays for what is imported and cached once.
        _, few, many = alone.submit(blocks_of_runs, tmp_path, (1000, 1000, 5000)).result()
    # A key and its place in a dict would be two blocks of memory for each of 4,000 episodes.
    assert many - few < 1000


def test_growth_is_that_after_the_warm_up_and_no_single_moment_decides() -> None:
    filling = [(float(at), 1e6 * at) for at in range(20)]
    flat = [(20.0 + at, 2e7 + 5 * at) for at in range(80)]
    assert growth([*filling, *flat]) == pytest.approx(5000)
    spiked = [(at, size + 9e9 * (at == 70)) for at, size in flat]
    assert growth([*filling, *spiked]) == pytest.approx(5000)
    assert growth([(0.0, 1.0)]) == 0
