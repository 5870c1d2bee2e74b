"""How many turns per second the scheduler plays when the models answer at once.

    python -m benchmarks.scheduler [--episodes N] [--live N] [--repeats N]

Counseling sessions of eight exchanges over sampled cases on a `ScriptedBackend`, through the real scheduler and the
real journal. One JSON object per line: median, least and most of the repeats, with machine and versions.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.machine import describe_machine
from engine.admission import Admission
from engine.clock import SystemClock
from engine.journal import Journal
from engine.metrics import Metrics
from engine.planning import Plan, RunCast, make_plan
from engine.retry import RetryPolicy
from engine.rundir import RunDirectory
from engine.scheduler import Scheduler
from engine.scripted import ScriptedBackend

ANSWER = "I hear you, and I would like to know a little more about how that was for you."


def make_bench_plan(num_episodes: int) -> Plan:
    """Return a plan of that many counseling sessions."""
    table = {
        "protocol": {"name": "counseling"},
        "cases": {"source": "sampled", "limit": min(num_episodes, 500), "repeats": -(-num_episodes // 500)},
        "models": {"base": {"kind": "openai", "model": "scripted"}},
        "roles": {"patient": "base", "therapist": "base"},
    }
    return make_plan(table, Path.cwd())


async def measure(plan: Plan, num_episodes: int, max_live: int) -> float:
    """Play the plan once; return turns per second."""
    with tempfile.TemporaryDirectory() as scratch:
        journal = Journal.open(RunDirectory.create(Path(scratch) / "run"))
        backend = ScriptedBackend(ANSWER)
        keys = [key for key, _ in zip(plan.keys(), range(num_episodes), strict=False)]
        scheduler = Scheduler(
            cast=RunCast(plan),
            keys=keys,
            pools={"base": backend},
            roles=plan.config.roles,
            embedder=None,
            journal=journal,
            admission=Admission(max_live),
            retry=RetryPolicy(),
            metrics=Metrics(now=0.0, total=len(keys)),
            clock=SystemClock(),
        )
        begun = time.perf_counter()
        await scheduler.run()
        elapsed = time.perf_counter() - begun
        assert len(journal.ended()) == len(keys)
        await asyncio.shield(journal.close())
        return len(backend.requests) / elapsed


def main() -> None:
    """Measure and print one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--live", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    plan = make_bench_plan(options.episodes)
    rates = [uvloop.run(measure(plan, options.episodes, options.live)) for _ in range(options.repeats)]
    row = {
        "figure": "scheduler, instant backend, journal on",
        "unit": "turns/s",
        "median": round(statistics.median(rates)),
        "min": round(min(rates)),
        "max": round(max(rates)),
        "repeats": options.repeats,
        "episodes": options.episodes,
        "live": options.live,
        "machine": describe_machine(),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
