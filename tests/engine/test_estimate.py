"""What a whole run needs: the forecast's bounds, what an earlier run lets expect, and what is not known."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.dryrun import TEMPLATE_TOKENS, Course, Forecast, forecast
from engine.errors import InputError
from engine.estimate import Earlier, estimate, read_earlier, rows_of
from engine.journal import Journal
from engine.metrics import MetricsLog
from engine.planning import Plan, freeze, make_plan
from engine.protocol import STRAIGHT
from engine.rundir import RunDirectory
from engine.steps import Choice, Generate, Sampling
from engine.token_count import bytes_count
from engine.totals import CallTotals
from engine.views import View
from tests.engine.kept import play

MODEL = {"kind": "openai", "model": "m", "price_in": 2, "price_out": 10, "price_cached": 1}
FIGURES = Forecast(
    episodes=4,
    least=Course(roles={"patient": CallTotals(2, 1000, 10), "therapist": CallTotals(1, 500, 5)}),
    most=Course(roles={"patient": CallTotals(6, 9000, 600), "therapist": CallTotals(5, 5000, 500)}),
    max_context_by_role={},
    expected_context=0,
)


def make_table(**changes: Any) -> dict[str, Any]:
    return {
        "protocol": {"name": "counseling"},
        "cases": {"source": "sampled", "limit": 4},
        "models": {"gpt": MODEL, "own": {"kind": "vllm"}},
        "roles": {"patient": "gpt", "therapist": "own"},
        **changes,
    }


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(make_table(), tmp_path)


def make_earlier(plan: Plan, **changes: Any) -> Earlier:
    roles = {"patient": CallTotals(8, 4000, 300, 2000), "therapist": CallTotals(6, 3000, 200)}
    table = make_plan(make_table(**changes), Path.cwd()).table
    return Earlier(directory="runs/first", table=table, episodes=2, roles=roles, hours=0.5)


def test_bounds_are_for_all_episodes_and_the_least_cost_is_that_of_cached_prompts(plan: Plan) -> None:
    found = estimate(plan, FIGURES)
    assert found.least.roles == {"patient": CallTotals(8, 4000, 40), "therapist": CallTotals(4, 2000, 20)}
    assert found.least.costs == {"patient": pytest.approx(0.0044), "therapist": None}
    assert found.most.costs["patient"] == pytest.approx((36_000 * 2 + 2400 * 10) / 1e6)
    assert found.most.cost == found.most.costs["patient"]


def test_without_an_earlier_run_halfway_is_called_so_and_hours_are_unknown(plan: Plan) -> None:
    found = estimate(plan, FIGURES)
    assert list(found.by_name) == ["least", "halfway", "most"] and found.basis == ""
    assert found.expected.roles["patient"] == CallTotals(16, 20_000, 1220)
    assert found.expected.costs == {"patient": pytest.approx((0.0044 + 0.096) / 2), "therapist": None}
    assert found.expected.hours is None and "hours: unknown" in found.notes[-1]
    assert found.notes[:2] == [
        "tokens: a guess for models.gpt, as an endpoint's tokenizer is not known",
        "cost: without therapist, whose model has no prices",
    ]


def test_an_earlier_run_gives_the_mean_of_its_episodes_and_its_pace(plan: Plan) -> None:
    found = estimate(plan, FIGURES, make_earlier(plan))
    assert list(found.by_name) == ["least", "expected", "most"]
    assert found.expected.roles == {"patient": CallTotals(16, 8000, 600, 4000), "therapist": CallTotals(12, 6000, 400)}
    assert found.expected.cost == pytest.approx((4000 * 2 + 4000 * 1 + 600 * 10) / 1e6)
    assert found.expected.hours == 1.0
    assert found.expected.figures["roles"]["therapist"]["cost"] is None


def test_other_prices_change_no_pace_but_other_models_leave_it_unknown(plan: Plan) -> None:
    cheap = make_earlier(plan, models={"gpt": {**MODEL, "price_in": 7}, "own": {"kind": "vllm"}})
    assert estimate(plan, FIGURES, cheap).expected.hours == 1.0
    more = make_earlier(plan, models={"gpt": MODEL, "own": {"kind": "vllm", "replicas": 2}})
    found = estimate(plan, FIGURES, more)
    assert found.expected.hours is None
    assert "it was played with other models.own.replicas" in "; ".join(found.notes)
    shorter = make_earlier(plan, protocol={"name": "counseling", "max_turns": 3})
    assert "its rules differ, and may make other figures: protocol.max_turns" in estimate(plan, FIGURES, shorter).notes
    without = msgspec.structs.replace(make_earlier(plan), hours=0.0)
    assert "it has no metrics" in "; ".join(estimate(plan, FIGURES, without).notes)


def test_a_run_of_another_protocol_is_refused(plan: Plan) -> None:
    roles = dict.fromkeys(("patient", "therapist", "judge"), "gpt")
    other = make_earlier(plan, protocol={"name": "mental_arena"}, cases={"source": "bundled", "limit": 2}, roles=roles)
    with pytest.raises(InputError, match="same protocol, got 'mental_arena' for 'counseling'"):
        estimate(plan, FIGURES, other)


async def test_an_earlier_run_is_read_from_its_manifest_and_metrics(plan: Plan, tmp_path: Path) -> None:
    rundir = RunDirectory.create(tmp_path / "run", freeze(plan))
    with pytest.raises(InputError, match="must be a run with ended episodes, got none"):
        read_earlier(rundir)
    journal = Journal.open(rundir)
    play(journal, "a")
    play(journal, "b", status="failed")
    await journal.close()
    MetricsLog(rundir.metrics, 1.0).write(0.0, 0.0, {"run/elapsed_s": 1800.0})
    found = read_earlier(rundir)
    assert (found.episodes, found.hours, found.table["name"]) == (2, 0.5, "run")
    assert found.roles == {"patient": CallTotals(6, 40, 16, 20)}


def test_rows_have_every_role_and_all_of_them(plan: Plan) -> None:
    rows = rows_of(estimate(plan, FIGURES))
    assert len(rows) == 9
    assert rows[0] == ("least", "patient", "8", "4,000", "40", "0.0044")
    assert rows[1] == ("", "therapist", "4", "2,000", "20", "-")
    assert rows[2] == ("", "all", "12", "6,000", "60", "0.0044")


def test_the_forecast_is_of_short_replies_at_least_and_long_ones_at_most(plan: Plan) -> None:
    found = forecast(plan, bytes_count)
    assert found.least.calls == sum(calls.calls for calls in found.least.roles.values()) < found.most.calls
    limit = plan.rules.max_tokens
    assert found.most.completion_tokens == limit * found.most.calls
    assert found.least.completion_tokens < limit * found.least.calls
    assert found.least.calls <= found.least.completion_tokens


def test_the_least_holds_for_the_sparest_chat_template_and_the_most_for_a_wordy_one(plan: Plan) -> None:
    found = forecast(plan, lambda text: 0)
    assert found.most.prompt_tokens % TEMPLATE_TOKENS == 0
    assert found.least.calls <= found.least.prompt_tokens < found.least.calls * TEMPLATE_TOKENS


def test_the_least_of_a_choice_is_its_shortest_option() -> None:
    step = Generate(
        "item", "therapist", View.of("Which?"), Sampling(24), "answer", Choice(("long one", "two", "three"))
    )
    assert [extreme.answer(step) for extreme in STRAIGHT] == ["two", "long one"]
