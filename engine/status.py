"""How far a run is, read without disturbing its driver."""

from collections.abc import Mapping
from typing import Any

from engine.bill import make_bill, money, read_prices, total_cost
from engine.config import read_table
from engine.corpus import Corpus
from engine.journal_local import read_life
from engine.prices import rounded
from engine.rundir import RunDirectory
from engine.transcript import one_line


def read_status(rundir: RunDirectory) -> dict[str, Any]:
    """Return the run's name, episode counts, calls, tokens and cost. Raises InputError when it is no run directory."""
    corpus = Corpus.open(rundir)
    totals = corpus.totals
    table = read_table(rundir.config)
    total = num_episodes(rundir, table)
    with rundir.read_lock() as is_free:
        # A driver that was killed leaves its name; the lock alone says whether one lives.
        holder = None if is_free else rundir.holder()
    bill = make_bill(totals, table["roles"], read_prices(table["models"]))
    return {
        "directory": str(rundir.path),
        "name": table["name"],
        "episodes": {
            "completed": totals.completed,
            "failed": totals.failed,
            "cancelled": totals.cancelled,
        },
        "total": total,
        "calls": totals.calls,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "cached_tokens": totals.cached_tokens,
        "cost": rounded(total_cost(row.cost for row in bill)),
        "roles": {row.role: row.figures for row in bill},
        "driver_pid": None if holder is None else holder.pid,
        "driver_host": None if holder is None else holder.host,
        "journals": _journals_away(rundir, int(table.get("shards", 1))),
    }


def _journals_away(rundir: RunDirectory, num_journals: int) -> list[dict[str, Any]]:
    """Return the journals that live on a node's own disk: on which host, where, and how often they are copied."""
    lives = [(index, read_life(rundir, index)) for index in range(num_journals)]
    return [
        {"index": index, "host": life.host, "directory": life.directory, "copy_every_s": life.copy_every_s}
        for index, life in lives
        if life is not None and life.id
    ]


def num_episodes(rundir: RunDirectory, table: Mapping[str, Any]) -> int:
    """Return how many episodes a run has: cases, which are counted without holding them, times repeats."""
    path = rundir.inputs / "cases.jsonl"
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        num_cases = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    return num_cases * int(table.get("cases", {}).get("repeats", 1))


def status_lines(figures: dict[str, Any]) -> list[str]:
    """Return the status as plain lines."""
    episodes = figures["episodes"]
    ended = sum(episodes.values())
    lines = [
        f"{one_line(str(figures['name']))}: {ended} of {figures['total']} episodes have ended"
        f" ({episodes['completed']} completed, {episodes['failed']} failed, {episodes['cancelled']} cancelled)",
        f"{figures['calls']} calls, {figures['prompt_tokens']} prompt tokens ({figures['cached_tokens']} cached),"
        f" {figures['completion_tokens']} completion tokens",
    ]
    lines += [_role_line(role, row) for role, row in figures["roles"].items()]
    lines += [
        f"journal {row['index']} lives on {one_line(row['host'], 60)} in {one_line(row['directory'], 200)},"
        f" copied here every {row['copy_every_s']:g} s"
        for row in figures["journals"]
    ]
    if figures["driver_pid"] is not None:
        who = f"process {figures['driver_pid']} on {one_line(figures['driver_host'], 60)}"
        lines.append(f"being played by {who} (sealed episodes are counted)")
    elif ended < figures["total"]:
        lines.append(f"go on with: sandplay resume {figures['directory']}")
    return lines


def _role_line(role: str, row: dict[str, Any]) -> str:
    name = one_line(role, 60)
    return (
        f"  {name}: {row['calls']} calls, {row['prompt_tokens']} + {row['completion_tokens']} tokens,"
        f" cost {money(row['cost'])}"
    )
