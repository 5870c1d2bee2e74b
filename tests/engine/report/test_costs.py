"""What a run cost, on its page: of all that ended, by role, with the prices it was made with and the limits it had."""

from pathlib import Path
from typing import Any

from engine.config_sections import LimitsConfig
from engine.limits import Spent
from engine.report.writing import write_report
from tests.engine.report.test_writing import make_record, make_run, make_spec
from tests.pages import PAYLOADS, PageReader, read_page

ROLES = {"patient": "small", "therapist": "large"}
HEADS = ["role", "model", "calls", "tokens in", "cached", "tokens out"]


def read(path: Path, models: dict[str, Any], driver: dict[str, Any] | None = None, **table: Any) -> PageReader:
    """Return the page of a run of three episodes, each of one call of both roles."""
    run = make_run(path, *(make_record(at) for at in range(3)), models=models, roles=ROLES, **table)
    return read_page(write_report(run, make_spec(), **(driver or {})).read_text("utf-8"))


def row(page: PageReader, name: str, width: int) -> list[str]:
    cells = page.texts["td"]
    return cells[cells.index(name) :][:width]


def test_with_prices_every_role_has_its_cost_and_the_price_used(tmp_path: Path) -> None:
    priced = {"model": "m", "price_in": 10.0, "price_out": 100.0, "price_cached": 1.0}
    page = read(tmp_path, {"small": {"model": "s"}, "large": priced})
    assert "What it cost" in page.texts["h2"]
    assert row(page, "patient", 8) == ["patient", "small", "3", "300", "120 (40 %)", "30", "-", "-"]
    # 180 fresh tokens at 10, 120 cached ones at 1, 30 out at 100, all per million.
    cost = ["0.00492", "10 in, 1 cached, 100 out"]
    assert row(page, "therapist", 8) == ["therapist", "large", "3", "300", "120 (40 %)", "30", *cost]
    assert row(page, "all", 8) == ["all", "", "6", "600", "240 (40 %)", "60", "0.00492", ""]
    assert any("The model of patient has no prices, and no sum holds its cost." in one for one in page.texts["p"])


def test_without_prices_there_are_tokens_and_no_cost(tmp_path: Path) -> None:
    page = read(tmp_path, {"small": {"model": "s"}, "large": {"model": "m"}})
    assert "What it took" in page.texts["h2"] and "What it cost" not in page.texts["h2"]
    assert row(page, "all", 6) == ["all", "", "6", "600", "240 (40 %)", "60"]
    assert not {"cost", "money per million tokens"} & set(page.texts["th"])
    assert any("no cost is known" in one for one in page.texts["p"])


def test_of_each_limit_the_page_says_what_was_used(tmp_path: Path) -> None:
    priced = {"model": "m", "price_in": 10.0, "price_out": 100.0}
    limits = {"max_calls": 6, "max_cost": 0.1, "max_hours": 2.0, "max_tokens": 0}
    page = read(tmp_path, {"small": priced, "large": priced}, limits=limits)
    assert row(page, "limits.max_calls", 4) == ["limits.max_calls", "6", "6", "100 %"]
    assert row(page, "limits.max_cost", 4) == ["limits.max_cost", "0.1", "0.012", "12 %"]
    assert row(page, "limits.max_hours", 4) == ["limits.max_hours", "2", "0.0139", "1 %"]
    assert "limits.max_tokens" not in page.texts["td"]
    assert any("The limits are those of config.toml; resume may have set others." in one for one in page.texts["p"])
    assert not any("has no prices" in one for one in page.texts["p"])


def test_a_driver_knows_the_limits_in_force_and_what_is_spent_by_live_episodes(tmp_path: Path) -> None:
    driver = {"limits": LimitsConfig(max_calls=50), "spent": Spent(calls=20, tokens=1, hours=0.1)}
    page = read(tmp_path, {"small": {}, "large": {}}, driver, limits={"max_calls": 5})
    assert row(page, "limits.max_calls", 4) == ["limits.max_calls", "50", "20", "40 %"]
    assert any(one.startswith("Episodes that have not ended are counted") for one in page.texts["p"])


def test_names_are_text(tmp_path: Path) -> None:
    name = next(payload for payload in PAYLOADS if "<" in payload)
    run = make_run(tmp_path, make_record(0), models={name: {"model": name}}, roles={"patient": name})
    page = write_report(run, make_spec()).read_text("utf-8")
    assert name not in page and "What it took" in page
