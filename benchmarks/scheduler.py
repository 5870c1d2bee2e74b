"""How many turns per second the scheduler plays when the models answer at once, and what it takes to do so.

    python -m benchmarks.scheduler [--protocol NAME] [--episodes N] [--live N] [--journal off] [--repeats N]

Sampled cases through the real scheduler and the real journal. A turn is one chat completion answered. One JSON object
per line: median, least and most of the repeats, with machine and versions. `measure_scheduler` is the function behind.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from benchmarks.instant import InstantBackend, InstantEmbedder, arena_player, talker
from benchmarks.machine import describe_machine
from engine.admission import Admission
from engine.clock import SystemClock
from engine.journal import Journal
from engine.journal_off import JournalOff
from engine.metrics import Metrics
from engine.planning import Plan, RunCast, make_plan
from engine.retry import RetryPolicy
from engine.rundir import RunDirectory
from engine.scheduler import Scheduler

MAX_CASES: Final = 500
LAG_EVERY_S: Final = 0.002


class SchedulerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One run against instant models. `lag_*_s` is how late a timer of 2 ms fired on the loop.

    `cpu_s` is processor time of all threads: steadier than `elapsed_s` on a machine that does other work.
    """

    turns: int
    episodes: int
    elapsed_s: float
    cpu_s: float
    turns_per_s: float
    lag_p50_s: float
    lag_p99_s: float
    lag_max_s: float


def make_bench_plan(protocol: str, num_episodes: int, **rules: object) -> Plan:
    """Return a plan of that many episodes over at most `MAX_CASES` sampled cases."""
    num_cases = min(num_episodes, MAX_CASES)
    table = {
        "protocol": {"name": protocol, **rules},
        "cases": {"source": "sampled", "limit": num_cases, "repeats": -(-num_episodes // num_cases)},
        "models": {"base": {"kind": "openai", "model": "instant"}},
        "roles": dict.fromkeys(("patient", "therapist", "judge")[: 3 if protocol == "mental_arena" else 2], "base"),
        "embedder": {"kind": "openai", "model": "instant"},
    }
    return make_plan(table, Path.cwd())


def make_scheduler(
    plan: Plan, num_episodes: int, journal: Journal | JournalOff, backend: InstantBackend, live: int
) -> Scheduler:
    """Return a scheduler of the plan's first episodes."""
    keys = [key for key, _ in zip(plan.roster(), range(num_episodes), strict=False)]
    return Scheduler(
        cast=RunCast(plan),
        keys=keys,
        pools={"base": backend},
        roles=plan.config.roles,
        embedder=InstantEmbedder(),
        journal=journal,
        admission=Admission(live),
        retry=RetryPolicy(),
        metrics=Metrics(now=0.0, total=len(keys)),
        clock=SystemClock(),
    )


async def watch_lag(lags: list[float]) -> None:
    """Note how late the loop wakes a timer, until cancelled."""
    while True:
        due = time.perf_counter() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lags.append(max(time.perf_counter() - due, 0.0))


async def measure_plan(plan: Plan, num_episodes: int, *, live: int, journal: bool, num_words: int) -> SchedulerFigures:
    """Play a plan's first episodes once."""
    say = arena_player(num_words) if plan.spec.name == "mental_arena" else talker(num_words)
    backend = InstantBackend(say)
    with tempfile.TemporaryDirectory() as scratch:
        store = Journal.open(RunDirectory.create(Path(scratch) / "run")) if journal else JournalOff()
        scheduler = make_scheduler(plan, num_episodes, store, backend, live)
        lags: list[float] = []
        watch = asyncio.ensure_future(watch_lag(lags))
        begun, cpu_begun = time.perf_counter(), time.process_time()
        await scheduler.run()
        elapsed_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
        watch.cancel()
        ended = store.ended()
        assert list(ended.values()).count("completed") == num_episodes, "an instant model must complete every episode"
        if isinstance(store, Journal):
            await store.close()
    lags = sorted(lags) or [0.0]  # a run may end before the first timer
    at = len(lags) - 1
    return SchedulerFigures(
        turns=backend.num_answered,
        episodes=num_episodes,
        elapsed_s=elapsed_s,
        cpu_s=cpu_s,
        turns_per_s=backend.num_answered / elapsed_s,
        lag_p50_s=lags[at // 2],
        lag_p99_s=lags[int(at * 0.99)],
        lag_max_s=lags[at],
    )


def measure_scheduler(
    protocol: str = "counseling",
    *,
    live: int = 1000,
    episodes: int = 2000,
    journal: bool = True,
    num_words: int = 16,
    repeats: int = 1,
) -> list[SchedulerFigures]:
    """Return the figures of each repeat, after one small run that compiles and imports what a run needs."""
    plan = make_bench_plan(protocol, episodes)
    few = min(episodes, 20)
    uvloop.run(measure_plan(plan, few, live=few, journal=journal, num_words=num_words))
    return [
        uvloop.run(measure_plan(plan, episodes, live=live, journal=journal, num_words=num_words))
        for _ in range(repeats)
    ]


def main() -> None:
    """Measure and print one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", default="counseling")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--live", type=int, default=1000)
    parser.add_argument("--words", type=int, default=16)
    parser.add_argument("--journal", choices=("on", "off"), default="on")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    figures = measure_scheduler(
        options.protocol,
        live=options.live,
        episodes=options.episodes,
        journal=options.journal == "on",
        num_words=options.words,
        repeats=options.repeats,
    )
    rates = [figure.turns_per_s for figure in figures]
    row = {
        "figure": f"scheduler, instant backend, {options.protocol}, journal {options.journal}",
        "unit": "turns/s",
        "median": round(statistics.median(rates)),
        "min": round(min(rates)),
        "max": round(max(rates)),
        "lag_p99_ms": round(1e3 * statistics.median(figure.lag_p99_s for figure in figures), 1),
        "lag_max_ms": round(1e3 * max(figure.lag_max_s for figure in figures), 1),
        "turns": figures[0].turns,
        "repeats": options.repeats,
        "episodes": options.episodes,
        "live": options.live,
        "words": options.words,
        "machine": describe_machine(),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
