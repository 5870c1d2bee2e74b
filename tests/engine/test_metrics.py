import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backend import ReplicaGauges
from engine.metrics import EPISODE_WINDOW_S, MAX_SAMPLES, RATE_WINDOW_S, Metrics, MetricsLog, last_line
from engine.steps import Reply, Usage


def make_metrics(total: int = 10, **more: object) -> Metrics:
    return Metrics(now=100.0, total=total, **more)  # type: ignore[arg-type]


def make_reply(latency_s: float = 1.0, prompt: int = 100, cached: int = 75, completion: int = 20) -> Reply:
    return Reply("hi", usage=Usage(prompt, completion, cached), latency_s=latency_s, queue_s=latency_s / 2)


def test_live_is_admitted_less_ended_here() -> None:
    metrics = make_metrics(ended={"completed": 3, "failed": 1})
    metrics.admitted(4)
    metrics.ended("completed")
    metrics.ended("cancelled")
    metrics.shed(1)
    gauges = metrics.gauges(101.0)
    assert (gauges["episodes/live"], gauges["episodes/shed"]) == (2, 1)
    assert metrics.snapshot(101.0).shed == 1
    assert [gauges[f"episodes/ended/{s}"] for s in ("completed", "failed", "cancelled")] == [4, 1, 1]
    assert metrics.num_ended == 6


def test_phases_are_counted_in_and_out() -> None:
    metrics = make_metrics(phases=("encode", "decode"))
    assert metrics.gauges(100.0)["phases/live/encode"] == 0
    metrics.phase("", "encode")
    metrics.phase("encode", "decode")
    metrics.phase("", "encode")
    metrics.phase("decode", "")
    assert {k: v for k, v in metrics.gauges(100.0).items() if k.startswith("phases")} == {
        "phases/live/encode": 1,
        "phases/live/decode": 0,
    }


@pytest.mark.parametrize(("turns", "expected"), [((), 3), (("talk",), 2)])
def test_turns_are_the_replies_of_the_named_purposes(turns: tuple[str, ...], expected: int) -> None:
    metrics = make_metrics(turns=turns)
    for purpose in ("talk", "score", "talk"):
        metrics.answered(make_reply(), purpose, "patient")
    gauges = metrics.gauges(101.0)
    assert gauges["turns/total"] == expected
    assert gauges["calls/total"] == gauges["calls/role/patient"] == 3
    assert gauges["calls/purpose/score"] == 1


def test_rates_look_back_one_window() -> None:
    metrics = make_metrics()
    for second in range(200):
        for _ in range(2 if second < 100 else 10):
            metrics.answered(make_reply(), "talk", "patient")
        # Far more often than the window keeps samples: it must move on all the same.
        for part in range(10):
            metrics.snapshot(100.0 + second + (part + 1) / 10)
    snapshot = metrics.snapshot(300.0)
    assert snapshot.turns_per_s == pytest.approx(10, rel=0.05)
    assert snapshot.completion_tokens_per_s == pytest.approx(200, rel=0.05)
    assert snapshot.cached_share == pytest.approx(0.75)


def test_eta_follows_the_episodes_that_ended() -> None:
    metrics = make_metrics(total=100, ended={"completed": 40})
    assert metrics.snapshot(110.0).eta_s is None
    for _ in range(10):
        metrics.ended("completed")
    snapshot = metrics.snapshot(200.0)
    assert snapshot.episodes_per_s == pytest.approx(0.1)
    assert snapshot.eta_s == pytest.approx(500.0)
    # Without news for longer than the window there is no estimate.
    assert metrics.snapshot(199.0 + EPISODE_WINDOW_S).eta_s is not None
    assert metrics.snapshot(200.0 + 2 * EPISODE_WINDOW_S).eta_s is None


def test_percentiles_start_anew_after_drain_and_totals_do_not() -> None:
    metrics = make_metrics()
    for latency in range(1, 101):
        metrics.answered(make_reply(float(latency)), "talk", "patient")
        metrics.lag(latency / 1000)
    assert metrics.gauges(101.0) == metrics.gauges(101.0)
    drained = metrics.drain(101.0)
    assert [drained[f"calls/latency_s/{p}"] for p in ("p50", "p90", "p99", "max")] == [50, 90, 99, 100]
    assert drained["calls/queue_s/p50"] == 25
    assert drained["loop/lag_s/p99"] == 0.099
    again = metrics.drain(102.0)
    assert again["calls/latency_s/max"] == again["loop/lag_s/max"] == 0
    assert again["calls/total"] == 100
    assert again["tokens/prompt"] == 10_000
    assert again["tokens/cached_share"] == 0.75


def test_samples_are_bounded() -> None:
    metrics = make_metrics()
    metrics.lag(9.0)
    for _ in range(MAX_SAMPLES):
        metrics.lag(0.0)
    assert metrics.gauges(101.0)["loop/lag_s/max"] == 0


def test_every_key_ever_shown_stays() -> None:
    metrics = make_metrics(roles=("patient",), purposes=("talk",))
    first = metrics.gauges(100.0)
    assert {"calls/role/patient", "calls/purpose/talk", "attempts/failed/timeout"} <= first.keys()
    metrics.phase("", "talk")
    metrics.failed_attempt("timeout")
    metrics.failed_attempt("out_of_paper")
    metrics.replicas("base", [ReplicaGauges("base/0", running=3, kv_usage=0.5), ReplicaGauges("base/1", "starting")])
    second = metrics.drain(101.0)
    assert second["attempts/failed"] == 2
    assert second["replicas/ready/base/base/0"] == 1
    assert second["replicas/ready/base/base/1"] == 0
    assert second["replicas/running/base/base/0"] == 3
    metrics.replicas("base", [ReplicaGauges("base/1")])
    third = metrics.drain(102.0)
    assert first.keys() < second.keys() == third.keys()
    assert third["replicas/ready/base/base/0"] == 0
    assert third["replicas/running/base/base/0"] is None


def test_snapshot_names_the_replicas() -> None:
    metrics = make_metrics()
    metrics.replicas("base", [ReplicaGauges("0", "lost", weights="abc", restarts=2)])
    (replica,) = metrics.snapshot(101.0).replicas
    assert (replica.pool, replica.replica, replica.state, replica.weights, replica.restarts) == (
        "base",
        "0",
        "lost",
        "abc",
        2,
    )


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 5)), min_size=1, max_size=60))
def test_rates_are_never_negative_and_never_above_the_busiest_moment(ticks: list[tuple[float, int]]) -> None:
    metrics = make_metrics()
    now, answered = 100.0, 0
    for wait_s, num in ticks:
        now += wait_s
        answered += num
        for _ in range(num):
            metrics.answered(make_reply(), "talk", "patient")
        rate = metrics.snapshot(now).turns_per_s
        assert rate >= 0
        assert rate * min(now - 100.0, RATE_WINDOW_S) <= answered + 1e-6


def read_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_log_appends_one_private_line_per_interval(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 5.0)
    assert log.is_due(0.0)
    log.write(0.0, 1e9, {"a": 1, "b": None, "c": float("nan"), "d": float("inf")})
    assert not log.is_due(4.9)
    assert log.is_due(5.0)
    log.write(5.0, 1e9 + 5, {"a": 2.5})
    assert read_lines(path) == [{"time": 1e9, "a": 1, "b": None, "c": None, "d": None}, {"time": 1e9 + 5, "a": 2.5}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_log_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"time": 1}\n{"tim')
    MetricsLog(path, 5.0).write(0.0, 2.0, {"a": 1})
    lines = path.read_text().splitlines()
    assert lines[1] == '{"tim'
    assert json.loads(lines[2]) == {"time": 2.0, "a": 1}


def test_log_that_cannot_write_says_so_and_goes_on(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "none" / "metrics.jsonl", 5.0)
    log.write(0.0, 1.0, {"a": 1})
    assert "No such file" in log.problem
    os.mkdir(tmp_path / "none")
    log.write(5.0, 2.0, {"a": 1})
    assert not (tmp_path / "none" / "metrics.jsonl").exists()


def test_the_last_line_of_a_log_is_the_last_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_line(path) == {}
    log = MetricsLog(path, 1.0)
    log.write(0.0, 1.0, {"a": 1})
    log.write(1.0, 2.0, {"a": 2, "b": None})
    with path.open("ab") as file:
        file.write(b'{"tim')
    assert last_line(path) == {"time": 2.0, "a": 2, "b": None}
