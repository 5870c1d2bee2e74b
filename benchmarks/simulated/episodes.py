"""Rows: episodes per second of the pinned standard episode, and how throughput grows with replicas."""

import msgspec

from benchmarks.figures import Figure, figure
from benchmarks.simulated.product import Played, play
from benchmarks.simulated.recorder import Silent
from benchmarks.simulated.workload import ARENA, CPU_SHAPE, SESSIONS_GPU, Workload, seeded

ON_CPU = msgspec.structs.replace(ARENA, device="cpu", shape=CPU_SHAPE, num_episodes=64)
ON_H200 = ARENA
REPLICAS = (1, 2, 4, 8, 16, 32, 64)
EPISODES_PER_REPLICA = 256


def _runs(workload: Workload, repeats: int, replicas: int = 1) -> list[Played]:
    seeds = [seeded(workload, seed) for seed in range(repeats)]
    return [play(one, replicas=replicas, recorder=Silent(one.answers())) for one in seeds]


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return steady episodes per second and per hour of one simulated device, and tokens per second beside them."""
    found = []
    for name, workload in (("h200_8b", ON_H200), ("cpu", ON_CPU)):
        chosen = msgspec.structs.replace(workload, num_episodes=24 if brief else workload.num_episodes)
        runs = _runs(chosen, repeats)
        rates = [run.steady_episodes_per_s for run in runs]
        calls = len(runs[0].outcome.finishes) / chosen.num_episodes
        tokens = runs[0].demand.completion_tokens / chosen.num_episodes
        about = chosen.configuration(calls_per_episode=calls, completion_tokens_per_episode=tokens, replicas=1)
        found += [
            figure(f"episodes_per_s_simulated_{name}", "episodes/s", rates, configuration=about),
            figure(f"episodes_per_hour_simulated_{name}", "episodes/h", [3600 * r for r in rates], configuration=about),
            figure(
                f"tokens_per_s_simulated_{name}",
                "tokens/s",
                [run.outcome.steady_rate for run in runs],
                configuration=about,
            ),
        ]
    return found


def measure_replicas(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return steady tokens per second per replica at 1 to 64 replicas over that of one; sessions grow with them."""
    sizes = (1, 4) if brief else REPLICAS
    each = 64 if brief else EPISODES_PER_REPLICA
    shape = msgspec.structs.replace(SESSIONS_GPU.shape, slots=32)
    base = msgspec.structs.replace(SESSIONS_GPU, shape=shape, protocol=SESSIONS_GPU.protocol | {"max_turns": 4})
    rates = {}
    for size in sizes:
        workload = msgspec.structs.replace(base, num_episodes=each * size)
        rates[size] = [run.outcome.steady_rate for run in _runs(workload, repeats, size)]
    about = base.configuration(
        replicas=list(sizes),
        tokens_per_s=[sorted(rates[size])[len(rates[size]) // 2] for size in sizes],
        episodes_per_replica=each,
    )
    last = sizes[-1]
    shares = [over / (last * under) for over, under in zip(rates[last], rates[1], strict=True)]
    return [figure(f"scaling_simulated_{last}_replicas", "ratio", shares, goal=0.95, configuration=about)]
