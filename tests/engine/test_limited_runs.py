"""The loop under limits: nothing is sent beyond them, what is in flight is kept, nothing is asked twice."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.admission import Admission
from engine.backend import Failure, Request
from engine.clock import SystemClock
from engine.config_sections import LimitsConfig
from engine.journal import Journal
from engine.limits import Meter
from engine.metrics import Metrics
from engine.retry import RetryPolicy
from engine.rundir import RunDirectory
from engine.scheduler import Scheduler
from engine.scripted import ScriptedBackend, ScriptedEmbedder
from tests.engine.test_scheduler import ROLES, MakeCast, echo, make_keys, run_all

NUM_KEYS = 6
WHOLE = 6 * NUM_KEYS


@pytest.fixture
def rundir(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


class StepClock(SystemClock):
    """A clock that stands until it is told another time; sleeps end at once."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.at += max(seconds, 0.0)


def limited(journal: Journal, backends: dict[str, ScriptedBackend], meter: Meter, **options: Any) -> Scheduler:
    roles = ROLES if len(backends) == 1 else {"patient": "base", "therapist": "other"}
    return Scheduler(
        cast=MakeCast(),
        keys=make_keys(NUM_KEYS),
        pools=backends,
        roles=roles,
        embedder=ScriptedEmbedder(0.5),
        journal=journal,
        admission=Admission(4),
        retry=RetryPolicy(max_attempts=50, base_s=1.0),
        metrics=Metrics(now=0.0, total=NUM_KEYS),
        clock=options.get("clock") or SystemClock(),
        meter=meter,
    )


@pytest.mark.parametrize("max_calls", [1, 3, 4, 5, 17, WHOLE - 1])
@pytest.mark.parametrize("num_pools", [1, 2])
async def test_exactly_as_many_calls_are_sent_as_may_be(rundir: RunDirectory, max_calls: int, num_pools: int) -> None:
    backends = {name: ScriptedBackend(echo) for name in ("base", "other")[:num_pools]}
    journal = Journal.open(rundir)
    meter = Meter(LimitsConfig(max_calls=max_calls))
    await limited(journal, backends, meter).run()
    await journal.close()
    first = [request.key for backend in backends.values() for request in backend.requests]
    assert len(first) == max_calls == meter.spent(0.0).calls
    assert len(journal.ended()) < NUM_KEYS

    journal = Journal.open(rundir)
    live = journal.live_calls().values()
    assert sum(calls.calls for calls in live) + journal.totals().calls == max_calls
    await journal.close()
    second = ScriptedBackend(echo)
    records = await run_all(rundir, second, make_keys(NUM_KEYS))
    assert Counter(record.status for record in records) == {"completed": NUM_KEYS}
    assert not set(first) & {request.key for request in second.requests}
    assert len(first) + len(second.requests) == WHOLE


async def test_a_limit_that_is_just_enough_plays_everything(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(echo)
    journal = Journal.open(rundir)
    await limited(journal, {"base": backend}, Meter(LimitsConfig(max_calls=WHOLE))).run()
    assert len(journal.ended()) == NUM_KEYS and len(backend.requests) == WHOLE
    await journal.close()


async def test_what_is_in_flight_is_waited_for_and_kept(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(echo, is_held=True)
    journal = Journal.open(rundir)
    running = asyncio.ensure_future(limited(journal, {"base": backend}, Meter(LimitsConfig(max_calls=3))).run())
    await backend.arrived(3)
    for key in backend.open_keys:
        for _ in range(50):
            await asyncio.sleep(0)
        assert not running.done() and len(backend.requests) == 3
        backend.release(key)
    await running
    await journal.flush()
    assert sum(calls.calls for calls in journal.live_calls().values()) == 3
    await journal.close()


async def test_failed_attempts_are_calls_too(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(lambda _: Failure("replica_lost", "gone"))
    journal = Journal.open(rundir)
    meter = Meter(LimitsConfig(max_calls=20))
    await limited(journal, {"base": backend}, meter).run()
    assert len(backend.requests) == 20
    await journal.flush()
    assert sum(calls.calls for calls in journal.live_calls().values()) == 20
    await journal.close()


async def test_tokens_overshoot_by_what_was_in_flight_at_most(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(echo)
    journal = Journal.open(rundir)
    meter = Meter(LimitsConfig(max_tokens=1))
    await limited(journal, {"base": backend}, meter).run()
    assert 1 <= len(backend.requests) <= 4
    assert meter.spent(0.0).tokens >= 1
    await journal.close()


async def test_hours_end_a_run_that_only_waits_for_a_retry(rundir: RunDirectory) -> None:
    def refuse(_: Request) -> Failure:
        return Failure("rate_limited", "later", retry_after_s=60.0)

    backend = ScriptedBackend(refuse)
    journal = Journal.open(rundir)
    clock, meter = StepClock(), Meter(LimitsConfig(max_hours=50 / 3600))
    meter.begin(0.0)
    async with asyncio.timeout(20):
        await limited(journal, {"base": backend}, meter, clock=clock).run()
    assert len(backend.requests) == 4 and clock.now() >= 50
    assert journal.ended() == {}
    await journal.close()
