from pathlib import Path

import pytest

from engine.elapsed import played_s
from engine.metrics import MetricsLog


@pytest.mark.parametrize(
    ("times", "expected"),
    [([], 0.0), ([0.5, 5.5, 7.0], 7.0), ([0.5, 5.5, 0.5, 3.0], 8.5), ([4.0, 1.0, 0.5], 5.5)],
)
def test_the_last_time_of_each_driver_is_added_up(tmp_path: Path, times: list[float], expected: float) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", 1.0)
    for time in times:
        log.write(0.0, 0.0, {"run/elapsed_s": time, "turns/total": 3})
    assert played_s(tmp_path / "metrics.jsonl") == expected


def test_torn_and_foreign_lines_count_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"run/elapsed_s": 9.0}\n{"run/elapsed_s": 12\n\xff\n{"other": 1}\n{"run/elapsed_s": 2.0}\n')
    assert played_s(path) == 11.0
