"""Rows: the scheduler alone on instant models, how it grows with live dialogues, and what live dialogues take.

Turns per second are of one process on one core, whatever else the machine does. The machine's speed is measured beside
them by a fixed loop, so that a baseline holds on another machine (`calibrate`).
"""

import functools
import time

import msgspec
import uvloop

from benchmarks.figures import Figure, figure, ratio
from benchmarks.interleave import interleave
from benchmarks.live import TOKENS_PER_REPLY, MemoryFigures
from benchmarks.live import measure_memory as memory_of
from benchmarks.scheduler import SchedulerFigures, make_bench_plan, measure_plan

REPLIES = 20
MB = 1e6


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One way to load the scheduler. `max_turns` exchanges a session; 0 leaves the protocol's default."""

    protocol: str
    live: int
    episodes: int
    journal: bool
    max_turns: int = 0

    def measure(self) -> SchedulerFigures:
        """Play once, after a small run that compiles and imports what a run needs."""
        rules = {"max_turns": self.max_turns} if self.max_turns else {}
        plan = make_bench_plan(self.protocol, self.episodes, **rules)
        uvloop.run(measure_plan(plan, WARM_UP, live=WARM_UP, journal=self.journal, num_words=NUM_WORDS))
        return uvloop.run(measure_plan(plan, self.episodes, live=self.live, journal=self.journal, num_words=NUM_WORDS))


def loads(live: int, large: int, huge: int, arena: int) -> dict[str, Load]:
    """Return all ways by name; `live` dialogues in the headline figures, `large` and `huge` for growth and lag.

    Growth is measured on the same sessions, as many as `huge`, with fewer or with all of them live.
    """

    def sessions(live: int, episodes: int, *, journal: bool = False, max_turns: int = 0) -> Load:
        return Load(protocol="counseling", live=live, episodes=episodes, journal=journal, max_turns=max_turns)

    def whole(*, journal: bool) -> Load:
        return Load(protocol="mental_arena", live=arena, episodes=arena, journal=journal)

    return {
        "scheduler_turns_per_s": sessions(live, 4 * live),
        "scheduler_turns_per_s_journal": sessions(live, 3 * live, journal=True),
        "scheduler_arena_turns_per_s": whole(journal=False),
        "scheduler_arena_turns_per_s_journal": whole(journal=True),
        "large": sessions(large, large),
        "large_journal": sessions(large, large, journal=True),
        "huge_few": sessions(live, huge, max_turns=2),
        "huge_many": sessions(large, huge, max_turns=2),
        "huge": sessions(huge, huge, max_turns=2),
    }


WARM_UP = 20
NUM_WORDS = 16
FULL = loads(1000, 10_000, 100_000, 300)
BRIEF = loads(200, 400, 800, 30)
GOALS = {
    "scheduler_turns_per_s": 50_000.0,
    "scheduler_turns_per_s_journal": 20_000.0,
    "scheduler_arena_turns_per_s": 10_000.0,
    "scheduler_arena_turns_per_s_journal": 6_000.0,
}
LIMIT = "One Python core: generators, requests, routing, the loop; with a journal its encoding and SQLite's writes."


def calibrate(seconds: float = 0.2) -> float:
    """Return how many million steps of a fixed loop this machine makes per second, now and in this process."""
    begun, done = time.perf_counter(), 0
    found: dict[int, str] = {}
    while time.perf_counter() - begun < seconds:
        for step in range(1000):
            found[step % 97] = str(step) + found.get(step % 89, "")[:8]
        done += 1000
    return done / (time.perf_counter() - begun) / 1e6


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return turns per second of sessions and whole MentalArena episodes, loop lag, and growth with live dialogues."""
    chosen = BRIEF if brief else FULL
    speeds: list[float] = []

    def timed(load: Load) -> SchedulerFigures:
        speeds.append(calibrate())
        return load.measure()

    found = interleave({name: functools.partial(timed, load) for name, load in chosen.items()}, repeats)
    rates = {name: [one.turns_per_s for one in runs] for name, runs in found.items()}
    figures = [
        figure(name, "turns/s", rates[name], goal=goal, configuration=msgspec.to_builtins(chosen[name]), note=LIMIT)
        for name, goal in GOALS.items()
    ]
    figures += _lags(found, chosen)
    figures += [_growth(name, live, rates, chosen) for name, live in (("huge_many", "10k"), ("huge", "100k"))]
    return [*figures, figure("calibration", "million steps/s", speeds)]


def _lags(found: dict[str, list[SchedulerFigures]], chosen: dict[str, Load]) -> list[Figure]:
    names = {"large": "loop_lag_p99_ms", "large_journal": "loop_lag_p99_ms_journal"}
    return [
        figure(
            name,
            "ms",
            [1e3 * one.lag_p99_s for one in found[load]],
            goal=10.0,
            is_at_most=True,
            configuration=msgspec.to_builtins(chosen[load]),
            note="How late a 2 ms timer fires while the loop takes up, answers and ends dialogues in one process.",
        )
        for load, name in names.items()
    ]


def _growth(name: str, live: str, rates: dict[str, list[float]], chosen: dict[str, Load]) -> Figure:
    base = "huge_few"
    about = {"over": msgspec.to_builtins(chosen[name]), "under": msgspec.to_builtins(chosen[base])}
    note = "Every turn touches another dialogue: memory that no cache of the processor holds."
    goal = 0.85 if name == "huge" else None
    return ratio(f"scale_{live}_over_1k", rates[name], rates[base], goal=goal, configuration=about, note=note)


def measure_memory(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return resident memory of 100,000 live dialogues over idle, bare and after 20 replies of 115 tokens each."""
    live = 2000 if brief else 100_000
    contenders = {
        "memory_100k_mb": lambda: memory_of(live),
        "memory_100k_transcripts_mb": lambda: memory_of(live, replies=REPLIES),
        "memory_100k_transcripts_ids_mb": lambda: memory_of(live, replies=REPLIES, num_ids=TOKENS_PER_REPLY),
    }
    goals = {"memory_100k_mb": 400.0, "memory_100k_transcripts_mb": 1800.0, "memory_100k_transcripts_ids_mb": 1800.0}
    found = interleave(contenders, repeats)
    return [_memory(name, runs, goals[name], 100_000 / live) for name, runs in found.items()]


def _memory(name: str, runs: list[MemoryFigures], goal: float, factor: float) -> Figure:
    about = {"live": runs[0].live, "replies": runs[0].replies, "ids_per_reply": runs[0].num_ids}
    return figure(
        name,
        "MB",
        [factor * run.over_idle / MB for run in runs],
        goal=goal,
        is_at_most=True,
        configuration=about,
        note="Python objects of a live dialogue: generator frames, views, open steps, replies.",
    )
