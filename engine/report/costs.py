"""What the run asked for and what that cost: the bill by role, the prices it was made with, and what limits are left.

Of all terminal episodes, unlike figures by role that are of those that were read. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.bill import BillRow, make_bill, money, read_prices, total_cost
from engine.config_sections import LimitsConfig
from engine.limits import Spent
from engine.page.markup import NONE, Html, heading, joined, paragraph, table
from engine.prices import Prices
from engine.tables import MISSING, percent
from engine.totals import CallTotals, Totals

UNITS: Final = {"max_calls": "calls", "max_tokens": "tokens", "max_cost": "cost", "max_hours": "hours"}
UNPRICED: Final = "Nobody gave prices (models.NAME.price_in and price_out), so that no cost is known."


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """The bill of a run's terminal episodes, the prices by pool, and what was used of each limit.

    `spent` is the driver's own count, live episodes included; without one it is that of the bill.
    """

    bill: Sequence[BillRow]
    prices: Mapping[str, Prices]
    limits: LimitsConfig = LimitsConfig()
    spent: Spent
    is_of_all: bool = False

    @property
    def is_priced(self) -> bool:
        """Whether any role's model has prices."""
        return any(row.cost is not None for row in self.bill)


def read_costs(
    table: Mapping[str, Any], totals: Totals, played_s: float, limits: LimitsConfig | None, spent: Spent | None
) -> Costs:
    """Return what a run of this stored configuration came to. `limits` are those in force, else the stored ones."""
    prices = read_prices(table.get("models", {}))
    bill = make_bill(totals, table.get("roles", {}), prices)
    whole = totals.all_calls
    ended = Spent(
        calls=whole.calls, tokens=whole.tokens, cost=total_cost(row.cost for row in bill), hours=played_s / 3600
    )
    return Costs(
        bill=bill,
        prices=prices,
        limits=msgspec.convert(table.get("limits", {}), LimitsConfig) if limits is None else limits,
        spent=spent or ended,
        is_of_all=spent is not None,
    )


def of_costs(costs: Costs) -> Html:
    """Return the block of the page."""
    if not costs.bill:
        return NONE
    heads = ("role", "model", "calls", "tokens in", "cached", "tokens out")
    priced = (*heads, "cost", "money per million tokens")
    rows = [_row(row, costs) for row in costs.bill]
    if len(rows) > 1:
        whole = sum((row.calls for row in costs.bill), CallTotals())
        rows.append(("all", "", *_counts(whole), money(total_cost(row.cost for row in costs.bill)), ""))
    shown = priced if costs.is_priced else heads
    note = "Every attempt of all episodes that ended is counted. "
    note += f"Costs are in the unit of the prices.{_left_out(costs)}" if costs.is_priced else UNPRICED
    return joined(
        [
            heading(2, "What it cost" if costs.is_priced else "What it took"),
            paragraph(note, "dim"),
            table(shown, [row[: len(shown)] for row in rows], numbers=shown[2:]),
            _limits(costs),
        ]
    )


def _left_out(costs: Costs) -> str:
    """Return whose calls no cost holds, where some models have prices and others none."""
    names = ", ".join(row.role for row in costs.bill if row.cost is None)
    return f" The model of {names} has no prices, and no sum holds its cost." if names else ""


def _row(row: BillRow, costs: Costs) -> tuple[str, ...]:
    return row.role, row.model or MISSING, *_counts(row.calls), money(row.cost), _price(costs.prices.get(row.model))


def _counts(calls: CallTotals) -> Iterable[str]:
    cached = f"{calls.cached_tokens:,} ({percent(calls.cached_tokens, calls.prompt_tokens)})"
    return f"{calls.calls:,}", f"{calls.prompt_tokens:,}", cached, f"{calls.completion_tokens:,}"


def _price(price: Prices | None) -> str:
    if price is None or price.price_in is None or price.price_out is None:
        return MISSING
    cached = "" if price.price_cached is None else f", {price.price_cached:g} cached"
    return f"{price.price_in:g} in{cached}, {price.price_out:g} out"


def _limits(costs: Costs) -> Html:
    """Return what was used of each limit that is set."""
    used: Mapping[str, float | None] = msgspec.structs.asdict(costs.spent)
    found = [(name, limit, used[UNITS[name]]) for name, limit in costs.limits.by_name.items() if limit > 0]
    if not found:
        return NONE
    rows = [
        (f"limits.{name}", _amount(name, limit), _amount(name, value), percent(value or 0.0, limit))
        for name, limit, value in found
    ]
    note = "Episodes that have not ended are counted for the limits."
    if not costs.is_of_all:
        note = "Only episodes that ended are counted. The limits are those of config.toml; resume may have set others."
    heads = ("limit", "at most", "used", "share")
    reached = [place for place, (_, limit, value) in enumerate(found) if value is not None and value >= limit]
    return joined([paragraph(note, "dim"), table(heads, rows, numbers=heads[1:], flagged=reached)])


def _amount(name: str, value: float | None) -> str:
    if name == "max_cost" or value is None:
        return money(value)
    return f"{value:.3g}" if name == "max_hours" else f"{value:,.0f}"
