import math

import pytest

from engine.prices import Prices, rounded
from engine.totals import CallTotals

CALLS = CallTotals(3, 1_000_000, 200_000, 400_000)


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        (Prices(), None),
        (Prices(price_in=2, price_out=10), 4.0),
        (Prices(price_in=2, price_out=10, price_cached=0.5), 3.4),
        (Prices(price_in=0, price_out=0), 0.0),
    ],
)
def test_prices_are_for_a_million_tokens(prices: Prices, cost: float | None) -> None:
    found = prices.cost(CALLS)
    assert found == cost or (found is not None and cost is not None and math.isclose(found, cost))
    assert rounded(found) == cost


def test_each_problem_is_named_with_its_place() -> None:
    assert Prices(price_in=1, price_out=2).problems("models.a") == []
    assert Prices(price_in=-1, price_cached=math.nan).problems("models.a") == [
        "models.a.price_in must be money per million tokens >= 0, got -1",
        "models.a.price_cached must be money per million tokens >= 0, got nan",
        "models.a: price_out must be set too, got price_in and price_cached alone",
    ]
