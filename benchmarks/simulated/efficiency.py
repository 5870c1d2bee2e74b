"""Row: the simulated product against the bare simulated replica fed the same calls at once, in the best of orders."""

import msgspec

from benchmarks.figures import Figure, figure, ratio
from benchmarks.real.outcome import Outcome
from benchmarks.simulated.contenders import Calls
from benchmarks.simulated.product import Played, play
from benchmarks.simulated.recorder import Recorder, Silent, trace_of
from benchmarks.simulated.workload import CPU_SHAPE, SESSIONS_CPU, Workload, seeded
from engine.admission import Admission

GOAL = 0.98
SHAPES = {16: CPU_SHAPE, 64: msgspec.structs.replace(CPU_SHAPE, slots=64, num_blocks=4 * CPU_SHAPE.num_blocks)}
WIDE = msgspec.structs.replace(SESSIONS_CPU, shape=SHAPES[64], num_episodes=2048)
POINTS: dict[str, tuple[Workload, int]] = {
    "efficiency_steady_simulated": (SESSIONS_CPU, 4),
    "efficiency_steady_simulated_live_slots": (SESSIONS_CPU, 1),
    "efficiency_steady_simulated_live_16x": (SESSIONS_CPU, 16),
    "efficiency_steady_simulated_64_slots": (WIDE, 4),
}
"""Figure name to (workload, live dialogues per slot)."""


def contest(workload: Workload, live_per_slot: int) -> tuple[Played, Outcome, str]:
    """Return the product's run, the bare replica's best, and the order that was best."""
    recorder = Recorder(workload.answers())
    mine = play(workload, admission=Admission(live_per_slot * workload.shape.slots), recorder=recorder)
    calls = Calls(workload)
    orders = {
        "as recorded": list(recorder.works),
        "turn by turn": calls.by_turn(),
        "dialogue by dialogue": calls.by_dialogue(),
        "in groups of 2 x slots": calls.by_groups(2 * workload.shape.slots),
        "in groups of 4 x slots": calls.by_groups(4 * workload.shape.slots),
    }
    tried = {name: calls.bare(order) for name, order in orders.items()}
    best = max(tried, key=lambda name: tried[name].steady_rate)
    return mine, tried[best], best


def efficiency(name: str, workload: Workload, live_per_slot: int, repeats: int) -> list[Figure]:
    """Return steady rate over the ceiling's steady rate, one value per seed."""
    found = [contest(seeded(workload, seed), live_per_slot) for seed in range(repeats)]
    mine, best = [one.outcome for one, _, _ in found], [one for _, one, _ in found]
    about = workload.configuration(
        live_per_slot=live_per_slot,
        orders=[order for _, _, order in found],
        cached=mine[-1].cached_tokens,
        ceiling_cached=best[-1].cached_tokens,
    )
    over, under = [one.steady_rate for one in mine], [one.steady_rate for one in best]
    traces = (trace_of(mine), trace_of(best))
    return [ratio(name, over, under, traces=traces, goal=GOAL, configuration=about, note=NOTE)]


NOTE = "The wire's 2 ms a call, where no call waits at the replica for a free slot."


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return efficiency at live = slots, 4 x and 16 x slots, and with 64 slots."""
    if brief:
        small = msgspec.structs.replace(SESSIONS_CPU, num_episodes=128)
        return efficiency("efficiency_steady_simulated", small, 4, repeats)
    return [one for name, (workload, live) in POINTS.items() for one in efficiency(name, workload, live, repeats)]


def measure_speed(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return virtual seconds per real second: one recorded CPU replica under the scheduler."""
    workload = msgspec.structs.replace(SESSIONS_CPU, num_episodes=128 if brief else 1024)
    found = [play(workload, recorder=Silent(workload.answers())) for _ in range(repeats)]
    speeds = [one.outcome.wall_s / one.real_s for one in found]
    turns = [len(one.outcome.finishes) / one.real_s for one in found]
    about = workload.configuration()
    return [
        figure("simulation_speed", "x real time", speeds, goal=1000.0, configuration=about, note=SPEED_NOTE),
        figure("simulation_turns_per_s", "turns/s", turns, configuration=about),
    ]


SPEED_NOTE = "One Python process; most of it is the scheduler itself, which is the real one."
