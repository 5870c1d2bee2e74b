"""What a run has used of its limits, and whether more may be sent; pure: time is an argument, in monotonic seconds.

Invariant: no call is sent beyond `max_calls`, and none once any limit is reached. What an answer takes is known when it
is there: tokens and cost may exceed their limits by what was in flight. Knows nothing of tasks, pools or journals.
"""

import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from engine.config import Config
from engine.config_sections import LimitsConfig
from engine.errors import RunError
from engine.prices import Prices, rounded
from engine.protocol import EMBEDDER
from engine.steps import Usage
from engine.totals import CallTotals, Totals

ENDLESS: Final = sys.maxsize
UNTOLD: Final = ""
"""Stands for the pool of calls that are not known by role."""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has used in its whole life, episodes that have not ended included.

    `cost` is that of the models with prices, None when there are none.
    """

    calls: int = 0
    tokens: int = 0
    cost: float | None = None
    hours: float = 0.0

    @property
    def figures(self) -> dict[str, float | None]:
        """What `--json` says of it."""
        return {"calls": self.calls, "tokens": self.tokens, "cost": rounded(self.cost), "hours": rounded(self.hours)}

    def __add__(self, other: "Spent") -> "Spent":
        """Return what two shards used together; they run side by side, so hours are the longest."""
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Spent(
            calls=self.calls + other.calls,
            tokens=self.tokens + other.tokens,
            cost=sum(costs) if costs else None,
            hours=max(self.hours, other.hours),
        )


class Reached(msgspec.Struct, frozen=True):
    """A limit that is reached: its name in `[limits]`, what it is, and what was used."""

    name: str
    limit: float
    value: float

    def __str__(self) -> str:
        return f"limits.{self.name} is reached: {_figure(self.value)} of {_figure(self.limit)}"


class Meter:
    """Counts what a run uses against its limits.

    `prices` and `before`, what was used when this driver began, go by pool; `played_s` is how long the run was played
    before. Hours count from `begin` on.
    """

    def __init__(
        self,
        limits: LimitsConfig,
        *,
        prices: Mapping[str, Prices] | None = None,
        before: Mapping[str, CallTotals] | None = None,
        played_s: float = 0.0,
    ) -> None:
        self._limits = limits
        self._prices = dict(prices or {})
        self._calls = self._tokens = 0
        costs = [price.cost(CallTotals()) for price in self._prices.values()]
        self._cost = 0.0 if any(cost is not None for cost in costs) else None
        for pool, used in (before or {}).items():
            self._calls += used.calls
            self._add(pool, used)
        self._played_s = played_s
        self._begun: float | None = None

    def begin(self, now: float) -> None:
        """Playing begins: count the hours."""
        self._begun = now

    def room(self, now: float) -> int:
        """Return how many calls may be sent."""
        limits = self._limits
        if (
            (limits.max_tokens and self._tokens >= limits.max_tokens)
            or (limits.max_cost and (self._cost or 0.0) >= limits.max_cost)
            or (limits.max_hours and self._hours(now) >= limits.max_hours)
        ):
            return 0
        return max(limits.max_calls - self._calls, 0) if limits.max_calls else ENDLESS

    def sent(self, num: int) -> None:
        """Count calls that go out; at most `room` of them may."""
        self._calls += num

    def answered(self, pool: str, usage: Usage) -> None:
        """Count what an answer took."""
        self._add(pool, CallTotals.of(usage))

    def spent(self, now: float) -> Spent:
        """Return what was used so far."""
        return Spent(calls=self._calls, tokens=self._tokens, cost=self._cost, hours=self._hours(now))

    def reached(self, now: float) -> list[Reached]:
        """Return the limits that are reached."""
        used = (self._calls, self._tokens, self._cost or 0.0, self._hours(now))
        limits = self._limits.by_name
        return [
            Reached(name, limit, value)
            for (name, limit), value in zip(limits.items(), used, strict=True)
            if 0 < limit <= value
        ]

    def _add(self, pool: str, used: CallTotals) -> None:
        self._tokens += used.tokens
        price = self._prices.get(pool)
        cost = price.cost(used) if price is not None else None
        if self._cost is not None and cost is not None:
            self._cost += cost

    def _hours(self, now: float) -> float:
        return (self._played_s + (now - self._begun if self._begun is not None else 0.0)) / 3600


def used_before(config: Config, ended: Totals, live: Mapping[str, CallTotals]) -> dict[str, CallTotals]:
    """Return by pool what a run's terminal episodes took, and its live ones (`live` by replica).

    Raises RunError when the cost is limited, and an older version sealed episodes without saying what each role took.
    """
    sums: dict[str, CallTotals] = {}
    untold = ended.untold
    if untold.calls and config.limits.max_cost > 0:
        raise RunError(
            f"limits.max_cost needs what each role took, got {untold.calls} calls of episodes that an older version"
            " sealed without it: use another limit, or start a new run"
        )
    used = [(config.roles.get(role, UNTOLD), calls) for role, calls in ended.roles.items()]
    # What failed at the embedder was no call to a model, and stands in the journal as an attempt all the same.
    is_known = EMBEDDER in config.models
    used += [(pool_of(one, config), calls) for one, calls in live.items() if is_known or one != EMBEDDER]
    for pool, calls in [(UNTOLD, untold), *used]:
        sums[pool] = sums.get(pool, CallTotals()) + calls
    return sums


def pool_of(replica: str, config: Config) -> str:
    """Return the pool of a replica, which is named as its pool, or begins so (`base/0`)."""
    return next((name for name in config.models if replica == name or replica.startswith(f"{name}/")), UNTOLD)


def share_limits(limits: LimitsConfig, index: int, num_shards: int) -> LimitsConfig:
    """Return the limits of one shard: equal shares, whole calls and tokens; all of the hours, which pass for all."""

    def part(whole: int) -> int:
        return whole * (index + 1) // num_shards - whole * index // num_shards

    return msgspec.structs.replace(
        limits,
        max_calls=part(limits.max_calls),
        max_tokens=part(limits.max_tokens),
        max_cost=limits.max_cost / num_shards,
    )


def _figure(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:,.6g}"
