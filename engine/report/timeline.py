"""What `metrics.jsonl` says of a run over time, schedulers added up, pauses left out.

Reads a bounded number of lines, spread over the file, whatever its length. Times are seconds of being played: from one
interruption to the next resume none pass.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from engine.metrics import last_line
from engine.page.plots import Series

MAX_LINES: Final = 1000
"""Lines read of one file; a line is about 3 kB, and a week at the default interval has 120,000."""
WHOLE_BYTES: Final = 1 << 22
"""Files up to this size are read whole."""
MAX_POINTS: Final = 240
DRIFT_S: Final = 5.0
"""A clock moves less than this against another while a run is played: more is another invocation."""
PHASE: Final = "phases/live/"
Gauges = dict[str, float | None]


class Stretch(msgspec.Struct):
    """What one scheduler logged in one invocation; `began_at` is Unix time."""

    began_at: float
    lines: list[Gauges]

    @property
    def ended_at(self) -> float:
        """Unix time of the last line."""
        return self.lines[-1]["time"] or 0.0


class Timeline:
    """The logs of a run, one per scheduler, put together."""

    def __init__(self, logs: Sequence[Sequence[Gauges]]) -> None:
        self._logs = [stretches_of(lines) for lines in logs]
        self._busy = merged([(one.began_at, one.ended_at) for log in self._logs for one in log])

    @classmethod
    def read(cls, paths: Sequence[Path]) -> "Timeline":
        """Return what these logs hold; one that is not there or cannot be read holds nothing."""
        return cls([read_lines(path) for path in paths])

    @property
    def num_lines(self) -> int:
        """Lines looked at."""
        return sum(len(one.lines) for log in self._logs for one in log)

    @property
    def began_at(self) -> float | None:
        """Unix time at which it was first played, None without a log."""
        return self._busy[0][0] if self._busy else None

    @property
    def ended_at(self) -> float | None:
        """Unix time of the last line."""
        return self._busy[-1][1] if self._busy else None

    @property
    def played_s(self) -> float:
        """Seconds in which any scheduler played."""
        return sum(end - start for start, end in self._busy)

    @property
    def resumed_s(self) -> list[float]:
        """When it went on after a pause."""
        return [self._played(start) for start, _ in self._busy[1:]]

    def paused_s(self, start: float, end: float) -> float:
        """Return the seconds between two moments (Unix time) in which nobody played."""
        pauses = ((before[1], after[0]) for before, after in pairwise(self._busy))
        return sum(max(min(end, until) - max(start, since), 0.0) for since, until in pauses)

    def series(self, name: str, label: str = "") -> Series:
        """Return a gauge over the time played, summed over schedulers."""
        places = [(self._played(line["time"] or 0.0), line.get(name)) for log in self._logs for line in _flat(log)]
        if len(self._logs) == 1 and len(places) <= MAX_POINTS:
            return Series(label=label, points=places)
        return Series(label=label, points=self._binned(name))

    def _binned(self, name: str) -> list[tuple[float, float | None]]:
        """Return means over equal spans of time, one scheduler's last known value standing in where it said nothing."""
        longest = max((len(_flat(log)) for log in self._logs), default=0)
        num = max(min(MAX_POINTS, longest), 1)
        width = self.played_s / num or 1.0
        sums: list[float | None] = [None] * num
        for log in self._logs:
            found: dict[int, list[float]] = {}
            for line in _flat(log):
                if (value := line.get(name)) is not None:
                    place = min(int(self._played(line["time"] or 0.0) / width), num - 1)
                    found.setdefault(place, []).append(value)
            last = 0.0
            for place in range(min(found, default=0), max(found, default=-1) + 1):
                last = sum(found[place]) / len(found[place]) if place in found else last
                sums[place] = (sums[place] or 0.0) + last
        return [((place + 0.5) * width, total) for place, total in enumerate(sums)]

    def phase_seconds(self) -> dict[str, float]:
        """Return how long dialogues stood in each phase, all of them together (dialogue-seconds), in order seen."""
        spent: dict[str, float] = {}
        for stretch in (one for log in self._logs for one in log):
            before: Gauges = {"time": stretch.began_at}
            for line in stretch.lines:
                elapsed = max((line["time"] or 0.0) - (before["time"] or 0.0), 0.0)
                for name in line:
                    if name.startswith(PHASE):
                        phase, mean = name.removeprefix(PHASE), ((before.get(name) or 0.0) + (line[name] or 0.0)) / 2
                        spent[phase] = spent.get(phase, 0.0) + elapsed * mean
                before = line
        return spent

    def _played(self, time: float) -> float:
        """Return the seconds played until then."""
        return sum(max(min(end, time) - start, 0.0) for start, end in self._busy if start <= time)


def stretches_of(lines: Sequence[Gauges]) -> list[Stretch]:
    """Return the invocations behind a log's lines, which say when they were written and how long it had played."""
    found: list[Stretch] = []
    for line in lines:
        time, elapsed = line.get("time"), line.get("run/elapsed_s")
        if time is None or elapsed is None:
            continue
        began_at = time - elapsed
        if found and _goes_on(found[-1], began_at, time, elapsed):
            found[-1].lines.append(line)
        else:
            found.append(Stretch(began_at, [line]))
    return found


def _goes_on(stretch: Stretch, began_at: float, time: float, elapsed: float) -> bool:
    """Whether a line is of the same invocation: one that began again counts its own time from nothing."""
    before = stretch.lines[-1]["run/elapsed_s"] or 0.0
    return abs(began_at - stretch.began_at) <= DRIFT_S and time >= stretch.ended_at and elapsed >= before


def merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the union of spans of time, in order."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def read_lines(path: Path, max_lines: int = MAX_LINES, whole_bytes: int = WHOLE_BYTES) -> list[Gauges]:
    """Return a log's whole lines, of a large file a bounded number, equally far apart; always the last one."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= whole_bytes:
                raw = file.read(whole_bytes).split(b"\n")
            else:
                raw = []
                for place in range(max_lines):
                    file.seek(size * place // max_lines)
                    file.readline()  # The rest of the line it fell into.
                    raw.append(file.readline())
                return [*filter(None, map(_decoded, raw)), last_line(path)]
    except OSError:
        return []
    return [line for line in map(_decoded, raw) if line]


def _decoded(line: bytes) -> Gauges:
    try:
        return msgspec.json.decode(line, type=dict[str, float | None])
    except msgspec.DecodeError:
        return {}


def _flat(log: Sequence[Stretch]) -> list[Gauges]:
    return [line for stretch in log for line in stretch.lines]
