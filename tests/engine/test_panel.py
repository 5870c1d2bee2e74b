import io
import os
import pty
import threading
from contextlib import suppress
from typing import TextIO

import pytest

from engine.metrics import ReplicaStatus, Snapshot
from engine.panel import LivePanel, PlainPanel, duration, make_panel, panel_rows, panel_view, plain_line, replica_lines
from engine.tables import rendered


def make_snapshot(elapsed_s: float = 75.0, **more: object) -> Snapshot:
    values: dict[str, object] = {
        "total": 1000,
        "live": 64,
        "ended": {"completed": 412, "failed": 3, "cancelled": 0},
        "phases": {"encode": 4, "interview": 60, "decode": 0},
        "calls": 9000,
        "retries": 2,
        "turns_per_s": 31.25,
        "prompt_tokens_per_s": 12_345.0,
        "completion_tokens_per_s": 900.0,
        "cached_share": 0.823,
        "eta_s": 720.0,
        "replicas": (make_replica(),),
    }
    return Snapshot(elapsed_s=elapsed_s, **{**values, **more})  # type: ignore[arg-type]


def make_replica(replica: str = "base/0", state: str = "ready", **more: object) -> ReplicaStatus:
    values = {"running": 12, "waiting": 0, "slots": 64, "kv_usage": 0.4, "weights": "abc", "restarts": 0, **more}
    return ReplicaStatus("base", replica, state, **values)  # type: ignore[arg-type]


def make_plain(interval_s: float = 30.0) -> tuple[PlainPanel, io.StringIO]:
    stream = io.StringIO()
    return PlainPanel(stream, interval_s), stream


def test_the_rows_say_how_the_run_stands() -> None:
    rows = dict(panel_rows(make_snapshot(), "waiting for base/0: loading weights 12 s"))
    assert rows["episodes"] == "412 done, 64 live, 3 failed of 1,000, ETA 12 min"
    assert rows["phases"] == "encode 4 interview 60"
    assert rows["rates"] == "31.2 turns/s, tokens/s 12,345 in, 900 out, 82 % cached"
    assert rows["calls"].startswith("9,000 answered, 2 retried, latency p50 0.0 s")
    assert rows["replicas"] == "base/0 ready, 12 of 64 running, KV 40 %, weights abc"
    assert rows["news"] == "waiting for base/0: loading weights 12 s"


def test_dialogues_held_back_are_counted() -> None:
    rows = dict(panel_rows(make_snapshot(shed=12)))
    assert rows["episodes"].startswith("412 done, 64 live (12 held back), 3 failed")


def test_rows_without_content_are_left_out() -> None:
    assert {name for name, _ in panel_rows(Snapshot(total=5))} == {"episodes", "rates", "calls"}
    assert dict(panel_rows(Snapshot(total=5)))["episodes"].endswith("of 5, ETA unknown yet")


def test_the_end_is_no_estimate() -> None:
    snapshot = make_snapshot(ended={"completed": 999, "cancelled": 1}, live=0)
    assert (
        "999 done, 0 live, 0 failed, 1 cancelled of 1,000, all ended after 1 min"
        in dict(panel_rows(snapshot))["episodes"]
    )


def test_the_view_shows_hostile_text_as_text() -> None:
    snapshot = make_snapshot(phases={"\x1b[2J[red]x": 1}, replicas=(make_replica("[bold]r\x07"),))
    text = rendered(panel_view(snapshot, "\x1b]0;t\x07[blink]news\u202e"), 100)
    assert "[red]x 1" in text
    assert "base/[bold]r ready" in text
    assert "[blink]news" in text
    assert not any(ord(c) < 32 and c != "\n" for c in text)


def test_many_replicas_are_counted_and_the_others_named() -> None:
    ready = tuple(make_replica(f"base/{i}") for i in range(20))
    lost = tuple(make_replica(f"base/{i}", "lost", restarts=2) for i in range(20, 30))
    lines = replica_lines(ready + lost)
    assert lines[0] == "base: 20 ready, 360 running"
    assert lines[1].startswith("base/20 lost")
    assert lines[1].endswith("2 restarts")
    assert lines[-1] == "and 2 more not ready"
    assert len(lines) == 10
    assert len(replica_lines(ready[:8])) == 8


def test_a_plain_panel_prints_a_line_per_interval() -> None:
    panel, stream = make_plain()
    panel.start()
    for second in range(0, 65, 5):
        panel.update(make_snapshot(float(second)))
    assert [line[:7] for line in stream.getvalue().splitlines()] == ["0:00:00", "0:00:30", "0:01:00"]
    panel.update(make_snapshot(62.0))
    panel.stop()
    panel.stop()
    assert [line[:7] for line in stream.getvalue().splitlines()][3:] == ["0:01:02"]


def test_plain_news_is_printed_when_it_says_something_new() -> None:
    panel, stream = make_plain()
    for text in ("loading weights 1 s", "loading weights 2.5 s", "ready", "loading weights 9 s", "bad\x1b[2J\nnews"):
        panel.say(text)
    assert stream.getvalue().splitlines() == ["loading weights 1 s", "ready", "loading weights 9 s", "bad news"]


def test_a_plain_line_is_one_line() -> None:
    line = plain_line(make_snapshot(3725.0, replicas=(make_replica(), make_replica("base/1", "starting\n"))))
    assert line == (
        "1:02:05 412 done, 64 live, 3 failed of 1,000; 31.2 turns/s, tokens/s 12,345 in, 900 out, 82 % cached; "
        "replicas 1 ready, 1 starting ; ETA 12 min"
    )


def test_a_stream_that_cannot_hold_the_text_is_no_reason_to_fail() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    PlainPanel(stream).say("größer …")
    stream.seek(0)
    assert stream.read() == "gr??er ?\n"


class ClosedPipe(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.num_writes = 0

    def write(self, text: str) -> int:
        self.num_writes += 1
        raise BrokenPipeError("the reader is gone")


def test_a_closed_pipe_does_not_end_a_run() -> None:
    stream = ClosedPipe()
    panel = PlainPanel(stream)
    panel.say("news")
    panel.update(make_snapshot())
    panel.stop()
    assert stream.num_writes == 2


def test_make_panel_follows_the_terminal() -> None:
    assert isinstance(make_panel(True), LivePanel)
    assert isinstance(make_panel(False), PlainPanel)


def read_to_end(terminal: int, drawn: bytearray) -> None:
    """Read what was written to a pseudo-terminal until its other side is closed (EIO on Linux)."""
    with suppress(OSError):
        while chunk := os.read(terminal, 1 << 16):
            drawn += chunk


def read_terminal(run: object) -> str:
    """Run a function on a real pseudo-terminal and return what it drew.

    The kernel hands the text over in pieces and when it likes: one read may come too early or too short.
    """
    leader, follower = pty.openpty()
    drawn = bytearray()
    reader = threading.Thread(target=read_to_end, args=(leader, drawn))
    reader.start()
    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        assert stream.isatty()
        run(stream)  # type: ignore[operator]
    reader.join(30)
    assert not reader.is_alive()
    os.close(leader)
    return drawn.decode()


def test_a_live_panel_draws_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")

    def draw(stream: TextIO) -> None:
        panel = make_panel(True, stream=stream)
        panel.start()
        panel.update(make_snapshot(1.0))
        panel.update(make_snapshot(1.1, live=77))
        panel.say("\x1b]0;evil\x07replica base/1 is back")
        panel.stop()
        panel.stop()

    drawn = read_terminal(draw)
    assert "412 done, 64 live" in drawn
    assert "412 done, 77 live" in drawn
    assert "replica base/1 is back" in drawn
    assert "\x1b]0;" not in drawn
    assert drawn.rstrip().endswith("\x1b[?25h")


def test_a_live_panel_is_silent_before_start_and_after_stop() -> None:
    stream = io.StringIO()
    panel = LivePanel(stream)
    panel.say("early")
    panel.update(make_snapshot())
    panel.stop()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3540, "59 min"),
        (3599, "1.0 h"),
        (7200, "2.0 h"),
        (200_000, "2.3 days"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
