"""Runs one row on its own: opens a bench, measures, closes it, also when it is told to stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from benchmarks.figures import Figure
from benchmarks.real.bench import RealBench
from benchmarks.real.workload import Workload

Measure = Callable[[RealBench, int], Awaitable[list[Figure]]]


def run_row(measure: Measure, repeats: int, workload: Workload, step_log: Path | None = None) -> list[Figure]:
    """Return the row's figures; blocks for minutes. Call it under `if __name__ == "__main__"`: engines are spawned.

    SIGTERM ends the engines before the process. Raises `asyncio.CancelledError` then.
    """

    async def run() -> list[Figure]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with RealBench(workload, step_log=step_log) as bench:
            return await measure(bench, repeats)

    return uvloop.run(run())
