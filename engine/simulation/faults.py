"""What goes wrong on a simulated replica, and when: a schedule made before the run, from a seed."""

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

FaultKind = Literal["death", "swap", "slow"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one replica (by index).

    `death` loses its requests and takes `duration_s` until the replica is ready again; `swap` pauses it for
    `duration_s` after the step at hand and changes its weights; `slow` makes every step `factor` times as long for
    `duration_s`.
    """

    at_s: float
    replica: int
    kind: FaultKind
    duration_s: float
    factor: float = 1.0


def draw_faults(
    seed: int,
    num_replicas: int,
    until_s: float,
    *,
    kinds: Sequence[FaultKind] = ("death", "swap", "slow"),
    mean_interval_s: float = 600.0,
    mean_duration_s: float = 30.0,
) -> tuple[Fault, ...]:
    """Return faults with exponential intervals per replica, never two at once on one replica, in order of time."""
    faults: list[Fault] = []
    for replica in range(num_replicas):
        draws = random.Random(f"faults:{seed}:{replica}")
        now = draws.expovariate(1 / mean_interval_s)
        while now < until_s:
            duration_s = draws.expovariate(1 / mean_duration_s)
            kind = draws.choice(list(kinds))
            factor = 1 + draws.expovariate(1.0) if kind == "slow" else 1.0
            faults.append(Fault(at_s=now, replica=replica, kind=kind, duration_s=duration_s, factor=factor))
            now += duration_s + draws.expovariate(1 / mean_interval_s)
    return tuple(sorted(faults, key=lambda fault: (fault.at_s, fault.replica)))
