"""How a running run looks: a live panel on a terminal, elsewhere one plain line every while; both on stderr.

Time comes with the snapshots, so a panel has no clock. All text is cleaned before it is shown. Knows nothing of the
scheduler beyond `Snapshot`. rich is imported late.
"""

import re
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from engine.api_keys import hide
from engine.metrics import ReplicaStatus, Snapshot
from engine.transcript import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

MIN_REFRESH_S: Final = 0.25
"""Drawing takes a few milliseconds of the loop; more often than this nobody reads."""
MAX_REPLICA_LINES: Final = 8
"""Above this, ready replicas are counted and only the others are named."""
MAX_NEWS: Final = 500
_DIGITS: Final = re.compile(r"[\d.,]+")


class Panel(Protocol):
    """Shows a run to people. `start` and `stop` bracket it; after `stop` nothing more is drawn."""

    def start(self) -> None:
        """Begin to show."""

    def say(self, text: str) -> None:
        """Show a line of news; it may come from anywhere and is cleaned."""

    def update(self, snapshot: Snapshot) -> None:
        """Show the state of the run; cheap to call often."""

    def stop(self) -> None:
        """End; the last state stays on the screen. Safe to call twice."""


def make_panel(is_terminal: bool, plain_interval_s: float = 30.0, stream: TextIO | None = None) -> Panel:
    """Return the panel that suits `stream` (stderr)."""
    out = sys.stderr if stream is None else stream
    return LivePanel(out) if is_terminal else PlainPanel(out, plain_interval_s)


class PlainPanel:
    """One line per interval. News is printed when it says something else than the last, figures aside."""

    def __init__(self, stream: TextIO, interval_s: float = 30.0) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._shown_s: float | None = None
        self._last: Snapshot | None = None
        self._news = ""

    def start(self) -> None:
        """Nothing to prepare."""

    def say(self, text: str) -> None:
        """Print news; the same news with other figures only once."""
        text = hide(text)
        gist = _DIGITS.sub("#", text)
        if gist != self._news:
            self._news = gist
            self._print(one_line(text, MAX_NEWS))

    def update(self, snapshot: Snapshot) -> None:
        """Print a line when the interval has passed."""
        self._last = snapshot
        if self._shown_s is None or snapshot.elapsed_s - self._shown_s >= self._interval_s:
            self._show(snapshot)

    def stop(self) -> None:
        """Print the last state if it was not shown."""
        if self._last is not None and self._last.elapsed_s != self._shown_s:
            self._show(self._last)
        self._last = None

    def _show(self, snapshot: Snapshot) -> None:
        self._shown_s = snapshot.elapsed_s
        self._print(plain_line(snapshot))

    def _print(self, line: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        # Whoever read the lines may be gone (a closed pipe): no reason to end a run.
        with suppress(OSError):
            self._stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
            self._stream.flush()


class LivePanel:
    """A panel redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: Live | None = None
        self._snapshot = Snapshot()
        self._news = ""
        self._drawn_s = 0.0

    def start(self) -> None:
        """Take over the lower end of the terminal."""
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        # Standard output stays what it is: it may be a file.
        self._live = Live(self._view(), console=console, auto_refresh=False, redirect_stdout=False)
        self._live.start(refresh=True)

    def say(self, text: str) -> None:
        """Show news as the last line."""
        self._news = hide(text)
        self._draw()

    def update(self, snapshot: Snapshot) -> None:
        """Redraw, not more often than people can read."""
        self._snapshot = snapshot
        if snapshot.elapsed_s - self._drawn_s >= MIN_REFRESH_S:
            self._drawn_s = snapshot.elapsed_s
            self._draw()

    def stop(self) -> None:
        """Draw the last state and give the terminal back."""
        self._draw()
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError):
                live.stop()

    def _draw(self) -> None:
        if self._live is not None:
            with suppress(OSError):  # A terminal that hung up is no reason to end a run.
                self._live.update(self._view(), refresh=True)

    def _view(self) -> "RenderableType":
        return panel_view(self._snapshot, self._news)


def panel_view(snapshot: Snapshot, news: str = "") -> "RenderableType":
    """Return the live panel's content."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in panel_rows(snapshot, news):
        grid.add_row(Text(name), Text(value))
    bar = ProgressBar(total=max(snapshot.total, 1), completed=snapshot.num_ended, width=60)
    # A bar alone does not end its line; as a row it does.
    top = Table.grid()
    top.add_row(bar)
    return Group(top, grid)


def panel_rows(snapshot: Snapshot, news: str = "") -> list[tuple[str, str]]:
    """Return the panel's lines as (name, text), texts cleaned."""
    phases = "  ".join(f"{phase} {number:,}" for phase, number in snapshot.phases.items() if number)
    rows = [
        ("episodes", f"{_episodes(snapshot)}, {_eta(snapshot)}"),
        ("phases", phases),
        ("rates", _rates(snapshot)),
        (
            "calls",
            f"{snapshot.calls:,} answered, {snapshot.retries:,} retried, latency p50 {snapshot.latency_p50_s:.1f} s "
            f"p99 {snapshot.latency_p99_s:.1f} s, loop lag p99 {1000 * snapshot.lag_p99_s:.0f} ms",
        ),
        *(("replicas", line) for line in replica_lines(snapshot.replicas)),
        ("news", news),
    ]
    return [(name, one_line(text, MAX_NEWS)) for name, text in rows if text]


def plain_line(snapshot: Snapshot) -> str:
    """Return the state of the run as one line."""
    states = Counter(replica.state for replica in snapshot.replicas)
    replicas = "replicas " + ", ".join(f"{number} {state}" for state, number in states.items()) if states else ""
    parts = [f"{_clock(snapshot.elapsed_s)} {_episodes(snapshot)}", _rates(snapshot), replicas, _eta(snapshot)]
    return one_line("; ".join(part for part in parts if part), 300)


def replica_lines(replicas: tuple[ReplicaStatus, ...]) -> list[str]:
    """Return one line per replica, or, when there are many, ready ones counted and the others named."""
    if len(replicas) <= MAX_REPLICA_LINES:
        return [_replica(replica) for replica in replicas]
    ready = Counter(replica.pool for replica in replicas if replica.state == "ready")
    running = Counter[str]()
    for replica in replicas:
        running[replica.pool] += replica.running
    counted = [f"{pool}: {number} ready, {running[pool]:,} running" for pool, number in ready.items()]
    others = [_replica(replica) for replica in replicas if replica.state != "ready"]
    more = [f"and {len(others) - MAX_REPLICA_LINES} more not ready"] if len(others) > MAX_REPLICA_LINES else []
    return [*counted, *others[:MAX_REPLICA_LINES], *more]


def _replica(replica: ReplicaStatus) -> str:
    restarts = f", {replica.restarts} restarts" if replica.restarts else ""
    waiting = f", {replica.waiting} waiting" if replica.waiting else ""
    weights = f", weights {replica.weights[:10]}" if replica.weights else ""
    load = f"{replica.running} of {replica.slots} running{waiting}, KV {100 * replica.kv_usage:.0f} %"
    # A replica names itself with its pool (`base/0`) or without (`0`).
    name = replica.replica if replica.replica.startswith(f"{replica.pool}/") else f"{replica.pool}/{replica.replica}"
    return f"{name} {replica.state}, {load}{weights}{restarts}"


def _episodes(snapshot: Snapshot) -> str:
    ended = snapshot.ended
    cancelled = ended.get("cancelled", 0)
    parts = [
        f"{ended.get('completed', 0):,} done",
        f"{snapshot.live:,} live" + (f" ({snapshot.shed:,} held back)" if snapshot.shed else ""),
        f"{ended.get('failed', 0):,} failed",
        *([f"{cancelled:,} cancelled"] if cancelled else []),
    ]
    return f"{', '.join(parts)} of {snapshot.total:,}"


def _rates(snapshot: Snapshot) -> str:
    tokens = f"{snapshot.prompt_tokens_per_s:,.0f} in, {snapshot.completion_tokens_per_s:,.0f} out"
    return f"{snapshot.turns_per_s:,.1f} turns/s, tokens/s {tokens}, {100 * snapshot.cached_share:.0f} % cached"


def _eta(snapshot: Snapshot) -> str:
    if snapshot.total and snapshot.num_ended >= snapshot.total:
        return f"all ended after {duration(snapshot.elapsed_s)}"
    return "ETA unknown yet" if snapshot.eta_s is None else f"ETA {duration(snapshot.eta_s)}"


def duration(seconds: float) -> str:
    """Return a time span for people."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), seconds / 3600
    if minutes < 60:
        return f"{minutes} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:d}:{minutes % 60:02d}:{rest:02d}"
