"""How long a run was played, by what its drivers wrote into `metrics.jsonl`.

A driver that was killed wrote its last line up to `scheduler.metrics_interval_s` before; starting up is not in it.
"""

from pathlib import Path

import msgspec


class _Line(msgspec.Struct):
    elapsed_s: float | None = msgspec.field(name="run/elapsed_s", default=None)


def played_s(path: Path) -> float:
    """Return the seconds that all drivers of one scheduler played together, 0 where nothing was written."""
    try:
        with path.open("rb") as file:
            return _sum_up([found for line in file if (found := _elapsed_s(line)) is not None])
    except OSError:
        return 0.0


def _elapsed_s(line: bytes) -> float | None:
    try:
        return msgspec.json.decode(line, type=_Line).elapsed_s
    except msgspec.DecodeError:
        return None


def _sum_up(times: list[float]) -> float:
    """Add up the last time of each driver: where times fall, another one began."""
    ends = [time for time, after in zip(times, times[1:], strict=False) if after < time]
    return sum(ends) + (times[-1] if times else 0.0)
