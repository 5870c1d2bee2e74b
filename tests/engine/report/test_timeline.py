"""A run over time: invocations and schedulers put together, pauses left out, bounded reading."""

from pathlib import Path

import msgspec
import pytest

from engine.report.timeline import Timeline, merged, read_lines, stretches_of


def make_lines(
    began_at: float, *gauges: dict[str, float | None], every_s: float = 10.0
) -> list[dict[str, float | None]]:
    """Lines of one invocation, the first one interval after it began."""
    return [
        {"time": began_at + every_s * at, "run/elapsed_s": every_s * at, **found}
        for at, found in enumerate(gauges, start=1)
    ]


def test_pauses_take_no_time_and_are_marked() -> None:
    log = make_lines(1000, {"x": 1.0}, {"x": 2.0}) + make_lines(5000, {"x": 3.0})
    found = Timeline([log])
    assert (found.began_at, found.ended_at, found.played_s, found.resumed_s) == (1000, 5010, 30, [20])
    assert found.series("x").points == [(10, 1.0), (20, 2.0), (30, 3.0)]


def test_a_gauge_that_is_not_there_breaks_the_line() -> None:
    assert Timeline([make_lines(0, {"x": 1.0}, {}, {"x": None})]).series("x", "name").points == [
        (10, 1.0),
        (20, None),
        (30, None),
    ]


def test_schedulers_add_up_where_they_play_at_the_same_time() -> None:
    one = make_lines(1000, {"x": 1.0}, {"x": 1.0}, {"x": 1.0}, {"x": 1.0})
    other = make_lines(1001, {"x": 10.0}, {"x": 20.0})
    found = Timeline([one, other])
    # Four spans of ten seconds each; the first has no line, the last two of them.
    assert found.played_s == 40
    assert found.series("x").points == [(5, None), (15, 11.0), (25, 21.0), (35, 1.0)]


def test_phases_take_the_time_that_dialogues_stand_in_them() -> None:
    talking, judging = "phases/live/talk", "phases/live/judge"
    log = make_lines(0, {talking: 4.0, judging: 0.0}, {talking: 2.0, judging: 6.0})
    later = make_lines(900, {talking: 1.0, judging: None})
    # Trapezoids: talk (0+4)/2*10 + (4+2)/2*10, then (0+1)/2*10; judge 0 + (0+6)/2*10, then nothing.
    assert Timeline([log + later]).phase_seconds() == {"talk": 55, "judge": 30}


def test_lines_without_a_time_are_left_out() -> None:
    assert stretches_of([{"x": 1.0}, {"time": 5.0, "run/elapsed_s": None}]) == []


def test_spans_of_time_are_put_together() -> None:
    assert merged([(5, 7), (0, 2), (1, 3), (3, 4)]) == [(0, 4), (5, 7)]


def test_an_empty_log_is_no_time() -> None:
    found = Timeline.read([Path("nowhere/metrics.jsonl")])
    assert (found.num_lines, found.began_at, found.ended_at, found.played_s) == (0, None, None, 0)
    assert found.series("x").points == [] and found.phase_seconds() == {}


def test_torn_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"time": 1}\n{"ti\n[]\n\n{"time": 2, "x": null}\n{"time": 3')
    assert read_lines(path) == [{"time": 1.0}, {"time": 2.0, "x": None}]


def test_of_a_long_log_a_bounded_number_of_lines_is_read_and_the_last(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode({"time": float(at)}) + b"\n" for at in range(10_000)))
    times = [line["time"] for line in read_lines(path, max_lines=20, whole_bytes=1000)]
    assert len(times) == 21 and times[-1] == 9999
    steps = [(b or 0) - (a or 0) for a, b in zip(times, times[1:-1], strict=False)]
    assert all(step == pytest.approx(500, rel=0.2) for step in steps)
    assert len(Timeline([read_lines(path)]).series("x").points) <= 240


def test_an_invocation_that_begins_at_once_is_another_all_the_same() -> None:
    log = make_lines(1000, {"x": 1.0}, {"x": 2.0}, every_s=1.0) + make_lines(1004, {"x": 3.0}, every_s=1.0)
    found = Timeline([log])
    assert (found.played_s, found.resumed_s) == (3, [2])


def test_between_two_moments_pauses_are_known() -> None:
    found = Timeline([make_lines(1000, {}, {}) + make_lines(5000, {}) + make_lines(6000, {})])
    assert found.paused_s(1000, 1020) == 0
    assert found.paused_s(1015, 5005) == 3980
    assert found.paused_s(1500, 2000) == 500
    assert found.paused_s(1015, 6005) == 3980 + 990
    assert Timeline([]).paused_s(0, 9e9) == 0
