"""The registry of rows: what can be measured, by name, in the order of the table. Importing it measures nothing.

A row is a blocking function of the number of repeats. Rows with a brief variant take `brief=True` as well: the same
figures from seconds of work, for tests and for a first look; never for the table.
"""

import importlib
from collections.abc import Callable

import msgspec

from benchmarks.figures import Figure
from benchmarks.real import GROUPS, PART_NAMES, REAL_EPISODES, REAL_EXAM, measure_named

Measure = Callable[[int, bool], list[Figure]]
REPEATS = 5


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row: how it is measured, whether briefly too, how often by default, and whether `all` means it too.

    `all` leaves out rows whose figures a wider row of it measures beside others. `minutes` is what it takes on two
    cores, rounded up.
    """

    measure: Measure
    has_brief: bool = False
    repeats: int = REPEATS
    is_in_all: bool = True
    minutes: int = 5


def _ours(place: str, *, repeats: int = REPEATS, minutes: int = 5) -> Row:
    def measure(count: int, is_brief: bool) -> list[Figure]:
        module, _, name = place.partition(":")
        found: list[Figure] = getattr(importlib.import_module(f"benchmarks.{module}"), name)(count, brief=is_brief)
        return found

    return Row(measure=measure, has_brief=True, repeats=repeats, minutes=minutes)


def _real(*names: str, repeats: int = REPEATS, is_in_all: bool = True, minutes: int = 30) -> Row:
    def measure(count: int, _: bool) -> list[Figure]:
        return measure_named(names, count)

    return Row(measure=measure, repeats=repeats, is_in_all=is_in_all, minutes=minutes)


def _accuracy(repeats: int, is_brief: bool) -> list[Figure]:
    from benchmarks.real.accuracy import measure

    return measure(repeats)


ROWS: dict[str, Row] = {
    "episodes": _ours("simulated.episodes:measure"),
    REAL_EPISODES: _real(REAL_EPISODES, repeats=1, minutes=31),
    **{name: _real(*parts, minutes=60 if name == "real" else 30) for name, parts in GROUPS.items()},
    **{name: _real(name, is_in_all=False) for name in PART_NAMES},
    REAL_EXAM: _real(REAL_EXAM, repeats=2, minutes=30),
    "real_accuracy": Row(measure=_accuracy, repeats=3, minutes=27),
    "efficiency_simulated": _ours("simulated.efficiency:measure"),
    "lockstep_simulated": _ours("simulated.rivals:measure_lockstep"),
    "gather_simulated": _ours("simulated.rivals:measure_gather"),
    "replicas_simulated": _ours("simulated.episodes:measure_replicas", repeats=3),
    "shards": _ours("simulated.sharded:measure", repeats=3, minutes=13),
    "controller": _ours("simulated.controller:measure"),
    "policies": _ours("simulated.policies:measure", repeats=3),
    "simulation_speed": _ours("simulated.efficiency:measure_speed"),
    "scheduler": _ours("scheduling:measure", minutes=9),
    "memory": _ours("scheduling:measure_memory", repeats=3, minutes=9),
    "ray_wire": _ours("wire:measure"),
    "resume": _ours("resume:measure", repeats=3),
    "stream": _ours("streaming:measure", minutes=6),
    "swap": _ours("swap:measure", repeats=2, minutes=16),
    "long_run": _ours("long_run:measure", repeats=1, minutes=30),
}
"""Every row by name, in the table's order."""
