"""Figures and records for tests of the harness."""

from typing import Any

from benchmarks.figures import Figure, Record, figure

MACHINE: dict[str, Any] = {"processor": "an <odd> | processor", "cores": "2", "code": "c0de", "brief": False}


def make_figure(name: str = "turns", *values: float, **changes: Any) -> Figure:
    return figure(name, changes.pop("unit", "turns/s"), values or (1.0, 2.0, 3.0), **changes)


def make_record(**rows: tuple[Figure, ...]) -> Record:
    return Record(date="2026-01-02T03:04:05Z", machine=MACHINE, rows=rows)
