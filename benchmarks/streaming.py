"""Row: from an episode's end to its samples in front of a worker, at a given rate and at the rate the path reaches; and
how long a worker waits that needs less than comes.

A real journal, feeder and sample log; finished MentalArena episodes are put in as a scheduler would, and a worker in a
process of its own reads the log as trainers do. Clocks of both processes are the machine's monotonic one.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from benchmarks.figures import Figure, figure
from benchmarks.interleave import turns
from engine.example_episode import example_episode
from engine.journal import Journal
from engine.record import EpisodeKey, EpisodeRecord
from engine.rundir import RunDirectory
from training.feeder import Feeder
from training.sample_log import POLL_S, Mark, SampleReader, SampleWriter
from training.settings import ANSWERS, SampleSettings
from training.stream import Position, Stream

RATE: Final = 1000
SECONDS: Final = 10
NOTE: Final = "Journal, feeder, sealing and worker share two cores: about 2 ms of them an episode of 70 kB."

BATCH: Final = 32
NEEDED: Final = 0.8
"""What the worker that must not wait needs, as a share of what comes."""

WATCHER: Final = "import sys; from benchmarks.streaming import watch; watch(sys.argv[1])"
EATER: Final = "import sys; from benchmarks.streaming import eat; eat(sys.argv[1], float(sys.argv[2]))"


class StreamFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One run: when each episode's samples could be read after it ended, sorted, and the rate they were read at."""

    lags_s: tuple[float, ...]
    episodes_per_s: float

    def percentile(self, share: float) -> float:
        """Return a percentile of the lags, in ms."""
        return 1e3 * self.lags_s[min(int(share * len(self.lags_s)), len(self.lags_s) - 1)]


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return lags at `RATE` episodes a second and at full rate, and the full rate; blocks for minutes."""
    seconds = 1 if brief else SECONDS
    found: dict[str, list[StreamFigures]] = {"": [], "_full": []}
    for _, name in turns([*found], repeats):
        rate = RATE if not name else None
        found[name].append(uvloop.run(measure_stream(RATE * seconds, rate)))
    about = {"episodes": RATE * seconds, "rows_per_episode": len(ANSWERS)}
    figures = [
        figure(
            f"stream_lag_{label}_ms{name}",
            "ms",
            [one.percentile(share) for one in runs],
            goal=None if name else goal,
            is_at_most=True,
            configuration={**about, "rate": None if name else RATE},
            note=NOTE,
        )
        for name, runs in found.items()
        for label, share, goal in (("p50", 0.5, 50.0), ("p99", 0.99, 500.0))
    ]
    rates = [one.episodes_per_s for one in found["_full"]]
    pace = min(NEEDED * min(rates), RATE)
    idle = [100 * uvloop.run(measure_idle(RATE * seconds, pace)) for _ in range(repeats)]
    return [
        *figures,
        figure("stream_episodes_per_s", "episodes/s", rates, configuration=about, note=NOTE),
        figure(
            "stream_idle_pct",
            "%",
            idle,
            goal=2.0,
            is_at_most=True,
            configuration={**about, "rate": round(pace), "needed": NEEDED, "rows_per_batch": BATCH},
            note=NOTE,
        ),
    ]


async def measure_stream(number: int, rate: float | None) -> StreamFigures:
    """Put in so many episodes, `rate` a second or as fast as there is room; return what a worker saw."""
    ended, seen = await _feed(number, rate, WATCHER)
    return compare(ended, seen)


async def measure_idle(number: int, rate: float) -> float:
    """Put in so many episodes; return the share of its time that a worker waits which needs four fifths of them."""
    _, found = await _feed(number, rate, EATER, str(NEEDED * rate * len(ANSWERS)))
    share: float = found["waited_s"] / found["elapsed_s"]
    return share


async def _feed(number: int, rate: float | None, worker_code: str, *options: str) -> tuple[dict[str, float], Any]:
    """Put episodes in beside a worker; return when each ended, and what the worker printed."""
    records = list(make_records(number))
    with tempfile.TemporaryDirectory(prefix="sandplay-bench-") as scratch:
        rundir = RunDirectory.create(Path(scratch) / "run", {"config.toml": b""})
        journal, path = Journal.open(rundir), Path(scratch) / "samples.jsonl"
        _, spec = example_episode()
        feeder = Feeder({"0": journal}, spec, SampleWriter.open(path), SampleSettings())
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", worker_code, path, *options, stdout=subprocess.PIPE
        )
        assert worker.stdout is not None
        await worker.stdout.readline()
        feeding = asyncio.ensure_future(feeder.run())
        ended = await put_in(journal, records, rate)
        await journal.flush()
        feeder.finish()
        await feeding
        seen, _ = await worker.communicate()
        await journal.close()
    return ended, json.loads(seen)


def make_records(number: int) -> Iterator[EpisodeRecord]:
    """Yield episodes of as many patients, otherwise equal; none is a duplicate."""
    record, _ = example_episode()
    outcome: Any = msgspec.json.decode(record.outcome)
    symptom = outcome["symptom"]
    for n in range(number):
        outcome["symptom"] = f"{symptom} Number {n}."
        text = msgspec.json.encode(outcome).decode()
        yield msgspec.structs.replace(record, key=EpisodeKey(f"case-{n:06d}"), outcome=text)


async def put_in(journal: Journal, records: list[EpisodeRecord], rate: float | None) -> dict[str, float]:
    """End every episode; return when, on the monotonic clock."""
    ended: dict[str, float] = {}
    begun = time.monotonic()
    for number, record in enumerate(records):
        if rate is not None and (ahead_s := begun + number / rate - time.monotonic()) > 0:
            await asyncio.sleep(ahead_s)
        await journal.room()
        journal.admit(record.key, record.seed, 0.0)
        journal.end(record)
        ended[record.episode] = time.monotonic()
        if number % 16 == 0:
            await asyncio.sleep(0)
    return ended


def compare(ended: dict[str, float], seen: dict[str, float]) -> StreamFigures:
    """Return what came of it. Raises ValueError when an episode's samples were never seen."""
    if missing := ended.keys() - seen.keys():
        raise ValueError(f"a worker must see every episode's samples, got none of {len(missing)}")
    lags = sorted(seen[episode] - since for episode, since in ended.items())
    elapsed_s = max(seen.values()) - min(ended.values())
    return StreamFigures(lags_s=tuple(lags), episodes_per_s=len(ended) / elapsed_s)


def watch(path: str) -> None:
    """Look at a log until it is closed; print when the last sample of each episode was first readable."""
    reader, seen, number = SampleReader(Path(path)), {}, 0
    print("ready", flush=True)
    while True:
        mark = reader.refresh()
        now = time.monotonic()
        for ordinal in range(number, mark.num_samples):
            seen[str(reader.row(ordinal)["episode"])] = now
        number = mark.num_samples
        if mark.is_closed:
            break
        time.sleep(POLL_S)
    print(json.dumps(seen))


class _Timed(SampleReader):
    """Counts how long was waited for samples that were not there yet; reading those that are is work."""

    waited_s = 0.0

    def wait(self, number: int, timeout_s: float | None = None) -> Mark:
        self.refresh()
        since = time.monotonic()
        mark = super().wait(number, timeout_s)
        self.waited_s += time.monotonic() - since
        return mark


def eat(path: str, rows_per_s: float) -> None:
    """Read batches as a trainer does, so many rows a second at most; print how long was waited for them.

    Time counts from the first batch on, before which there was nothing to train on, and up to the last.
    """
    reader = _Timed(Path(path))
    batches = Stream(reader, batch_size=BATCH).batches(Position(), 1)
    print("ready", flush=True)
    next(batches)
    begun, before_s = time.monotonic(), reader.waited_s
    for number, _ in enumerate(batches, 1):
        time.sleep(max(0.0, begun + number * BATCH / rows_per_s - time.monotonic()))
    print(json.dumps({"waited_s": reader.waited_s - before_s, "elapsed_s": time.monotonic() - begun}))
