"""A run on several schedulers: who plays which case, and the sum of what they report; pure.

Invariant: every key belongs to exactly one shard, and all tries and repeats of a case to the same one, so that a case's
prefix cache is shared and its journal is the one that admitted it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.metrics import Snapshot
from engine.planning import Plan, thaw_table
from engine.record import EpisodeKey
from engine.roster import Roster
from engine.run import Result
from engine.rundir import RunDirectory
from engine.totals import Totals


def slice_roster(plan: Plan, extra: Sequence[EpisodeKey], index: int, num_shards: int) -> Roster:
    """Return the episodes of shard `index`, in order: those of every so many-th case, and the extra tries of these."""
    cases = [case.id for case in plan.cases[index::num_shards]]
    known = set(cases)
    return Roster(cases, plan.config.cases.repeats, (key for key in extra if key.case in known))


def share_of(total: int, index: int, num_shards: int) -> tuple[int, int]:
    """Return the first of `total` things that are shard `index`'s, and how many are: shares differ by one at most."""
    first, end = (total * place // num_shards for place in (index, index + 1))
    return first, end - first


def sum_snapshots(parts: Sequence[Snapshot]) -> Snapshot:
    """Return what all shards show together: counts and rates add up, times and waits are the longest."""
    ended: Counter[str] = Counter()
    phases: Counter[str] = Counter()
    for part in parts:
        ended.update(part.ended)
        phases.update(part.phases)
    sums: dict[str, Any] = {name: sum(getattr(part, name) for part in parts) for name in _SUMMED}
    worst: dict[str, Any] = {name: max((getattr(part, name) for part in parts), default=0.0) for name in _WORST}
    prompt, cached = sums["prompt_tokens"], sums["cached_tokens"]
    etas = [part.eta_s for part in parts if part.eta_s is not None]
    return Snapshot(
        ended=dict(ended),
        phases=dict(phases),
        cached_share=cached / prompt if prompt else 0.0,
        eta_s=max(etas) if len(etas) == len(parts) else None,
        replicas=tuple(replica for part in parts for replica in part.replicas),
        **sums,
        **worst,
    )


_SUMMED = (
    *("total", "live", "calls", "turns", "retries", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("episodes_per_s", "turns_per_s", "prompt_tokens_per_s", "completion_tokens_per_s"),
)
_WORST = ("elapsed_s", "latency_p50_s", "latency_p99_s", "lag_p99_s")


def sum_results(parts: Sequence[Result], interrupted: int | None) -> Result:
    """Return what all shards did together; they ran side by side, so times are the longest."""
    episodes: Counter[str] = Counter()
    for part in parts:
        episodes.update(part.episodes)
    spent = [part.spent for part in parts if part.spent is not None]
    return Result(
        before=sum((part.before for part in parts), Totals()),
        after=sum((part.after for part in parts), Totals()),
        episodes=dict(episodes),
        startup_s=max((part.startup_s for part in parts), default=0.0),
        elapsed_s=max((part.elapsed_s for part in parts), default=0.0),
        num_unplayed=sum(part.num_unplayed for part in parts),
        interrupted=interrupted,
        spent=sum(spent[1:], spent[0]) if spent else None,
        reached=tuple(reached for part in parts for reached in part.reached),
    )


class ShardState(msgspec.Struct, frozen=True):
    """What a shard reports when asked: its latest snapshot, and the news that were not told yet."""

    snapshot: Snapshot
    news: tuple[str, ...]


class ShardTask(msgspec.Struct, frozen=True, kw_only=True):
    """What a shard is to play: the run's directory and resolved configuration, and which part of it.

    `paths` maps model name to local directory; `extra` are new tries of failed episodes, beside the first tries.
    `expected_context` is the plan's.
    """

    directory: str
    table: bytes
    paths: dict[str, str]
    index: int
    num_shards: int
    expected_context: int | None
    extra: tuple[EpisodeKey, ...] = ()


def thaw_task(task: ShardTask, rundir: RunDirectory) -> Plan:
    """Return the whole run's plan, as its driver has it. Raises as `thaw_table` does."""
    plan = thaw_table(rundir, msgspec.msgpack.decode(task.table))
    plan.expected_context = task.expected_context
    return plan
