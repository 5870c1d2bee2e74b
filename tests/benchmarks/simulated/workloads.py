"""Small workloads: fractions of a second each."""

import msgspec

from benchmarks.simulated.workload import ARENA, SESSIONS_CPU, Workload
from engine.simulation.jobs import Shape

SHAPE = Shape(slots=4, num_blocks=400, block_size=16, step_tokens=512)


def make_sessions(num_episodes: int = 12, seed: int = 0, **changes: int) -> Workload:
    shape = msgspec.structs.replace(SHAPE, **changes)
    return msgspec.structs.replace(SESSIONS_CPU, num_episodes=num_episodes, shape=shape, seed=seed)


def make_arena(num_episodes: int = 2) -> Workload:
    shape = msgspec.structs.replace(SHAPE, num_blocks=4000, step_tokens=2048)
    return msgspec.structs.replace(ARENA, num_episodes=num_episodes, shape=shape)
