"""Row: how well the simulation predicts real runs that it was not fitted to.

Step times are fitted to the steps of one recorded run (live = slots). Five other runs are then played for real and
simulated: a quarter and four times as many live dialogues, replies half and twice as long, and a KV cache of a third
of the working set. The simulation is given the replies' lengths, which nobody can know beforehand, and nothing else
of the run that it predicts.
"""

import asyncio
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import msgspec

from benchmarks.figures import Figure, figure
from benchmarks.interleave import turns
from benchmarks.real.bench import Cache, RealBench
from benchmarks.real.product import Played
from benchmarks.real.running import run_row
from benchmarks.real.workload import POOL, Workload
from benchmarks.trace import Call
from engine.planning import make_plan
from engine.simulation.latency import Coefficients, StepRecord, fit, read_steps
from engine.simulation.pools import Settings
from engine.simulation.simulate import simulate

Lengthen: TypeAlias = Callable[[tuple[int, ...]], tuple[int, ...]]
WORKLOAD: Final = Workload(num_dialogues=32)
NOTE: Final = (
    "Of one run to the next the machine itself differs by several percent; medians of few runs keep some of that."
)


class Run(msgspec.Struct, frozen=True):
    """One run: how many dialogues live per slot (None: as admission sees fit), what becomes of replies, which cache."""

    name: str
    live_per_slot: float | None = 1
    lengthen: Lengthen = lambda ids: ids
    cache: Cache = "ample"

    def max_live(self, slots: int) -> int | None:
        """Return the bound on live dialogues."""
        return None if self.live_per_slot is None else max(round(self.live_per_slot * slots), 1)


RECORDED: Final = Run("recorded")
HELD_OUT: Final = (
    Run("a quarter live", 0.25),
    Run("four times live", 4),
    Run("half as long", lengthen=lambda ids: ids[: max(len(ids) // 2, 1)]),
    Run("twice as long", lengthen=lambda ids: ids[:-1] + ids),
    Run("a third of the cache", None, cache="tight"),
)


def measure(repeats: int) -> list[Figure]:
    """Return the row's figures; blocks for minutes."""
    with TemporaryDirectory(prefix="sandplay-bench-") as scratch:
        return run_row(measure_accuracy, repeats, WORKLOAD, Path(scratch) / "steps.jsonl")


async def measure_accuracy(bench: RealBench, repeats: int) -> list[Figure]:
    """Return the errors of episodes per second on held-out runs in percent, median and worst, and that of the fit.

    All runs take turns, the recorded one too: the fit is over all its steps, and each run's rate is the median, so that
    the machine's own ups and downs do not count as errors of the simulation.
    """
    runs = {run.name: run for run in (RECORDED, *HELD_OUT)}
    for cache in dict.fromkeys(run.cache for run in HELD_OUT):
        await bench.warm_up(await bench.in_process(cache))
    steps: list[StepRecord] = []
    played: dict[str, list[Played]] = {name: [] for name in runs}
    for number, name in turns([*runs], repeats):
        num_steps = len(_steps(bench))
        played[name].append(await _play(bench, runs[name]))
        bench.say(f"{name} {number + 1}/{repeats}: {played[name][-1].episodes_per_s:.4f} episodes/s")
        if name == RECORDED.name:
            steps += _steps(bench)[num_steps:]
    fitted = fit(steps, "the recorded run")
    errors = {name: await _error(bench, run, played[name], fitted) for name, run in runs.items()}
    rates = {name: [one.episodes_per_s for one in some] for name, some in played.items()}
    about = bench.configuration(fit=msgspec.to_builtins(fitted), errors_pct=errors, episodes_per_s=rates)
    held_out = [abs(errors[run.name]) for run in HELD_OUT]

    def error(name: str, value: float, goal: float | None) -> Figure:
        return figure(name, "%", [value], goal=goal, is_at_most=True, configuration=about, note=NOTE)

    return [
        error("simulation_error_pct", statistics.median(held_out), 2.0),
        error("simulation_error_worst_pct", max(held_out), 5.0),
        error("simulation_error_recorded_pct", abs(errors[RECORDED.name]), None),
    ]


def _steps(bench: RealBench) -> list[StepRecord]:
    """Return the steps of the ample engine so far; the warm-up has made some."""
    assert bench.step_log is not None
    return read_steps(bench.step_log)


async def _play(bench: RealBench, run: Run) -> Played:
    """Play a run for real, the replica in this process."""
    backend = await bench.in_process(run.cache)
    calls = [_lengthened(call, run.lengthen) for call in bench.trace.calls]
    return await bench.player.replay(backend, calls, run.max_live(bench.workload.slots))


def _lengthened(call: Call, lengthen: Lengthen) -> Call:
    return msgspec.structs.replace(call, completion_ids=lengthen(call.completion_ids))


async def _error(bench: RealBench, run: Run, played: Sequence[Played], coefficients: Coefficients) -> float:
    """Return by how many percent the simulation's episodes per second exceed the real runs' median."""
    plan = make_plan(await _table(bench, run), Path.cwd())
    settings = Settings(coefficients=coefficients, records=played[0].records, is_replay=True)
    # In a thread of its own: the simulation runs on its own loop.
    predicted = (await asyncio.to_thread(simulate, plan, settings)).episodes_per_s
    measured = statistics.median(one.episodes_per_s for one in played)
    error = 100 * (predicted / measured - 1)
    bench.say(f"{run.name}: {measured:.4f} episodes/s, predicted {predicted:.4f} ({error:+.1f} %)")
    return error


async def _table(bench: RealBench, run: Run) -> dict[str, Any]:
    """Return the run's configuration as a user would write it for `sandplay simulate`."""
    workload = bench.workload
    gauges = (await bench.in_process(run.cache)).replicas()[0]
    assert gauges.kv_tokens is not None
    model = {
        "kind": "vllm",
        "model": str(bench.path),
        "max_model_len": workload.max_model_len,
        "max_num_seqs": workload.slots,
        "block_size": workload.block_size,
        "num_gpu_blocks_override": gauges.kv_tokens // workload.block_size,
    }
    max_live = run.max_live(workload.slots)
    return {
        **workload.table(),
        "models": {POOL: model},
        "scheduler": {"max_live": "auto" if max_live is None else max_live},
    }
