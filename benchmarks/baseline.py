"""The stored baseline: figures that must not fall by a third, measured briefly enough for every test run.

    python -m benchmarks.baseline

measures them and rewrites `baseline.json`. Simulated figures are ratios and repeat exactly; those of the scheduler are
turns per million steps of a calibration loop in the same process, so that a slower machine changes neither.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import scheduling
from benchmarks.simulated import efficiency, episodes, policies, rivals

PATH: Final = Path(__file__).with_name("baseline.json")
FALL: Final = 2 / 3
REPEATS: Final = 5
SIMULATED: Final = (
    efficiency.measure,
    rivals.measure_lockstep,
    rivals.measure_gather,
    policies.measure,
    episodes.measure_replicas,
)


def simulated() -> dict[str, float]:
    """Return the simulated ratios of one seed."""
    found = [figure for measure in SIMULATED for figure in measure(1, brief=True)]
    return {figure.name: round(figure.median, 4) for figure in found if figure.unit == "ratio"}


def scheduler() -> dict[str, float]:
    """Return turns per million calibration steps, the best of a few repeats: noise only ever makes it slower."""
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        for name in scheduling.GOALS:
            steps = scheduling.calibrate(0.1) * 1e6
            rate = scheduling.BRIEF[name].measure().turns_per_s
            best[name] = max(best.get(name, 0.0), round(1e6 * rate / steps, 1))
    return best


def load() -> dict[str, float]:
    """Return the stored baseline."""
    return msgspec.json.decode(PATH.read_bytes(), type=dict[str, float])


def fallen(found: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """Return a sentence for each figure that fell by a third or more. `found` may be a part of the baseline."""
    return [
        f"{name} must stay above two thirds of its baseline {baseline[name]:g}, got {value:g}: profile what changed"
        for name, value in found.items()
        if name in baseline and value <= FALL * baseline[name]
    ]


def main() -> None:
    """Measure and store."""
    found = {**simulated(), **scheduler()}
    PATH.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    print(PATH.read_text())


if __name__ == "__main__":
    main()
