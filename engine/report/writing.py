"""From a run's directory to its page: what is read, how much of it, and where it is written.

A run is only read, whoever plays it: of one that is held, what is sealed. At most `size` episodes are read whole; the
page says how many of how many.
"""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.config import read_table
from engine.config_sections import LimitsConfig
from engine.corpus import Corpus
from engine.egress_log import Noted, read_egress
from engine.files import write_atomic
from engine.limits import Spent
from engine.page.markup import heading, page, pairs_table, paragraph
from engine.panel import duration
from engine.protocol import ProtocolSpec, Section
from engine.report.blocks import by_purpose, by_role, figure, of_episodes, over_time, spread
from engine.report.costs import Costs, of_costs, read_costs
from engine.report.failures import Failures, of_failures, read_failures
from engine.report.leaving import of_egress
from engine.report.tally import Tally
from engine.report.timeline import Timeline
from engine.report.transcripts import section, transcripts
from engine.rundir import RunDirectory
from engine.show import protocol_of, short
from engine.status import num_episodes
from engine.tables import MISSING, percent
from engine.totals import Totals
from engine.transcript import one_line

AT_END: Final = 400
"""Episodes read at the end of a run: about a second."""
IN_HASTE: Final = 100
"""Episodes read when a run was interrupted and somebody waits for it to end."""
ON_DEMAND: Final = 2000
MAX_VERSIONS: Final = 8
FINISHED: Final = "finished"


class Reading(msgspec.Struct, kw_only=True):
    """What was read of a run. `table` is its configuration, `total` all of its episodes, `state` a sentence."""

    rundir: RunDirectory
    spec: ProtocolSpec
    table: dict[str, Any]
    totals: Totals
    total: int
    state: str
    tally: Tally
    failures: Failures
    timeline: Timeline
    costs: Costs
    egress: list[Noted]

    @property
    def models(self) -> dict[str, str]:
        """What plays each role."""
        pools = self.table.get("models", {})
        return {role: str(pools.get(name, {}).get("model", name)) for role, name in self.table.get("roles", {}).items()}


def write_report(
    rundir: RunDirectory,
    spec: ProtocolSpec | None = None,
    *,
    state: str = "",
    size: int = ON_DEMAND,
    sections: Sequence[Section] = (),
    limits: LimitsConfig | None = None,
    spent: Spent | None = None,
    to: Path | None = None,
) -> Path:
    """Write `report.html` and return its path, `to` another place than the run if wanted.

    At most `size` episodes are read whole (0: all).

    `spec` is the run's protocol, looked up when it is not at hand; `state` says how the run stands, for a driver that
    knows, as it does the `limits` in force and what was `spent`; `sections` are what the protocol reports of a finished
    run. Raises JournalError when something kept is
    damaged, InputError for a broken configuration, OSError, and whatever the protocol's own hooks raise.
    """
    read = _read(rundir, protocol_of(rundir) if spec is None else spec, state, size, limits, spent)
    place = rundir.report if to is None else to
    write_atomic(place, report_page(read, sections).encode())
    return place


def _read(
    rundir: RunDirectory,
    spec: ProtocolSpec,
    state: str,
    size: int,
    limits: LimitsConfig | None,
    spent: Spent | None,
) -> Reading:
    corpus, table = Corpus.open(rundir), read_table(rundir.config)
    timeline = Timeline.read([rundir.metrics_of(journal) for journal in corpus.journals or [0]])
    tally = Tally(spec, paused_s=timeline.paused_s)
    tally.update(corpus.sample(size) if size else corpus)
    total = num_episodes(rundir, table)
    return Reading(
        rundir=rundir,
        spec=spec,
        table=table,
        totals=corpus.totals,
        total=total,
        state=state or state_of(rundir, corpus.totals.episodes, total),
        tally=tally,
        failures=read_failures(corpus),
        timeline=timeline,
        costs=read_costs(table, corpus.totals, timeline.played_s, limits, spent),
        egress=read_egress(rundir.path),
    )


def state_of(rundir: RunDirectory, num_ended: int, total: int) -> str:
    """Return how a run stands, for who does not play it."""
    with rundir.read_lock() as is_free:
        holder = None if is_free else rundir.holder()
    if not is_free:
        who = f"by process {holder.pid} on {holder.host}" if holder is not None else "by somebody"
        return f"held {who} when this was written: what is sealed is counted"
    if num_ended < total:
        return open_state(rundir)
    return FINISHED


def open_state(rundir: RunDirectory) -> str:
    """Return the state of a run with episodes to play that nobody plays."""
    return f"not finished; go on with: sandplay resume {shlex.quote(str(rundir.path))}"


def report_page(read: Reading, sections: Sequence[Section] = ()) -> str:
    """Return the page of what was read. Raises what the protocol's hooks raise."""
    tally, failures = read.tally, read.failures
    own = [heading(2, "Result"), *map(section, sections)] if sections else []
    return page(
        f"Run {one_line(str(read.table.get('name', read.rundir.path.name)))}",
        pairs_table(_head(read)),
        heading(2, "Key figures"),
        pairs_table(_figures(read)),
        paragraph(_looked_at(read), "dim"),
        *own,
        of_costs(read.costs),
        over_time(read.timeline),
        by_role(tally, read.models),
        by_purpose(tally),
        of_episodes(tally),
        of_failures(failures, tally.attempts, read.totals.failed),
        of_egress(read.egress),
        transcripts("Episodes, drawn at random", tally.transcripts.items, read.spec),
        transcripts("Failed episodes, drawn at random", failures.records, read.spec),
    )


def _head(read: Reading) -> list[tuple[str, str]]:
    """Return what the run is: protocol, when, models, versions, state."""
    versions = [short(one) for one in sorted(read.tally.weights)]
    more = f" and {len(versions) - MAX_VERSIONS} more" if len(versions) > MAX_VERSIONS else ""
    rules = {name: value for name, value in read.table.get("protocol", {}).items() if name != "name" and value != {}}
    return [
        ("state", read.state),
        ("played", _when(read.timeline)),
        ("protocol", str(read.table.get("protocol", {}).get("name", MISSING))),
        ("rules", ", ".join(f"{name} {_plain(value)}" for name, value in rules.items()) or MISSING),
        ("models", ", ".join(f"{role}: {model}" for role, model in read.models.items()) or MISSING),
        ("weights", (", ".join(versions[:MAX_VERSIONS]) or MISSING) + more),
        ("cases", f"{read.table.get('cases', {}).get('source', MISSING)}, seed {read.table.get('seed', 0)}"),
        ("directory", str(read.rundir.path)),
        ("written by", f"Sandplay {_version()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
    ]


def _when(timeline: Timeline) -> str:
    if timeline.began_at is None or timeline.ended_at is None:
        return f"{MISSING} (no metrics were kept)"
    began, ended = (datetime.fromtimestamp(at, UTC) for at in (timeline.began_at, timeline.ended_at))
    num = len(timeline.resumed_s)
    pauses = f", resumed {'once' if num == 1 else f'{num} times'}" if num else ""
    return f"{began:%Y-%m-%d %H:%M} to {ended:%Y-%m-%d %H:%M} UTC, {duration(timeline.played_s)} of playing{pauses}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _version() -> str:
    try:
        return version("sandplay")
    except PackageNotFoundError:
        return "(not installed)"


def _figures(read: Reading) -> list[tuple[str, str]]:
    """Return the figures of the whole run, then those of the episodes that were read."""
    totals, played_s, tally = read.totals, read.timeline.played_s, read.tally
    ended = ", ".join(f"{getattr(totals, s):,} {s}" for s in ("completed", "failed", "cancelled") if getattr(totals, s))
    tries = "; each try counts" if totals.episodes > read.total else ""
    cached = percent(totals.cached_tokens, totals.prompt_tokens)
    speeds = ((totals.episodes, "episodes/s"), (totals.turns, "calls/s"), (totals.completion_tokens, "tokens/s out"))
    speed = ", ".join(f"{figure(number / played_s)} {unit}" for number, unit in speeds) if played_s else MISSING
    return [
        ("episodes", f"{totals.episodes:,} of {read.total:,} ended: {ended or 'none'}{tries}"),
        ("calls", f"{totals.calls:,}, every attempt counted"),
        (
            "tokens",
            f"{totals.prompt_tokens:,} in, {cached} of them from prefix caches; {totals.completion_tokens:,} out",
        ),
        ("speed", f"{speed}, over all time of playing"),
        ("turns per episode", spread(tally.num_turns)),
        ("seconds per episode", spread(tally.duration_s)),
    ]


def _looked_at(read: Reading) -> str:
    """Return how much of the corpus stands behind what is counted below."""
    whole, read_whole = read.totals.episodes, read.tally.num
    ranges = "A figure with a range is the median, and where four fifths of the values lie."
    if read_whole >= whole:
        return f"All {whole:,} episodes that ended were read. {ranges}"
    return (
        f"Roles, purposes and distributions come from {read_whole:,} of {whole:,} episodes, drawn at random in groups "
        f"from parts spread over the run; the figures above it, from all. {ranges}"
    )
