"""One simulated run with a swap in the middle, played to its end, and what must hold of every such run."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.swap import Records, Watched
from engine.admission import Admission
from engine.metrics import Metrics
from engine.planning import RunCast
from engine.record import EpisodeRecord
from engine.retry import RetryPolicy
from engine.scheduler import Scheduler
from engine.simulation.answers import SampledAnswers
from engine.simulation.backend import WEIGHTS
from engine.simulation.jobs import Shape
from engine.simulation.lengths import LengthSampler
from engine.simulation.loop import VirtualClock, run_virtual
from engine.simulation.swap import Inject, SimulatedSwap, SwapTimes
from engine.simulation.tokens import Tokens
from engine.swap import SwapPolicy, SwapReport, Target
from engine.token_count import bytes_count
from tests.engine.simulation.making import STEADY, make_sim_plan

FULL, LORA = Target("r1"), Target(WEIGHTS, "r1")
SHAPE = Shape(slots=8, num_blocks=1200, block_size=16, step_tokens=512)
TIMES = SwapTimes(load_s=2.0, add_s=0.1, restart_s=5.0)


@dataclass
class Swapped:
    report: SwapReport
    records: list[EpisodeRecord]
    pool: Watched
    live: int
    at_s: float

    @property
    def mixed(self) -> set[str]:
        return {episode for episode, versions in self.pool.truth.items() if len(versions) > 1}


def make_pool(replicas: int, shape: Shape = SHAPE) -> Watched:
    pool = Watched(
        answers=SampledAnswers(0, LengthSampler(range(20, 60))),
        tokens=Tokens(bytes_count, shape.block_size),
        shape=shape,
        coefficients=STEADY,
        replicas=replicas,
        swap_times=TIMES,
    )
    pool.asked, pool.answered, pool.truth, pool.tokens = Counter(), Counter(), {}, []
    return pool


def swap_under_load(
    policy: SwapPolicy,
    target: Target = FULL,
    *,
    replicas: int = 3,
    episodes: int = 40,
    max_live: int = 20,
    at_s: float = 4.0,
    inject: Callable[[SimulatedSwap], Inject] | None = None,
    kills: tuple[tuple[float, int], ...] = (),
    during: Callable[[Watched], None] | None = None,
) -> Swapped:
    """Play every episode to its end and swap at `at_s`; `kills` are (seconds, replica), `during` looks at the pool."""

    async def run() -> Swapped:
        plan, clock, journal, pool = (
            make_sim_plan("counseling", episodes, {"max_turns": 4}),
            VirtualClock(),
            Records(),
            make_pool(replicas),
        )
        keys = list(plan.roster())
        scheduler = Scheduler(
            cast=RunCast(plan), keys=keys, pools={"base": pool}, roles=plan.config.roles, embedder=None,
            journal=journal, admission=Admission(max_live), retry=RetryPolicy(max_attempts=50),
            metrics=Metrics(now=0.0, total=len(keys)), clock=clock, request_timeout_s=1e7,
        )  # fmt: skip
        killer = SimulatedSwap(pool, TIMES)
        for when, number in kills:
            name = pool.engines[number % replicas].name
            asyncio.get_running_loop().call_at(when, killer.kill, name, TIMES.restart_s)
        if inject is not None:
            pool.inject = inject(killer)
        playing = asyncio.ensure_future(scheduler.run())
        await clock.sleep(at_s)
        live = scheduler.num_live
        swapping = asyncio.ensure_future(pool.swap_to(target, policy, lambda _: None))
        while during is not None and not playing.done():
            during(pool)
            await clock.sleep(0.05)
        report = await swapping
        await playing
        settled = max([clock.now(), *(when for when, _ in kills)]) + TIMES.restart_s + 1
        await clock.sleep(settled - clock.now())
        return Swapped(report, journal.records, pool, live, at_s)

    return run_virtual(run())


def require_sound(swapped: Swapped, episodes: int) -> None:
    """Nothing lost, doubled or unflagged; one version everywhere, the new one or the old."""
    pool, report = swapped.pool, swapped.report
    assert Counter(record.status for record in swapped.records) == {"completed": episodes}
    assert len({record.episode for record in swapped.records}) == episodes
    assert not pool.asked and set(pool.answered.values()) == {1}
    assert {record.episode: set(record.weights) for record in swapped.records} == pool.truth
    assert {gauges.weights for gauges in pool.replicas()} == {report.after}
    assert {gauges.state for gauges in pool.replicas()} == {"ready"}
    assert (report.after != report.before) == report.is_done
