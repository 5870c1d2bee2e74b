"""Limits, prices and forecasts as a user meets them: stopped within what may be sent, and gone on with by resume."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.corpus import Corpus
from engine.rundir import RunDirectory
from tests.running import StubProcess, run, run_json, start, stub_process, write_config
from tests.test_resume import journalled, step_of, wait_for_calls

PER_EPISODE = 26
CASES = ['cases.source="sampled"', "cases.limit=8"]
WHOLE = 8 * PER_EPISODE
PRICES = ["models.base.price_in=2", "models.base.price_out=8"]


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[StubProcess]:
    with stub_process(tmp_path) as running:
        yield running


def stopped(*arguments: str | Path) -> tuple[dict[str, Any], str]:
    """Run a command that a limit stops; return its summary and what it says."""
    process = start(*arguments, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    summary: dict[str, Any] = json.loads(out.splitlines()[-1])
    return summary, err


def asked(stub: StubProcess) -> Counter[tuple[str, str]]:
    return Counter(step_of(call) for call in stub.calls())


def counts(summary: dict[str, Any]) -> dict[str, Any]:
    names = ("episodes", "calls", "replies", "prompt_tokens", "completion_tokens", "cost", "roles")
    return {name: summary[name] for name in names}


def test_a_run_stops_at_its_limit_and_goes_on_under_a_higher_one(tmp_path: Path, stub: StubProcess) -> None:
    config, directory = write_config(tmp_path, stub.url), tmp_path / "run"
    first, said = stopped("generate", config, *CASES, *PRICES, "limits.max_calls=50", "--out", directory)
    assert len(stub.calls()) == 50 == first["spent"]["calls"]
    assert first["reached"] == ["max_calls"] and first["unplayed"] == 8
    assert "limits.max_calls is reached: 50 of 50" in said
    assert f"sandplay resume {directory} limits.max_calls=..." in said
    stopped("resume", directory)
    assert len(stub.calls()) == 50
    second, _ = stopped("resume", directory, "limits.max_calls=120")
    assert len(stub.calls()) == 120 == second["spent"]["calls"]
    third = run_json("resume", directory, "limits.max_calls=1000")
    assert len(stub.calls()) == WHOLE == third["spent"]["calls"]
    assert set(asked(stub).values()) == {1}
    whole = run_json("generate", config, *CASES, *PRICES, "--out", tmp_path / "whole")
    assert counts(third) == counts(whole) and whole["spent"] is None
    tokens = whole["prompt_tokens"] * 2 + whole["completion_tokens"] * 8
    assert whole["cost"] == pytest.approx(tokens / 1e6)
    assert sum(row["calls"] for row in whole["roles"].values()) == WHOLE
    assert third["spent"]["cost"] == whole["cost"]


def test_a_killed_driver_takes_nothing_off_the_count(tmp_path: Path, stub: StubProcess) -> None:
    config, directory = write_config(tmp_path, stub.url), tmp_path / "run"
    limited = ["limits.max_calls=150", "scheduler.max_live=4", "scheduler.seal_every=2"]
    process = start("generate", config, *CASES, *limited, "--out", directory)
    wait_for_calls(stub, 60, process)
    process.kill()
    process.communicate()
    kept = journalled(directory)
    assert 0 < len(kept) <= len(stub.calls()) < 150
    summary, _ = stopped("resume", directory, "scheduler.max_live=4")
    assert summary["spent"]["calls"] == 150
    # Only what was asked for and not yet durable when the driver was killed is asked for, and counted, once more.
    again = {step: number - 1 for step, number in asked(stub).items() if number > 1}
    assert sum(again.values()) == len(stub.calls()) - 150
    assert not kept & set(again)
    run_json("resume", directory, "limits.max_calls=0")
    records = list(Corpus.open(RunDirectory.open(directory)))
    assert len(records) == 8 and sum(record.num_calls for record in records) == WHOLE


@pytest.mark.parametrize(
    ("limit", "name"), [("limits.max_tokens=20000", "max_tokens"), ("limits.max_cost=0.05", "max_cost")]
)
def test_tokens_and_cost_stop_a_run_too(tmp_path: Path, stub: StubProcess, limit: str, name: str) -> None:
    config = write_config(tmp_path, stub.url)
    summary, said = stopped("generate", config, *CASES, *PRICES, limit, "--out", tmp_path / "run")
    assert summary["reached"] == [name] and f"limits.{name} is reached" in said
    assert len(stub.calls()) < WHOLE
    value = summary["spent"][name.removeprefix("max_")]
    assert float(limit.partition("=")[2]) <= value
    assert run_json("resume", tmp_path / "run", f"limits.{name}=0")["calls"] == WHOLE


def test_bad_prices_and_limits_are_refused_at_once(tmp_path: Path) -> None:
    config = write_config(tmp_path, "http://127.0.0.1:9/v1")
    wrong = ["models.base.price_in=-2", "limits.max_calls=-1", "limits.max_hours=-0.5"]
    said = run("generate", config, *wrong, "--out", tmp_path / "run", expect=2)
    for key in ("models.base.price_in", "models.base: price_out must be set", "limits.max_calls", "limits.max_hours"):
        assert key in said
    said = run("generate", config, "limits.max_cost=3", "--out", tmp_path / "run", expect=2)
    assert "limits.max_cost needs prices, got 3.0 and none" in said
    assert not (tmp_path / "run").exists()


def test_a_forecast_says_least_and_most_and_what_an_earlier_run_lets_expect(tmp_path: Path, stub: StubProcess) -> None:
    config, directory = write_config(tmp_path, stub.url), tmp_path / "run"
    shown = run("generate", config, *CASES, "--dry-run")
    assert (
        "# hours: unknown, how fast the endpoint of models.base answers" in shown
        and "halfway is no expectation" in shown
    )
    found = json.loads(run("generate", config, *CASES, *PRICES, "--dry-run", "--json"))["estimate"]
    assert found["basis"] == "halfway" and found["halfway"]["hours"] is None
    assert (found["least"]["calls"], found["most"]["calls"]) == (WHOLE, 8 * 107)
    assert found["least"]["cost"] < found["halfway"]["cost"] < found["most"]["cost"]
    played = run_json("generate", config, *CASES, "--out", directory)
    again = [*CASES[:1], "cases.limit=16", *PRICES]
    found = json.loads(run("generate", config, *again, "--dry-run", "--like", directory, "--json"))["estimate"]
    expected = found["expected"]
    assert found["basis"] == str(directory) and expected["calls"] == 16 * PER_EPISODE
    assert expected["prompt_tokens"] == 2 * played["prompt_tokens"]
    assert expected["cost"] == pytest.approx(2 * (played["prompt_tokens"] * 2 + played["completion_tokens"] * 8) / 1e6)
    assert expected["hours"] > 0
    shown = run("generate", config, *again, "models.base.max_inflight=9", "--dry-run", "--like", directory)
    assert "its own hours do not hold: it was played with other models.base.max_inflight" in shown
    assert "add --dry-run" in run("generate", config, "--like", directory, expect=2)


def test_status_has_the_bill(tmp_path: Path, stub: StubProcess) -> None:
    config, directory = write_config(tmp_path, stub.url), tmp_path / "run"
    shown = run("generate", config, "cases.limit=2", *PRICES, "--out", directory)
    assert "By role" in shown and "all with prices" in shown
    figures = json.loads(run("status", directory, "--json"))
    assert set(figures["roles"]) == {"patient", "therapist", "judge"}
    assert figures["cost"] == pytest.approx(sum(row["cost"] for row in figures["roles"].values()), abs=2e-6)
    assert "  judge: 8 calls" in run("status", directory)
