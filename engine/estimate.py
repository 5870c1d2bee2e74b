"""What a whole run will ask for and cost: least, expected and most, by role; pure but for reading an earlier run.

Least and most are the forecast's. What is expected is what episodes of an earlier run took on average, retries and
re-asks included. Without one nothing is expected: halfway between least and most is given, and called so. Hours are
those of an earlier run on the same models, else reckoned by step times that were measured, or missing.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.bill import money, total_cost
from engine.config import flatten, read_table
from engine.config_sections import OpenAIConfig, prices_of
from engine.corpus import Corpus
from engine.dryrun import Course, Forecast
from engine.elapsed import played_s
from engine.errors import InputError
from engine.hours import hours_of
from engine.planning import Plan
from engine.prices import Prices, rounded
from engine.rundir import RunDirectory
from engine.speed import Speed
from engine.totals import CallTotals

PRICES: Final = ("price_in", "price_out", "price_cached")
PACE: Final = ("shards", "scheduler.max_live")
"""Beside the models, what a run's speed follows from; the machine is not known."""
HEADS: Final = ("", "role", "calls", "prompt", "completion", "cost")


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What all episodes ask for, by role. A cost is None where the role's model has no prices, `hours` if unknown."""

    roles: dict[str, CallTotals]
    costs: dict[str, float | None]
    hours: float | None = None

    @property
    def calls(self) -> CallTotals:
        """Calls and tokens of all roles."""
        return sum(self.roles.values(), CallTotals())

    @property
    def cost(self) -> float | None:
        """What the roles with prices cost together, None when there is none."""
        return total_cost(self.costs.values())

    @property
    def figures(self) -> dict[str, Any]:
        """What `--json` says of it."""
        roles = {
            role: {**msgspec.structs.asdict(calls), "cost": rounded(self.costs[role])}
            for role, calls in self.roles.items()
        }
        whole = {**msgspec.structs.asdict(self.calls), "cost": rounded(self.cost), "hours": rounded(self.hours)}
        return {**whole, "roles": roles}


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The needs of a run. `basis` names the run that `expected` is measured by; with "" it is `halfway` instead."""

    least: Need
    expected: Need
    most: Need
    basis: str = ""
    notes: list[str] = []

    @property
    def by_name(self) -> dict[str, Need]:
        """Return the three needs as they are called."""
        return {"least": self.least, "expected" if self.basis else "halfway": self.expected, "most": self.most}


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was played: its resolved configuration, what its ended episodes took, and for how long it ran."""

    directory: str
    table: dict[str, Any]
    episodes: int
    roles: dict[str, CallTotals]
    hours: float


def read_earlier(rundir: RunDirectory) -> Earlier:
    """Read what a run came to. Raises InputError when no episode of it has ended, or roles were not told apart."""
    totals, table = Corpus.open(rundir).totals, read_table(rundir.config)
    if not totals.episodes:
        raise InputError(f"--like must be a run with ended episodes, got none in {rundir.path}: play it first")
    if totals.untold.calls:
        raise InputError(f"--like must be a run that says what each role took, got {rundir.path} of an older version")
    times = [played_s(rundir.metrics_of(index)) for index in range(int(table.get("shards", 1)))]
    return Earlier(
        directory=str(rundir.path),
        table=table,
        episodes=totals.episodes,
        roles=totals.roles,
        hours=max(times) / 3600,
    )


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The measured step times of a plan's pools and where they are from; `missing` says why some pool has none."""

    speeds: Mapping[str, tuple[Speed, Path]] = {}
    missing: Sequence[str] = ()

    @property
    def by_pool(self) -> dict[str, Speed]:
        """The step times alone."""
        return {name: speed for name, (speed, _) in self.speeds.items()}

    @property
    def notes(self) -> list[str]:
        """One sentence for each source, and what the hours leave out; or why there are none."""
        if self.missing:
            return [f"hours: unknown, {why}" for why in self.missing]
        found = [
            f"hours: by the step times of {speed.settings['model']} on {speed.machine}, measured {speed.day}"
            f" (a step is {speed.coefficients.mean_error:.0%} off on average), in {path}"
            for speed, path in self.speeds.values()
        ]
        return [
            *dict.fromkeys(found),
            "starting up, similarities and waiting for stragglers come on top of these hours",
        ]


def estimate(plan: Plan, figures: Forecast, earlier: Earlier | None = None, pace: Pace | None = None) -> Estimate:
    """Return what a plan needs. Raises InputError when the earlier run is of another protocol."""
    found = _without_hours(plan, figures, earlier)
    pace = pace or Pace(missing=("measure a first run and name it with --like RUN",))
    if pace.missing:
        return found if found.expected.hours else msgspec.structs.replace(found, notes=[*found.notes, *pace.notes])
    return _timed(found, plan, pace)


def _timed(found: Estimate, plan: Plan, pace: Pace) -> Estimate:
    """Put hours to needs that have none. At least every prompt is found in a cache, at most none is."""
    cached = {
        role: msgspec.structs.replace(calls, cached_tokens=calls.prompt_tokens)
        for role, calls in found.least.roles.items()
    }
    least = hours_of(cached, plan, pace.by_pool, "least")
    most = hours_of(found.most.roles, plan, pace.by_pool, "most")
    expected = found.expected.hours
    if expected is None and found.basis:
        expected = hours_of(found.expected.roles, plan, pace.by_pool, "expected")
    notes = pace.notes if found.expected.hours is None else [f"least and most {note}" for note in pace.notes[:-1]]
    return msgspec.structs.replace(
        found,
        least=msgspec.structs.replace(found.least, hours=least),
        expected=msgspec.structs.replace(found.expected, hours=(least + most) / 2 if expected is None else expected),
        most=msgspec.structs.replace(found.most, hours=most),
        notes=[*found.notes, *notes],
    )


def _without_hours(plan: Plan, figures: Forecast, earlier: Earlier | None) -> Estimate:
    """Return what a plan needs, with the hours of the earlier run if it was played at the same pace."""
    prices = {role: prices_of(plan.config.models[name]) for role, name in plan.config.roles.items()}
    least = _need(_scaled(figures.least, figures.episodes, prices), prices, is_cached=True)
    most = _need(_scaled(figures.most, figures.episodes, prices), prices)
    said = [*_guessed(plan), *_unpriced(most)]
    if earlier is None:
        return Estimate(least=least, expected=_halfway(least, most), most=most, notes=said)
    expected, notes = _expected(plan, earlier, prices)
    return Estimate(least=least, expected=expected, most=most, basis=earlier.directory, notes=[*said, *notes])


def _guessed(plan: Plan) -> list[str]:
    """Say of which models nobody here has the tokenizer."""
    pools = dict.fromkeys(plan.config.roles.values())
    names = ", ".join(f"models.{name}" for name in pools if isinstance(plan.config.models[name], OpenAIConfig))
    return [f"tokens: a guess for {names}, as an endpoint's tokenizer is not known"] if names else []


def _unpriced(need: Need) -> list[str]:
    """Say whose calls are in no cost, where some models have prices and others none."""
    names = ", ".join(role for role, cost in need.costs.items() if cost is None)
    return [f"cost: without {names}, whose model has no prices"] if names and need.cost is not None else []


def _scaled(course: Course, episodes: int, order: Iterable[str]) -> dict[str, CallTotals]:
    return {role: _times(course.roles[role], episodes) for role in order if role in course.roles}


def _times(calls: CallTotals, factor: float) -> CallTotals:
    return CallTotals(*(round(getattr(calls, name) * factor) for name in CallTotals.__struct_fields__))


def _need(
    roles: dict[str, CallTotals], prices: Mapping[str, Prices], hours: float | None = None, *, is_cached: bool = False
) -> Need:
    """Put a cost to calls. `is_cached`: whole prompts may be found in a cache, where that is cheaper."""
    costs: dict[str, float | None] = {}
    for role, calls in roles.items():
        best = msgspec.structs.replace(calls, cached_tokens=calls.prompt_tokens)
        found = [prices[role].cost(one) for one in ((calls, best) if is_cached else (calls,))]
        costs[role] = min((cost for cost in found if cost is not None), default=None)
    return Need(roles=roles, costs=costs, hours=hours)


def _halfway(least: Need, most: Need) -> Need:
    names = {**least.roles, **most.roles}
    roles = {
        role: _times(least.roles.get(role, CallTotals()) + most.roles.get(role, CallTotals()), 0.5) for role in names
    }
    costs = {role: _mean(least.costs.get(role, 0.0), most.costs.get(role, 0.0)) for role in names}
    return Need(roles=roles, costs=costs)


def _mean(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else (one + other) / 2


def _expected(plan: Plan, earlier: Earlier, prices: Mapping[str, Prices]) -> tuple[Need, list[str]]:
    there, here = flatten(earlier.table), flatten(plan.table)
    name = "protocol.name"
    if there.get(name) != here.get(name):
        raise InputError(
            f"--like must be a run of the same protocol, got {there.get(name)!r} for {here.get(name)!r}: name another"
        )
    factor = plan.num_episodes / earlier.episodes
    roles = {role: _times(earlier.roles[role], factor) for role in prices if role in earlier.roles}
    notes = [f"expected: as the {earlier.episodes} ended episodes of {earlier.directory}, retries and re-asks included"]
    rules = _differences(there, here, "protocol.")
    if rules:
        notes.append(f"its rules differ, and may make other figures: {', '.join(rules)}")
    pace = [key for key in _differences(there, here, "models.") if key.rpartition(".")[2] not in PRICES]
    pace += [key for key in PACE if there.get(key) != here.get(key)]
    if pace or not earlier.hours:
        why = f"it was played with other {', '.join(pace)}" if pace else "it has no metrics"
        return _need(roles, prices), [*notes, f"its own hours do not hold: {why}"]
    notes.append("hours: at the pace of that run, on its machine; one with few episodes fills the replicas less well")
    return _need(roles, prices, earlier.hours * factor), notes


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str) -> list[str]:
    keys = sorted(key for key in there.keys() | here.keys() if key.startswith(prefix))
    return [key for key in keys if there.get(key) != here.get(key)]


def rows_of(found: Estimate) -> list[tuple[str, ...]]:
    """Return the rows of a table under `HEADS`: by need, every role and then all of them."""
    rows: list[tuple[str, ...]] = []
    for name, need in found.by_name.items():
        parts = [
            *((role, calls, need.costs[role]) for role, calls in need.roles.items()),
            ("all", need.calls, need.cost),
        ]
        for number, (role, calls, cost) in enumerate(parts):
            figures = (calls.calls, calls.prompt_tokens, calls.completion_tokens)
            rows.append((name if not number else "", role, *(f"{figure:,}" for figure in figures), money(cost)))
    return rows
