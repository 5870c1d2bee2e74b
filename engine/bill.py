"""What a run's roles asked for and what that cost: rows, figures for machines, a table for people.

A cost is missing (None, "-") where a model has no prices, never 0. Covers terminal episodes.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.prices import Prices, rounded
from engine.tables import MISSING, make_table, plain
from engine.totals import CallTotals, Totals

if TYPE_CHECKING:
    from rich.table import Table

UNTOLD: Final = "(not told apart)"
"""Names the calls of episodes that an older version sealed without their roles."""
HEADS: Final = ("role", "model", "calls", "prompt", "cached", "completion", "cost")


class BillRow(msgspec.Struct, frozen=True):
    """One role's calls and tokens, and what they cost; `model` names its pool, "" where nobody knows."""

    role: str
    model: str
    calls: CallTotals
    cost: float | None

    @property
    def figures(self) -> dict[str, Any]:
        """What `--json` says of the role."""
        return {"model": self.model, **msgspec.structs.asdict(self.calls), "cost": rounded(self.cost)}


def make_bill(totals: Totals, roles: Mapping[str, str], prices: Mapping[str, Prices]) -> list[BillRow]:
    """Return one row per role that was asked. `roles` maps them to pools, `prices` pools to theirs."""
    rows = [_row(role, roles.get(role, ""), totals.roles[role], prices) for role in _ordered(totals.roles, roles)]
    return rows + ([_row(UNTOLD, "", totals.untold, prices)] if totals.untold.calls else [])


def total_cost(costs: Iterable[float | None]) -> float | None:
    """Return the sum of the costs that are known, None when none is."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def read_prices(models: Mapping[str, Any]) -> dict[str, Prices]:
    """Return the prices of each model of a stored configuration's `[models]`."""
    return {name: msgspec.convert(table, Prices) for name, table in models.items()}


def bill_table(rows: Mapping[str, Mapping[str, Any]], cost: float | None) -> "Table":
    """Return the figures by role as a table; `cost` is that of all, in the unit of the prices."""
    table = make_table(HEADS, title="By role", numbers=HEADS[2:])
    for role, row in rows.items():
        counts = [f"{row[name]:,}" for name in ("calls", "prompt_tokens", "cached_tokens", "completion_tokens")]
        table.add_row(*map(plain, (role, row["model"] or MISSING, *counts, money(row["cost"]))))
    if cost is not None and len(rows) > 1:
        table.add_row(*map(plain, ("all with prices", *[""] * 5, money(cost))))
    return table


def money(cost: float | None) -> str:
    """Return a cost for people."""
    return MISSING if cost is None else f"{cost:,.2f}" if cost >= 100 else f"{cost:.4g}"


def _row(role: str, model: str, calls: CallTotals, prices: Mapping[str, Prices]) -> BillRow:
    price = prices.get(model)
    return BillRow(role, model, calls, price.cost(calls) if price is not None else None)


def _ordered(used: Mapping[str, CallTotals], roles: Mapping[str, str]) -> list[str]:
    return [*(role for role in roles if role in used), *(role for role in used if role not in roles)]
