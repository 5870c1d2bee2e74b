"""`sandplay bench`: measures rows one after the other, each in its own process, and keeps the record after every row.

Progress goes to stderr, the table to stdout. A row that fails is said and left out; the others go on, and the same
command tries it again. Invariant: whatever a row started is gone before the next one begins.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from benchmarks.figures import Figure, Record
from benchmarks.results import describe_run, open_record, results_directory, save_record, with_row
from benchmarks.rows import ROWS
from benchmarks.table import print_record
from engine.errors import InputError

STOP_WITHIN_S = 20.0
ALL_WITHIN_MIN = 90
"""How long `all` may take: rows that would not end in time are left to the next call."""


def run_bench(
    name: str,
    *,
    json_path: Path | None = None,
    repeats: int | None = None,
    is_brief: bool = False,
    is_new: bool = False,
    within_min: float = ALL_WITHIN_MIN,
    directory: Path | None = None,
) -> int:
    """Measure a row or `all`, print the table, return the exit code: 0, or 1 when a row failed.

    Of `all`, rows that would not end within so many minutes are left out and named: the same command goes on there.

    Raises InputError for an unknown row, one without a brief variant, or a number of repeats below 1.
    """
    wanted = choose(name, is_brief=is_brief)
    if repeats is not None and repeats < 1:
        raise InputError(f"--repeats must be >= 1, got {repeats}: leave it out for each row's own number")
    machine = describe_run(repeats, is_brief=is_brief)
    path, record = open_record(directory or results_directory(), machine, wanted, is_new=is_new)
    if record.rows:
        _say(f"going on with {path.name}, which has {', '.join(record.rows)}")
    failed: list[str] = []
    left: list[str] = []
    until = time.monotonic() + 60 * within_min
    for row in [row for row in wanted if row not in record.rows]:
        if name == "all" and not is_brief and time.monotonic() + 60 * ROWS[row].minutes > until:
            left.append(row)
            continue
        figures = measure(row, repeats or (1 if is_brief else ROWS[row].repeats), is_brief=is_brief)
        if figures is None:
            failed.append(row)
            continue
        record = with_row(record, row, figures)
        _save(path, record, json_path)
    print_record(record, wanted)
    if record.rows:
        _save(path, record, json_path)
        _say(f"record: {path}")
    if left:
        _say(f"left for the next time, to end within {within_min:g} minutes: {', '.join(left)}")
    if failed:
        _say(f"failed: {', '.join(failed)}; the same command tries them again")
    return 1 if failed else 0


def choose(name: str, *, is_brief: bool) -> list[str]:
    """Return the rows of a name. Raises InputError."""
    offered = [row for row, found in ROWS.items() if found.has_brief or not is_brief]
    if name == "all":
        return [row for row in offered if ROWS[row].is_in_all]
    if name not in offered:
        kind = "rows with a brief variant" if is_brief and name in ROWS else "rows"
        raise InputError(f"bench must be all or one of the {kind} ({', '.join(offered)}), got {name!r}")
    return [name]


def measure(row: str, repeats: int, *, is_brief: bool) -> list[Figure] | None:
    """Measure one row in its own process; None when it failed."""
    _say(f"{row}: {repeats} repeat{'s' if repeats > 1 else ''}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sandplay-bench-") as scratch:
        out = Path(scratch) / "figures.json"
        command = [sys.executable, "-m", "benchmarks.row", row, str(out), f"--repeats={repeats}"]
        code = _run(command + ["--brief"] * is_brief)
        took = f"{time.monotonic() - begun:.0f} s"
        if code or not out.is_file():
            _say(f"{row}: failed with exit code {code} after {took}")
            return None
        figures = msgspec.json.decode(out.read_bytes(), type=list[Figure])
    for figure in figures:
        _say(f"{row}: {figure.name} {figure.median:.6g} {figure.unit}")
    _say(f"{row}: done in {took}")
    return figures


def _run(command: Sequence[str]) -> int:
    """Run a child to its end in a session of its own; whatever it leaves behind ends with it."""
    paths = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    child = subprocess.Popen(command, stdout=sys.stderr, env=environment, start_new_session=True)
    try:
        return child.wait()
    except BaseException:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_WITHIN_S)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _save(path: Path, record: Record, json_path: Path | None) -> None:
    for place in (path, json_path):
        if place is not None:
            save_record(place, record)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
