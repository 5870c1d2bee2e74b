"""A bill by role: costs where there are prices, a dash where there are none."""

from engine.bill import UNTOLD, BillRow, bill_table, make_bill, money, read_prices, total_cost
from engine.prices import Prices
from engine.record import EpisodeKey
from engine.tables import rendered
from engine.totals import CallTotals, Totals
from tests.engine.kept import make_record

ROLES = {"patient": "base", "judge": "gpt"}
PRICES = {"base": Prices(), "gpt": Prices(price_in=1, price_out=4, price_cached=0.5)}
JUDGED = CallTotals(2, 1_000_000, 100_000, 200_000)
TOTALS = Totals(calls=11, roles={"judge": JUDGED, "patient": CallTotals(9, 400, 50)})


def test_a_record_is_summed_by_role() -> None:
    assert Totals.of(make_record(EpisodeKey("a"), 2)) == Totals(
        completed=1,
        calls=3,
        turns=2,
        prompt_tokens=20,
        completion_tokens=8,
        cached_tokens=10,
        roles={"patient": CallTotals(3, 20, 8, 10)},
    )


def test_sums_go_role_by_role() -> None:
    both = Totals(calls=1, roles={"a": CallTotals(1)}) + Totals(calls=5, roles={"a": CallTotals(2), "b": CallTotals(3)})
    assert both == Totals(calls=6, roles={"a": CallTotals(3), "b": CallTotals(3)})
    assert both.untold == CallTotals()


def test_rows_come_in_order_of_the_roles_and_what_is_not_told_apart_comes_last() -> None:
    totals = Totals(
        calls=12, prompt_tokens=1_000_500, completion_tokens=100_060, cached_tokens=200_005, roles=TOTALS.roles
    )
    patient, judge, rest = make_bill(totals, ROLES, PRICES)
    assert patient == BillRow("patient", "base", CallTotals(9, 400, 50), None)
    assert (judge.role, judge.model, judge.calls, judge.cost) == ("judge", "gpt", JUDGED, 1.3)
    assert rest == BillRow(UNTOLD, "", CallTotals(1, 100, 10, 5), None)
    assert judge.figures["cost"] == 1.3 and patient.figures["cost"] is None


def test_a_missing_cost_is_a_dash_and_never_zero() -> None:
    rows = {row.role: row.figures for row in make_bill(TOTALS, ROLES, PRICES)}
    lines = [line.split() for line in rendered(bill_table(rows, 1.3), 100).splitlines()]
    assert ["patient", "base", "9", "400", "0", "50", "-"] in lines
    assert ["judge", "gpt", "2", "1,000,000", "200,000", "100,000", "1.3"] in lines
    assert ["all", "with", "prices", "1.3"] in lines
    assert total_cost([None, None]) is None and total_cost([None, 1.0, 2.0]) == 3.0
    assert [money(cost) for cost in (None, 0.0, 0.01234, 1234.5)] == ["-", "0", "0.01234", "1,234.50"]


def test_prices_are_read_from_a_stored_configuration() -> None:
    table = {"base": {"kind": "vllm"}, "gpt": {"kind": "openai", "price_in": 1, "price_out": 4.0, "price_cached": 0.5}}
    assert read_prices(table) == PRICES
