"""Row: one very long run against a scripted model, killed once: what it holds in memory and on disk, and how long.

    python -m benchmarks.long_run [--episodes N] [--out DIR]

`counseling` through everything a run is: the journal, sealing, metrics, the summary and the report at its end. A driver
is a process of its own (`--play`); whoever watches it ends it with SIGKILL in the middle and has it gone on with. What
grows is read from `metrics.jsonl`, which the driver writes itself, and from the size of the journal.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.figures import Figure, figure
from benchmarks.instant import InstantBackend, talker
from benchmarks.machine import describe_machine
from engine.backend import Request
from engine.commands.running import finish
from engine.corpus import Corpus
from engine.panel import make_panel
from engine.planning import Plan, freeze, make_plan, thaw
from engine.protocols.counseling import MARKER, THERAPIST
from engine.roster import Ledger
from engine.run import play
from engine.rundir import RunDirectory

NUM_CASES: Final = 1000
LIVE: Final = 512
NUM_WORDS: Final = 12
ENDS_EVERY: Final = 5
"""One therapist's turn in so many ends its session."""
LOOK_EVERY_S: Final = 0.5
WARM_UP: Final = 0.2
"""The share of a driver's episodes before which its memory is still filling up."""
NUM_SPANS: Final = 20
"""Spans of the rest, of as many episodes each; in each the most that was held counts."""


class LongRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a long run came to. Growth is in bytes of the driver per 1,000 episodes, once for each driver."""

    episodes: int
    calls: int
    elapsed_s: float
    episodes_per_s: float
    growth: tuple[float, ...]
    resident_mib: tuple[float, ...]
    journal_max_mib: float
    parts: int
    corpus_mib: float


class ScriptedCrew:
    """One scripted model, `base`; nothing is started."""

    embedder = None

    def __init__(self) -> None:
        say = talker(NUM_WORDS)
        numbers = iter(range(1 << 62))

        def answer(request: Request) -> str:
            ends = request.role == THERAPIST and next(numbers) % ENDS_EVERY == 0
            return f"{say(request)} {MARKER}" if ends else say(request)

        self.pools = {"base": InstantBackend(answer)}

    async def start(self) -> None:
        """Nothing to bring up."""

    async def close(self) -> None:
        """Nothing to end."""

    def abort(self) -> None:
        """Nothing to end."""


def make_long_plan(num_episodes: int) -> Plan:
    """Return the plan of a run of at least that many episodes."""
    num_cases = min(num_episodes, NUM_CASES)
    table = {
        "name": "long",
        "protocol": {"name": "counseling", "max_turns": 6},
        "cases": {"source": "sampled", "limit": num_cases, "repeats": -(-num_episodes // num_cases)},
        "models": {"base": {"kind": "openai", "model": "scripted"}},
        "roles": {"patient": "base", "therapist": "base"},
        "scheduler": {"max_live": LIVE, "metrics_interval_s": 1.0},
    }
    return make_plan(table, Path.cwd())


def play_on(directory: Path) -> None:
    """Play a run to its end, as `sandplay resume` does, and leave its summary and its report; ends the process."""
    import uvloop

    rundir = RunDirectory.open(directory)

    async def played() -> None:
        with rundir.lock():
            plan = thaw(rundir, [])
            result = await play(plan, rundir, ScriptedCrew(), make_panel(False))
        finish(plan, rundir, result, as_json=True)

    uvloop.run(played())


def measure_long_run(
    num_episodes: int, directory: Path, *, killed_at: float = 0.5, warm_up: float = WARM_UP
) -> LongRun:
    """Play a run in `directory`, killed at a share of its episodes, and look at what is left.

    Raises AssertionError if that is wrong, CalledProcessError if a driver that was not killed fails.
    """
    plan = make_long_plan(num_episodes)
    rundir = RunDirectory.create(directory, freeze(plan))
    begun = time.perf_counter()
    sizes: list[int] = []
    first = _watch(rundir, sizes, until=int(killed_at * plan.num_episodes))
    num_lines = len(first)
    rest = _watch(rundir, sizes, until=None)[num_lines:]
    elapsed_s = time.perf_counter() - begun
    corpus = Corpus.open(rundir)
    _check(corpus, plan)
    lives = [[_place(line) for line in lines] for lines in (first, rest)]
    return LongRun(
        episodes=len(corpus),
        calls=corpus.totals.calls,
        elapsed_s=elapsed_s,
        episodes_per_s=len(corpus) / elapsed_s,
        growth=tuple(growth(life, warm_up) for life in lives),
        resident_mib=tuple(max(line["driver/resident_bytes"] for line in lines) / 2**20 for lines in (first, rest)),
        journal_max_mib=max(sizes) / 2**20,
        parts=sum(1 for _ in rundir.episodes.glob("*.parquet")),
        corpus_mib=sum(path.stat().st_size for path in rundir.episodes.iterdir()) / 2**20,
    )


def _watch(rundir: RunDirectory, sizes: list[int], until: int | None) -> list[dict[str, Any]]:
    """Have a driver play, until so many episodes have ended or to the end; return the metrics so far."""
    command = [sys.executable, "-m", "benchmarks.long_run", "--play", str(rundir.path)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while driver.poll() is None:
            sizes.append(sum(map(_size, rundir.journals.iterdir())))
            if until is not None and _num_ended(rundir) >= until:
                driver.send_signal(signal.SIGKILL)
                driver.wait()
                break
            time.sleep(LOOK_EVERY_S)
    finally:
        driver.kill()
        driver.wait()
    if until is None and driver.returncode:
        raise subprocess.CalledProcessError(driver.returncode, command)
    return [json.loads(line) for line in rundir.metrics.read_bytes().split(b"\n")[:-1] if line]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a write-ahead log that has just been emptied
        return 0


def _num_ended(rundir: RunDirectory) -> int:
    try:
        with rundir.metrics.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - 8192, 0))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return 0
    return int(_place(json.loads(lines[-2]))[0]) if len(lines) > 2 else 0


def _place(line: dict[str, Any]) -> tuple[float, float]:
    """Return how many episodes had ended and what the driver held in bytes."""
    return float(line["episodes/ended/completed"]), float(line["driver/resident_bytes"])


def growth(life: Sequence[tuple[float, float]], warm_up: float = WARM_UP) -> float:
    """Return the bytes that a driver grew by per 1,000 episodes after its warm-up: the median of slopes (Theil, Sen).

    `life` are (episodes ended, bytes) in order of time. What is held rises and falls by megabytes within seconds, as
    free memory is given back at times: slopes are between the highest places of spans, half of all spans apart.
    """
    first, last = life[0][0], life[-1][0]
    warm = [(ended, size) for ended, size in life if ended >= first + warm_up * (last - first)]
    spans: dict[int, tuple[float, float]] = {}
    for ended, size in warm:
        span = int(NUM_SPANS * (ended - warm[0][0]) / (last - warm[0][0] + 1))
        spans[span] = max(spans.get(span, (size, ended)), (size, ended))
    highest = list(spans.values())
    slopes = [
        1000 * (later[0] - earlier[0]) / (later[1] - earlier[1])
        for earlier, later in zip(highest, highest[len(highest) // 2 :], strict=False)
        if later[1] > earlier[1]
    ]
    return statistics.median(slopes) if slopes else 0.0


def _check(corpus: Corpus, plan: Plan) -> None:
    """Every episode of the plan is there once, completed, in sealed parts that are whole."""
    roster = plan.roster()
    seen = Ledger(roster)
    num = 0
    for record in corpus.iterate(columns=()):
        assert record.key in roster and record.key not in seen, f"{record.episode} must be there once"
        seen.put(record.key, record.status)
        num += 1
    assert num == len(roster) == corpus.totals.completed, f"{len(roster)} episodes must be completed, got {num}"


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return growth, sizes and time of a run of a million episodes."""
    num_episodes = 5_000 if brief else 1_000_000
    runs: list[LongRun] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as scratch:
            runs.append(measure_long_run(num_episodes, Path(scratch) / "run"))
    about = {"episodes": num_episodes, "live": LIVE, "kills": 1, "brief": brief}
    note = "The most that a driver held, per 1,000 episodes after a fifth of its life; the worse of the two drivers."
    return [
        figure(
            "long_run_growth",
            "B/1,000 episodes",
            [max(run.growth) for run in runs],
            goal=1000,
            is_at_most=True,
            configuration=about,
            note=note,
        ),
        figure("long_run_minutes", "min", [run.elapsed_s / 60 for run in runs], configuration=about),
        figure("long_run_journal", "MiB", [run.journal_max_mib for run in runs], configuration=about),
        figure("long_run_driver", "MiB", [max(run.resident_mib) for run in runs], configuration=about),
    ]


def main() -> None:
    """Measure once and print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=50_000)
    parser.add_argument("--out", type=Path, help="keep the run there")
    parser.add_argument("--play", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play is not None:
        play_on(options.play)
    scratch = Path(tempfile.mkdtemp())
    try:
        found = measure_long_run(options.episodes, options.out or scratch / "run")
    finally:
        shutil.rmtree(scratch)
    print(json.dumps(msgspec.to_builtins(found) | {"machine": describe_machine()}))


if __name__ == "__main__":
    main()
