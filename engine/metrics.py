"""What a run measures of itself while it runs: counters, gauges, sliding-window rates; and the log of them.

`Metrics` is pure: time is an argument, in monotonic seconds. `gauges` reads; `drain` reads and starts the percentiles
anew; totals are never cleared. Every key ever shown is shown at every tick; names are `component/quantity[/label]`.
Knows nothing of tasks, and of replicas only what they report.
"""

import math
import os
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

import msgspec

from engine.backend import FailureKind, ReplicaGauges
from engine.record import Status
from engine.steps import Reply

RATE_WINDOW_S: Final = 30.0
"""Turn and token rates look back this far: several scheduling waves, yet fresh enough to see a change."""
EPISODE_WINDOW_S: Final = 600.0
"""Episodes end in bursts, so their rate (and the ETA) looks back further."""
MAX_SAMPLES: Final = 8192
"""Bounds the latencies kept between two drains, and with them a tick's time on the loop (a sort, about 1 ms)."""
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
FAILURES: Final[tuple[str, ...]] = get_args(FailureKind)
_REPLICA_GAUGES: Final = (
    *("running", "waiting", "slots", "kv_tokens", "kv_usage", "prefix_queries", "prefix_hits", "preemptions"),
    *("prompt_tokens", "completion_tokens", "restarts"),
)


class ReplicaStatus(msgspec.Struct, frozen=True, gc=False):
    """One replica as people see it."""

    pool: str
    replica: str
    state: str
    running: int
    waiting: int
    slots: int
    kv_usage: float
    weights: str
    restarts: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a panel shows. Rates are per second over the sliding windows; `eta_s` is None until an episode ended."""

    elapsed_s: float = 0.0
    total: int = 0
    live: int = 0
    shed: int = 0
    ended: dict[str, int] = {}
    phases: dict[str, int] = {}
    calls: int = 0
    turns: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    episodes_per_s: float = 0.0
    turns_per_s: float = 0.0
    prompt_tokens_per_s: float = 0.0
    completion_tokens_per_s: float = 0.0
    cached_share: float = 0.0
    latency_p50_s: float = 0.0
    latency_p99_s: float = 0.0
    lag_p99_s: float = 0.0
    eta_s: float | None = None
    replicas: tuple[ReplicaStatus, ...] = ()

    @property
    def num_ended(self) -> int:
        """Episodes with a terminal record."""
        return sum(self.ended.values())


class _Window:
    """Rates of counters that only grow, over the latest `span_s` seconds."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque()

    def sample(self, now: float, totals: tuple[int, ...]) -> None:
        """Remember the totals; forget what is older than the span, but for one sample to measure from."""
        samples = self._samples
        if len(samples) > 1 and now - samples[-2][0] < self._span_s / 60:
            samples.pop()  # Samples closer than a sixtieth of the span would only cost memory.
        samples.append((now, totals))
        while len(samples) > 2 and now - samples[1][0] >= self._span_s:
            samples.popleft()

    def rates(self) -> tuple[float, ...]:
        """Return the rate of each counter in the window."""
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        elapsed = end - start
        return tuple((b - a) / elapsed if elapsed > 0 else 0.0 for a, b in zip(first, last, strict=True))


class Metrics:
    """A run's counters and gauges.

    `total` is how many episodes the run has in all, `ended` how many already had a terminal record at the start.
    `turns` are the purposes whose replies count as turns (empty: all replies). `phases`, `roles` and `purposes` name
    keys to show from the first tick on.
    """

    def __init__(
        self,
        *,
        now: float,
        total: int,
        ended: Mapping[Status, int] | None = None,
        turns: Collection[str] = (),
        phases: Iterable[str] = (),
        roles: Iterable[str] = (),
        purposes: Iterable[str] = (),
    ) -> None:
        self.total = total
        self._started = now
        self._turn_purposes = frozenset(turns)
        self._ended: Counter[str] = Counter(dict.fromkeys(STATUSES, 0))
        self._ended.update({str(status): number for status, number in (ended or {}).items()})
        self._num_before = self._ended.total()
        self._num_admitted = 0
        self._num_shed = 0
        self._num_turns = 0
        self._tokens = [0, 0, 0]
        self._phases = _zeros(phases)
        self._roles: dict[str, int] = dict.fromkeys(roles, 0)
        self._purposes: dict[str, int] = dict.fromkeys((*purposes, *turns), 0)
        self._failures = _zeros(FAILURES)
        self._replicas: dict[str, tuple[ReplicaGauges, ...]] = {}
        self._replica_keys: dict[str, None] = {}
        self._latency: deque[float] = deque(maxlen=MAX_SAMPLES)
        self._queue: deque[float] = deque(maxlen=MAX_SAMPLES)
        self._lag: deque[float] = deque(maxlen=MAX_SAMPLES)
        self._fast = _Window(RATE_WINDOW_S)
        self._slow = _Window(EPISODE_WINDOW_S)
        self._sample(now)

    def admitted(self, num: int = 1) -> None:
        """Count episodes that went live."""
        self._num_admitted += num

    def shed(self, num: int) -> None:
        """Note how many live episodes are held back until the caches have room."""
        self._num_shed = num

    def phase(self, old: str, new: str) -> None:
        """Count a live episode's move; `old` is "" at its start, `new` is "" at its end."""
        if old:
            self._phases[old] -= 1
        if new:
            self._phases[new] += 1

    def answered(self, reply: Reply, purpose: str, role: str) -> None:
        """Count a reply of a model."""
        usage = reply.usage
        tokens = self._tokens
        tokens[0] += usage.prompt_tokens
        tokens[1] += usage.cached_tokens
        tokens[2] += usage.completion_tokens
        self._num_turns += purpose in self._turn_purposes if self._turn_purposes else 1
        # Plain dictionaries: storing into a `Counter` takes five times as long, because it overrides deletion.
        self._roles[role] = self._roles.get(role, 0) + 1
        self._purposes[purpose] = self._purposes.get(purpose, 0) + 1
        self._latency.append(reply.latency_s)
        self._queue.append(reply.queue_s)

    def failed_attempt(self, kind: str) -> None:
        """Count an attempt that came to nothing."""
        self._failures[kind] += 1

    def ended(self, status: Status) -> None:
        """Count a terminal record."""
        self._ended[status] += 1

    def lag(self, seconds: float) -> None:
        """Note how late the loop woke."""
        self._lag.append(seconds)

    def replicas(self, pool: str, gauges: Sequence[ReplicaGauges]) -> None:
        """Take the latest gauges of a pool's replicas."""
        self._replicas[pool] = tuple(gauges)
        self._replica_keys.update(dict.fromkeys(f"{pool}/{gauge.replica}" for gauge in gauges))

    @property
    def num_ended(self) -> int:
        """Episodes with a terminal record, those from before the start included."""
        return self._ended.total()

    @property
    def num_live(self) -> int:
        """Episodes admitted and not ended."""
        return self._num_admitted - (self.num_ended - self._num_before)

    def snapshot(self, now: float) -> Snapshot:
        """Return what a panel shows."""
        self._sample(now)
        (episodes_per_s,) = self._slow.rates()
        turns_per_s, _, prompt_per_s, cached_per_s, completion_per_s = self._fast.rates()
        prompt, cached, completion = self._tokens
        latency = _percentiles(self._latency)
        return Snapshot(
            elapsed_s=now - self._started,
            total=self.total,
            live=self.num_live,
            shed=self._num_shed,
            ended=dict(self._ended),
            phases=dict(self._phases),
            calls=sum(self._roles.values()),
            turns=self._num_turns,
            retries=self._failures.total(),
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            episodes_per_s=episodes_per_s,
            turns_per_s=turns_per_s,
            prompt_tokens_per_s=prompt_per_s,
            completion_tokens_per_s=completion_per_s,
            cached_share=cached_per_s / prompt_per_s if prompt_per_s else _share(cached, prompt),
            latency_p50_s=latency["p50"],
            latency_p99_s=latency["p99"],
            lag_p99_s=_percentiles(self._lag)["p99"],
            eta_s=(self.total - self.num_ended) / episodes_per_s if episodes_per_s else None,
            replicas=tuple(_status(pool, gauge) for pool, gauges in self._replicas.items() for gauge in gauges),
        )

    def gauges(self, now: float) -> dict[str, float | None]:
        """Return every gauge by name; None where there is no figure."""
        self._sample(now)
        prompt, cached, completion = self._tokens
        turns_per_s, calls_per_s, prompt_per_s, cached_per_s, completion_per_s = self._fast.rates()
        (episodes_per_s,) = self._slow.rates()
        return {
            "run/elapsed_s": now - self._started,
            "run/eta_s": (self.total - self.num_ended) / episodes_per_s if episodes_per_s else None,
            "episodes/total": self.total,
            "episodes/admitted": self._num_admitted,
            "episodes/live": self.num_live,
            "episodes/shed": self._num_shed,
            **{f"episodes/ended/{status}": self._ended[status] for status in STATUSES},
            "episodes/per_s": episodes_per_s,
            **{f"phases/live/{phase}": number for phase, number in self._phases.items()},
            "turns/total": self._num_turns,
            "turns/per_s": turns_per_s,
            "calls/total": sum(self._roles.values()),
            "calls/per_s": calls_per_s,
            **{f"calls/role/{role}": number for role, number in self._roles.items()},
            **{f"calls/purpose/{purpose}": number for purpose, number in self._purposes.items()},
            "attempts/failed": self._failures.total(),
            **{f"attempts/failed/{kind}": number for kind, number in self._failures.items()},
            "tokens/prompt": prompt,
            "tokens/cached": cached,
            "tokens/completion": completion,
            "tokens/cached_share": _share(cached, prompt),
            "tokens/prompt_per_s": prompt_per_s,
            "tokens/cached_per_s": cached_per_s,
            "tokens/completion_per_s": completion_per_s,
            **_named("calls/latency_s", _percentiles(self._latency)),
            **_named("calls/queue_s", _percentiles(self._queue)),
            **_named("loop/lag_s", _percentiles(self._lag)),
            **self._replica_gauges(),
        }

    def drain(self, now: float) -> dict[str, float | None]:
        """Return `gauges` and start the percentiles anew."""
        gauges = self.gauges(now)
        for samples in (self._latency, self._queue, self._lag):
            samples.clear()
        return gauges

    def _sample(self, now: float) -> None:
        self._fast.sample(now, (self._num_turns, sum(self._roles.values()), *self._tokens))
        self._slow.sample(now, (self.num_ended,))

    def _replica_gauges(self) -> dict[str, float | None]:
        """Replicas that a pool no longer reports keep their keys, as not ready."""
        current = {f"{pool}/{g.replica}": g for pool, gauges in self._replicas.items() for g in gauges}
        found: dict[str, float | None] = {}
        for key in self._replica_keys:
            gauge = current.get(key)
            found[f"replicas/ready/{key}"] = int(gauge is not None and gauge.state == "ready")
            for name in _REPLICA_GAUGES:
                found[f"replicas/{name}/{key}"] = None if gauge is None else getattr(gauge, name)
        return found


def _zeros(names: Iterable[str]) -> Counter[str]:
    return Counter(dict.fromkeys(names, 0))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _status(pool: str, gauge: ReplicaGauges) -> ReplicaStatus:
    names = ("replica", "state", "running", "waiting", "slots", "kv_usage", "weights", "restarts")
    return ReplicaStatus(pool, *(getattr(gauge, name) for name in names))


def _percentiles(samples: Collection[float]) -> dict[str, float]:
    """Return p50, p90, p99 and max by nearest rank; zeros for no samples."""
    ordered = sorted(samples)
    if not ordered:
        return dict.fromkeys(("p50", "p90", "p99", "max"), 0.0)
    ranks = {f"p{p}": ordered[math.ceil(len(ordered) * p / 100) - 1] for p in (50, 90, 99)}
    return {**ranks, "max": ordered[-1]}


def _named(name: str, percentiles: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}/{label}": value for label, value in percentiles.items()}


class MetricsLog:
    """`metrics.jsonl`: one JSON line per interval, appended, private to its owner.

    Metrics never end a run: when the file cannot be written, `problem` says why and later lines are dropped.
    """

    def __init__(self, path: Path, interval_s: float) -> None:
        self.problem = ""
        self._path = path
        self._interval_s = interval_s
        self._next = -math.inf

    def is_due(self, now: float) -> bool:
        """Whether an interval has passed since the last line."""
        return now >= self._next

    def write(self, now: float, unix_time: float, gauges: Mapping[str, float | None]) -> None:
        """Append a line; figures that are not finite become null.

        `now` is monotonic; `unix_time` is written, as `time`.
        """
        self._next = now + self._interval_s
        finite = {name: value if value is not None and math.isfinite(value) else None for name, value in gauges.items()}
        line = msgspec.json.encode({"time": unix_time, **finite}) + b"\n"
        if not self.problem:
            try:
                self._append(line)
            except OSError as error:
                self.problem = f"metrics are no longer written: {error}"

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            # A driver that was killed while writing leaves half a line: it must not swallow the next one.
            is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, b"\n" + line if is_torn else line)
        finally:
            os.close(descriptor)


def last_line(path: Path) -> dict[str, float | None]:
    """Return the last whole line of a metrics log, empty when there is none."""
    try:
        lines = _tail(path).split(b"\n")
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            return msgspec.json.decode(line, type=dict[str, float | None])
        except msgspec.DecodeError:
            continue
    return {}


def _tail(path: Path, num_bytes: int = 1 << 18) -> bytes:
    with path.open("rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - num_bytes, 0))
        return file.read(num_bytes)
