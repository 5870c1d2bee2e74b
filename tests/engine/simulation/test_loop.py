import asyncio
import time

import pytest

from engine.simulation.loop import Deadlock, VirtualClock, run_virtual


def test_a_year_passes_in_no_time_and_in_order() -> None:
    async def sleepers() -> tuple[list[int], float]:
        clock, woke = VirtualClock(), []

        async def sleeper(days: int) -> None:
            await clock.sleep(days * 86_400.0)
            woke.append(days)

        await asyncio.gather(*map(sleeper, (365, 1, 30, 7)))
        return woke, clock.now()

    begun = time.perf_counter()
    woke, now = run_virtual(sleepers())
    assert woke == [1, 7, 30, 365]
    assert now == pytest.approx(365 * 86_400.0)
    assert time.perf_counter() - begun < 5


def test_unix_time_and_monotonic_time_pass_alike() -> None:
    async def both() -> tuple[float, float]:
        clock = VirtualClock(epoch=1000.0)
        await clock.sleep(2.5)
        return clock.now(), clock.time()

    assert run_virtual(both()) == (2.5, 1002.5)


def test_nothing_scheduled_is_a_deadlock_that_names_the_waiting_task() -> None:
    async def stuck() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("the stuck one")
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="the stuck one"):
        run_virtual(stuck())


def test_threads_are_refused() -> None:
    async def threaded() -> None:
        await asyncio.to_thread(time.time)

    with pytest.raises(RuntimeError, match="must not use threads"):
        run_virtual(threaded())


def test_a_virtual_clock_needs_a_virtual_loop() -> None:
    async def make() -> None:
        VirtualClock()

    with pytest.raises(RuntimeError, match="VirtualLoop"):
        asyncio.run(make())


def test_timeouts_run_in_virtual_time() -> None:
    async def timed() -> float:
        try:
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        return asyncio.get_running_loop().time()

    assert run_virtual(timed()) == pytest.approx(3600)
