"""What calls cost by a model's prices; pure. The currency is whatever the prices are in."""

import math
from typing import Final

import msgspec

from engine.totals import CallTotals

PER: Final = 1e6
"""Prices are for so many tokens."""


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Money per million tokens of prompts, of completions, and of prompts found in a prefix cache (None: as others).

    Without the first two nothing is known of the cost.
    """

    price_in: float | None = None
    price_out: float | None = None
    price_cached: float | None = None

    def cost(self, calls: CallTotals) -> float | None:
        """Return what calls cost, None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        price_cached = self.price_in if self.price_cached is None else self.price_cached
        fresh = calls.prompt_tokens - calls.cached_tokens
        money = fresh * self.price_in + calls.cached_tokens * price_cached + calls.completion_tokens * self.price_out
        return money / PER

    def problems(self, where: str) -> list[str]:
        """Return what is wrong with the prices of the model at `where`, one sentence each."""
        values: dict[str, float | None] = msgspec.structs.asdict(self)
        found = [
            f"{where}.{name} must be money per million tokens >= 0, got {value}"
            for name, value in values.items()
            if value is not None and not 0 <= value < math.inf
        ]
        missing = [name for name in ("price_in", "price_out") if values[name] is None]
        given = [name for name, value in values.items() if value is not None]
        if given and missing:
            found.append(f"{where}: {' and '.join(missing)} must be set too, got {' and '.join(given)} alone")
        return found


def rounded(figure: float | None) -> float | None:
    """Return a cost for machines: a millionth of the unit is exact enough."""
    return None if figure is None else round(figure, 6)
