"""What a simulated run says: rates, cache, load, tail, and the one thing that limits it; pure figures.

Times are virtual seconds. Knows nothing of how the run was simulated.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from engine.metrics import Snapshot
from engine.record import Status
from engine.simulation.backend import SimulatedBackend
from engine.simulation.latency import PICOSECONDS

EDGE: Final = 0.05
"""Share of the episodes at either end that the steady state leaves out."""


class Course(msgspec.Struct):
    """What was seen while the run was played: when episodes began and ended, how many lived, when the tail began."""

    began: dict[str, float] = {}
    ended: list[tuple[float, str, Status]] = []
    max_live: int = 0
    tail_from: float | None = None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated run.

    `steady_episodes_per_s` leaves out the first and last 5 % of the episodes. `hit_ratio` is the prefix hits over what
    a cache that forgets nothing would have hit, whole blocks only. `tail_s` runs from when free slots first exceed the
    episodes left. `busy_ratio` is the busiest replica's time over the mean. Shares are of slots, blocks or time.
    """

    replicas: int
    episodes: int
    completed: int
    failed: int
    elapsed_s: float
    episodes_per_s: float
    steady_episodes_per_s: float
    calls_per_s: float
    turns_per_s: float
    completion_tokens_per_s: float
    prompt_tokens_per_s: float
    calls: int
    retries: int
    cached_share: float
    hit_ratio: float
    preemptions_per_1000: float
    busy_ratio: float
    busy_share: float
    slot_share: float
    kv_share: float
    tail_s: float
    longest_episode_s: float
    max_live: int
    limited_by: str
    assumptions: list[str] = []
    real_s: float = 0.0
    speedup: float = 0.0


def predict(
    pools: Mapping[str, SimulatedBackend], course: Course, snapshot: Snapshot, total: int, max_live: int | None
) -> Prediction:
    """Sum up a finished run. `max_live` is the configured bound, None for one by KV."""
    figures = _sum_up(pools, course, snapshot, total)
    engines = [engine for pool in pools.values() for engine in pool.engines]
    engine_time = len(engines) * figures.elapsed_s * PICOSECONDS
    full = sum(engine.tally.full_ps for engine in engines) / engine_time
    blocked = sum(engine.tally.blocked_ps for engine in engines) / engine_time
    return msgspec.structs.replace(figures, limited_by=name_limit(figures, full, blocked, max_live))


def _sum_up(pools: Mapping[str, SimulatedBackend], course: Course, snapshot: Snapshot, total: int) -> Prediction:
    elapsed = max(snapshot.elapsed_s, 1e-9)
    engines = [engine for pool in pools.values() for engine in pool.engines]
    tallies = [engine.tally for engine in engines]
    demands = [pool.demand for pool in pools.values()]
    prompt = sum(demand.prompt_tokens for demand in demands)
    cached = sum(demand.cached_tokens for demand in demands)
    calls = sum(demand.num_requests for demand in demands)
    busy = [tally.busy_ps for tally in tallies]
    slots = sum(engine.shape.slots for engine in engines)
    blocks = sum(engine.pool.size for engine in engines)
    virtual_ps = elapsed * PICOSECONDS
    return Prediction(
        replicas=len(engines),
        episodes=total,
        completed=sum(status == "completed" for _, _, status in course.ended),
        failed=sum(status == "failed" for _, _, status in course.ended),
        elapsed_s=elapsed,
        episodes_per_s=len(course.ended) / elapsed,
        steady_episodes_per_s=steady_rate([at for at, _, _ in course.ended]),
        calls_per_s=calls / elapsed,
        turns_per_s=snapshot.turns / elapsed,
        completion_tokens_per_s=sum(demand.completion_tokens for demand in demands) / elapsed,
        prompt_tokens_per_s=prompt / elapsed,
        calls=calls,
        retries=snapshot.retries,
        cached_share=_ratio(cached, prompt),
        hit_ratio=_ratio(cached, sum(demand.possible_tokens for demand in demands)),
        preemptions_per_1000=1000 * _ratio(sum(tally.preemptions for tally in tallies), calls),
        busy_ratio=_ratio(max(busy) * len(busy), sum(busy)),
        busy_share=sum(busy) / (len(engines) * virtual_ps),
        slot_share=sum(tally.slot_ps for tally in tallies) / (slots * virtual_ps),
        kv_share=sum(tally.block_ps for tally in tallies) / (blocks * virtual_ps),
        tail_s=elapsed - course.tail_from if course.tail_from is not None else 0.0,
        longest_episode_s=max((at - course.began[name] for at, name, _ in course.ended), default=0.0),
        max_live=course.max_live,
        limited_by="",
    )


def name_limit(figures: Prediction, full: float, blocked: float, max_live: int | None) -> str:
    """Return what limits a run, in one line.

    `full` is the share of time in which every slot of a replica was taken, `blocked` in which requests waited for KV.
    """
    is_held_back = figures.max_live < figures.episodes
    if figures.longest_episode_s >= 0.7 * figures.elapsed_s:
        share = figures.longest_episode_s / figures.elapsed_s
        return f"critical path: the longest episode takes {share:.0%} of the run; play more episodes at once"
    if figures.tail_s >= 0.5 * figures.elapsed_s:
        return f"tail: slots are free for {figures.tail_s / figures.elapsed_s:.0%} of the run; play more episodes"
    if full >= 0.5:
        return f"compute: every slot is taken {full:.0%} of the time; add replicas or slots"
    if is_held_back and max_live is not None and figures.max_live >= max_live:
        return f"admission cap: scheduler.max_live = {max_live} leaves slots free; raise it"
    if is_held_back or blocked >= 0.2:
        return f"kv: the KV cache admits {figures.max_live} dialogues at once; give it more blocks or add replicas"
    if figures.busy_share >= 0.9:
        return f"compute: the engines work {figures.busy_share:.0%} of the time; add replicas"
    return "critical path: every episode is live and slots are free; play more episodes at once"


def steady_rate(ends: Sequence[float]) -> float:
    """Return episodes per second between the first and last 5 % of the ends, given in order; 0 below ten."""
    first, last = round(EDGE * len(ends)), round((1 - EDGE) * len(ends)) - 1
    if len(ends) < 10 or ends[last] <= ends[first]:
        return 0.0
    return (last - first) / (ends[last] - ends[first])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
