"""The one schema of every benchmark: figures with their spread, what they were measured on, and what was aimed at.

A row is a named function that measures; it returns figures. A record is one run of rows on one machine. Figures made
from two contenders carry the hash of the trace both replayed, and refuse to exist when the traces differ.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number. `values` are the repeats in order; `goal` is what it should reach, `is_at_most` its side.

    `trace` is the hash of the replayed calls, "" where nothing is replayed. `note` says what limits a missed goal.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    median: float
    min: float
    max: float
    repeats: int
    goal: float | None = None
    is_at_most: bool = False
    configuration: dict[str, Any] = {}
    trace: str = ""
    note: str = ""

    @property
    def is_reached(self) -> bool | None:
        """Whether the median reaches the goal, None without one."""
        if self.goal is None:
            return None
        return self.median <= self.goal if self.is_at_most else self.median >= self.goal


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `sandplay bench`: `rows` maps row name to its figures. `date` is ISO 8601, UTC."""

    date: str
    machine: dict[str, Any]
    rows: dict[str, tuple[Figure, ...]]


def figure(
    name: str,
    unit: str,
    values: Sequence[float],
    *,
    goal: float | None = None,
    is_at_most: bool = False,
    configuration: Mapping[str, Any] | None = None,
    trace: str = "",
    note: str = "",
) -> Figure:
    """Return the figure of these repeats. Raises ValueError when there are none."""
    if not values:
        raise ValueError(f"{name} must have at least one measurement, got none")
    return Figure(
        name=name,
        unit=unit,
        values=tuple(values),
        median=statistics.median(values),
        min=min(values),
        max=max(values),
        repeats=len(values),
        goal=goal,
        is_at_most=is_at_most,
        configuration=dict(configuration or {}),
        trace=trace,
        note=note,
    )


def ratio(
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    *,
    traces: tuple[str, str] = ("", ""),
    goal: float | None = None,
    configuration: Mapping[str, Any] | None = None,
    note: str = "",
) -> Figure:
    """Return over / under, repeat by repeat: both were measured interleaved, so noise of the machine cancels.

    Raises ValueError when the two did not replay the same trace, or were not repeated alike.
    """
    if traces[0] != traces[1]:
        raise ValueError(f"{name} must compare equal traces, got {traces[0][:12]} and {traces[1][:12]}: record again")
    values = [above / below for above, below in zip(over, under, strict=True)]
    return figure(name, "ratio", values, goal=goal, configuration=configuration, trace=traces[0], note=note)
