"""Row: swapping weights under load, simulated: throughput after over before, how long replicas stand still, for every
policy; and whether a turn was lost or doubled, or an episode mixed without its record saying so.

The real scheduler, router and swap over simulated replicas. Throughput is completion tokens per virtual second: in the
two minutes before the swap is asked for, and in the five minutes from then on, whatever the swap does in them.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from benchmarks.figures import Figure, figure
from benchmarks.simulated.workload import H200_SHAPE, POOL, SESSIONS_GPU, Workload, seeded
from engine.admission import Admission
from engine.backend import Completion, Request
from engine.journal_off import JournalOff
from engine.metrics import Metrics
from engine.planning import RunCast
from engine.record import JOINT, EpisodeRecord
from engine.retry import RetryPolicy
from engine.scheduler import Scheduler
from engine.simulation.backend import WEIGHTS, SimulatedBackend
from engine.simulation.loop import VirtualClock, run_virtual
from engine.simulation.swap import SwapTimes
from engine.swap import SwapPolicy, SwapReport, Target

Kind = Literal["full", "lora"]
POLICIES: Final[tuple[SwapPolicy, ...]] = ("finish_on_old", "drain", "mix")
KINDS: Final[tuple[Kind, ...]] = ("full", "lora")
TARGETS: Final[dict[Kind, Target]] = {"full": Target("r1"), "lora": Target(WEIGHTS, "r1")}
LOAD_S: Final = 16e9 / 4e9
"""16 GB of weights read at 4 GB/s."""
TIMES: Final = SwapTimes(load_s=LOAD_S)
NOTE: Final = "Window: five virtual minutes from the moment the swap is asked for."


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is played around a swap. `warm_s`, `before_s` and `after_s` are the parts of a run, in virtual seconds."""

    workload: Workload
    replicas: int
    warm_s: float = 60.0
    before_s: float = 120.0
    after_s: float = 300.0


FULL: Final = Load(
    workload=msgspec.structs.replace(
        SESSIONS_GPU, num_episodes=20_000, shape=msgspec.structs.replace(H200_SHAPE, slots=16, num_blocks=8000)
    ),
    replicas=8,
)
BRIEF: Final = Load(
    workload=msgspec.structs.replace(
        SESSIONS_GPU,
        protocol=SESSIONS_GPU.protocol | {"max_turns": 4},
        num_episodes=600,
        shape=msgspec.structs.replace(H200_SHAPE, slots=6, num_blocks=1500),
    ),
    replicas=3,
    warm_s=5.0,
    before_s=10.0,
    after_s=30.0,
)


class SwapFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One run with one swap. Rates are completion tokens per virtual second; `live` dialogues when it was asked for."""

    report: SwapReport
    live: int
    before: float
    after: float
    num_lost: int
    num_doubled: int
    num_mixed: int
    num_unflagged: int

    @property
    def share(self) -> float:
        """Throughput after over before."""
        return self.after / self.before

    @property
    def stall_over_reading_s(self) -> float:
        """The longest that a replica stood still beyond the reading of files."""
        return max((row.stalled_s - row.loaded_s for row in self.report.replicas if row.stalled_s), default=0.0)


class Watched(SimulatedBackend):
    """A simulated pool that notes every request and what came of it."""

    asked: Counter[tuple[str, str, int]]
    answered: Counter[tuple[str, str]]
    truth: dict[str, set[str]]
    tokens: list[tuple[float, int]]

    async def submit(self, batch: Sequence[Request]) -> None:
        """Note what is asked."""
        self.asked.update(request.key for request in batch)
        await super().submit(batch)

    async def collect(self) -> list[Completion]:
        """Note what is answered, and under which versions."""
        done = await super().collect()
        now = asyncio.get_running_loop().time()
        for one in done:
            del self.asked[one.key]
            if one.reply is not None:
                self.answered[one.episode, one.path] += 1
                self.truth.setdefault(one.episode, set()).update(one.reply.weights.split(JOINT))
                self.tokens.append((now, one.reply.usage.completion_tokens))
        return done

    def rate(self, start: float, end: float) -> float:
        """Return completion tokens per second in a stretch of time."""
        return sum(tokens for at, tokens in self.tokens if start < at <= end) / (end - start)


class Records(JournalOff):
    """Keeps finished records."""

    is_kept = True

    def __init__(self) -> None:
        super().__init__()
        self.records: list[EpisodeRecord] = []

    def end(self, record: EpisodeRecord, done: Callable[[], None] | None = None) -> None:
        """Keep what the record says of versions and status."""
        self.records.append(msgspec.structs.replace(record, nodes=(), steps=()))
        super().end(record, done)


def make_pool(load: Load) -> Watched:
    """Return the replicas."""
    workload = load.workload
    pool = Watched(
        answers=workload.answers(),
        tokens=workload.make_tokens(),
        shape=workload.shape,
        coefficients=workload.coefficients,
        replicas=load.replicas,
        swap_times=TIMES,
    )
    pool.asked, pool.answered, pool.truth, pool.tokens = Counter(), Counter(), {}, []
    return pool


async def play(load: Load, policy: SwapPolicy, kind: Kind) -> SwapFigures:
    """Play on the running virtual loop, and swap once."""
    pool, journal, clock = make_pool(load), Records(), VirtualClock()
    plan = load.workload.plan()
    keys = load.workload.keys(plan)
    scheduler = Scheduler(
        cast=RunCast(plan),
        keys=keys,
        pools={POOL: pool},
        roles=plan.config.roles,
        embedder=None,
        journal=journal,
        admission=Admission(None),
        retry=RetryPolicy(),
        metrics=Metrics(now=0.0, total=len(keys)),
        clock=clock,
        request_timeout_s=1e7,
    )
    running = asyncio.ensure_future(scheduler.run())
    await clock.sleep(load.warm_s + load.before_s)
    live, begun = scheduler.num_live, clock.now()
    report = await pool.swap_to(TARGETS[kind], policy, lambda _: None)
    await clock.sleep(begun + load.after_s - clock.now())
    assert not running.done(), f"{load.workload.num_episodes} episodes must last through the run: add some"
    before, after = pool.rate(load.warm_s, begun), pool.rate(begun, begun + load.after_s)
    await _stop(scheduler, running)
    return _figures(report, live, before, after, pool, journal.records)


async def _stop(scheduler: Scheduler, running: "asyncio.Future[None]") -> None:
    scheduler.stop()
    await running


def _figures(
    report: SwapReport, live: int, before: float, after: float, pool: Watched, records: Sequence[EpisodeRecord]
) -> SwapFigures:
    waiting = sum(1 for key in pool.asked if not pool.is_open(key))
    mixed = [record for record in records if len(pool.truth[record.episode]) > 1]
    return SwapFigures(
        report=report,
        live=live,
        before=before,
        after=after,
        num_lost=waiting + sum(record.status != "completed" for record in records),
        num_doubled=sum(number > 1 for number in pool.answered.values()),
        num_mixed=len(mixed),
        num_unflagged=sum(set(record.weights) != pool.truth[record.episode] for record in records),
    )


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return the figures of every policy and kind; each repeat is another seed."""
    load = BRIEF if brief else FULL
    found: dict[tuple[SwapPolicy, Kind], list[SwapFigures]] = {}
    for kind in KINDS:
        for policy in POLICIES:
            found[policy, kind] = [
                run_virtual(play(msgspec.structs.replace(load, workload=seeded(load.workload, seed)), policy, kind))
                for seed in range(repeats)
            ]
    figures = [one for (policy, kind), runs in found.items() for one in _of_policy(load, policy, kind, runs)]
    every = [run for runs in found.values() for run in runs]
    zeros = {
        "swap_turns_lost_or_doubled": [run.num_lost + run.num_doubled for run in every],
        "swap_unflagged_mixed": [run.num_unflagged for run in every],
        "swap_mixed_without_mix": [
            run.num_mixed for (policy, _), runs in found.items() if policy != "mix" for run in runs
        ],
    }
    figures += [figure(name, "number", counts, goal=0.0, is_at_most=True) for name, counts in zeros.items()]
    return figures


def _of_policy(load: Load, policy: SwapPolicy, kind: Kind, runs: Sequence[SwapFigures]) -> list[Figure]:
    about = load.workload.configuration(
        replicas=load.replicas,
        live=runs[0].live,
        load_s=LOAD_S,
        swap_s=round(runs[0].report.elapsed_s, 2),
        paused_s=round(runs[0].report.paused_s, 2),
        mixed=runs[0].num_mixed,
    )
    name = f"{policy}_{kind}"
    return [
        figure(
            f"swap_throughput_{name}",
            "ratio",
            [run.share for run in runs],
            goal=None if policy == "drain" else 0.9,
            configuration=about,
            note=NOTE,
        ),
        figure(
            f"swap_stall_{name}_s",
            "s",
            [run.stall_over_reading_s for run in runs],
            goal=1.0,
            is_at_most=True,
            configuration=about,
            note="The longest that one replica stood still, beyond the reading of files.",
        ),
    ]
