"""Kept step times: found again for what they hold for, for nothing else; hours by them agree with the simulation."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config_sections import VllmConfig
from engine.dryrun import Forecast, forecast
from engine.estimate import Pace, estimate
from engine.hours import hours_of, lane_of, live_of
from engine.planning import Plan, make_plan
from engine.simulation.latency import CPU, GPU_8B, read_coefficients
from engine.simulation.pools import Settings
from engine.simulation.simulate import simulate
from engine.speed import Speed, find_speed, keep_speed, settings_of, speed_path
from engine.token_count import bytes_count
from engine.totals import CallTotals

MACHINE = "a machine, 2 cores"
MEASURED = Path(__file__).parent / "data" / "speed.json"
"""What `sandplay calibrate examples/demo.toml --speed` kept on a machine of 2 cores."""


def make_speed(model: VllmConfig, **more: Any) -> Speed:
    return Speed(machine=MACHINE, settings=settings_of(model), **{"coefficients": CPU, "measured_at": 1e9, **more})


def plan_of(tmp_path: Path, num_cases: int = 8, **model: Any) -> Plan:
    local = {"kind": "vllm", "max_num_seqs": 8, **model}
    table = {
        "protocol": {"name": "counseling"},
        "cases": {"source": "sampled", "limit": num_cases},
        "models": {"base": local, "other": local},
        "roles": {"patient": "base", "therapist": "base"},
    }
    return make_plan(table, tmp_path)


def test_a_speed_holds_for_its_model_its_precision_and_its_machine(tmp_path: Path) -> None:
    model = VllmConfig()
    path = speed_path(tmp_path, model, MACHINE)
    keep_speed(path, make_speed(model))
    kept = find_speed(tmp_path, model, MACHINE)
    assert kept is not None and kept == (make_speed(model), path)
    assert (kept[0].day, path.stat().st_mode & 0o777) == ("2001-09-09", 0o600)
    for changed in ({"replicas": 3}, {"max_num_seqs": 9}, {"price_in": 1.0, "price_out": 1.0}):
        assert find_speed(tmp_path, msgspec.structs.replace(model, **changed), MACHINE) is not None
    for changed in ({"model": "other"}, {"dtype": "float16"}, {"engine": {"quantization": "fp8"}}, {"gpus": 1.0}):
        assert find_speed(tmp_path, msgspec.structs.replace(model, **changed), MACHINE) is None
    assert find_speed(tmp_path, model, "another machine") is None


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"machine": "x", "settings": {}, "coefficients": {"base": 0}}'])
def test_a_file_that_is_no_speed_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    path = speed_path(tmp_path, VllmConfig(), MACHINE)
    path.parent.mkdir()
    path.write_text(text)
    assert find_speed(tmp_path, VllmConfig(), MACHINE) is None


def test_a_kept_speed_does_for_simulations(tmp_path: Path) -> None:
    keep_speed(tmp_path / "folder" / "speed.json", make_speed(VllmConfig(), coefficients=GPU_8B))
    assert read_coefficients(str(tmp_path / "folder" / "speed.json")) == GPU_8B


# ---------------------------------------------------------------- hours


def speeds(plan: Plan, **more: Any) -> dict[str, Speed]:
    model = plan.config.models["base"]
    assert isinstance(model, VllmConfig)
    return {"base": make_speed(model, **more)}


def test_replicas_on_a_cpu_share_its_cores_and_those_on_gpus_do_not(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, replicas=3)
    (on_cpu,), (on_gpu,) = speeds(plan, is_cpu=True).values(), speeds(plan).values()
    lane = lane_of(plan, "base", on_cpu)
    assert (lane.engines, lane.slots) == (1, 24)
    lane = lane_of(plan, "base", on_gpu)
    assert (lane.engines, lane.slots) == (3, 8)


def test_the_kv_cache_and_max_live_bound_what_lives(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 40)
    assert live_of(plan, speeds(plan)) == 40
    plan.expected_context = 1000
    assert live_of(plan, speeds(plan, kv_tokens=20_000)) == 17
    plan.config = msgspec.structs.replace(
        plan.config, scheduler=msgspec.structs.replace(plan.config.scheduler, max_live=5)
    )
    assert live_of(plan, speeds(plan, kv_tokens=20_000)) == 5


@pytest.mark.parametrize("num_cases", [2, 8, 48])
def test_hours_agree_with_the_simulation_of_the_same_calls(tmp_path: Path, num_cases: int) -> None:
    plan = plan_of(tmp_path, num_cases)
    simulated = simulate(plan, Settings(coefficients=CPU))
    elapsed_s = simulated.elapsed_s
    prompt = round(simulated.prompt_tokens_per_s * elapsed_s)
    calls = CallTotals(
        simulated.calls,
        prompt,
        round(simulated.completion_tokens_per_s * elapsed_s),
        round(prompt * simulated.cached_share),
    )
    hours = hours_of({"patient": calls}, plan, speeds(plan), "expected")
    # Dialogues end at different times: the simulation knows of the stragglers.
    assert 0.6 < 3600 * hours / elapsed_s < 1.1


@given(st.integers(1, 500), st.integers(0, 10**6), st.integers(1, 10**5), st.integers(0, 10**5), st.integers(1, 10**5))
def test_more_calls_and_fewer_hits_take_no_less_time(
    calls: int, prompt: int, completion: int, hits: int, more: int
) -> None:
    plan = PLAN
    one = CallTotals(calls, prompt, completion, min(hits, prompt))
    longer = CallTotals(calls, prompt, completion + more, min(hits, prompt))
    uncached = CallTotals(calls, prompt, completion, 0)
    takes = [hours_of({"patient": some}, plan, speeds(plan), "expected") for some in (one, longer, uncached)]
    assert 0 < takes[0] <= takes[1] and takes[0] <= takes[2]
    assert hours_of({"patient": one}, plan, speeds(plan), "least") <= takes[0]
    assert takes[0] <= hours_of({"patient": one}, plan, speeds(plan), "most")


PLAN = plan_of(Path())


# ---------------------------------------------------------------- what a forecast says of them


def figures_of(plan: Plan) -> Forecast:
    figures = forecast(plan, bytes_count)
    plan.expected_context = figures.expected_context
    return figures


def test_a_forecast_has_hours_and_says_where_they_are_from(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    pace = Pace(speeds={"base": (speeds(plan)["base"], tmp_path / "speed.json")})
    found = estimate(plan, figures_of(plan), pace=pace)
    least, halfway, most = (need.hours for need in found.by_name.values())
    assert least is not None and halfway is not None and most is not None
    assert 0 < least < halfway < most and halfway == pytest.approx((least + most) / 2)
    assert f"on {MACHINE}, measured 2001-09-09 (" in found.notes[-2] and str(tmp_path / "speed.json") in found.notes[-2]


def test_a_forecast_without_a_speed_says_what_gives_one(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    found = estimate(plan, figures_of(plan), pace=Pace(missing=("sandplay calibrate says",)))
    assert [need.hours for need in found.by_name.values()] == [None, None, None]
    assert found.notes[-1] == "hours: unknown, sandplay calibrate says"


def test_what_was_really_measured_gives_hours(tmp_path: Path) -> None:
    """The file as `sandplay calibrate --speed` left it."""
    speed = msgspec.json.decode(MEASURED.read_bytes(), type=Speed)
    model = VllmConfig(**speed.settings)
    keep_speed(speed_path(tmp_path, model, speed.machine), speed)
    kept = find_speed(tmp_path, model, speed.machine)
    assert kept is not None and kept[0] == speed and speed.is_cpu
    assert speed.coefficients.num_steps > 100 and speed.kv_tokens == 186_400
    plan = plan_of(tmp_path)
    found = estimate(plan, figures_of(plan), pace=Pace(speeds={"base": kept}))
    assert found.least.hours is not None and found.most.hours is not None
    # Eight dialogues of the default model on two cores: minutes, not seconds and not days.
    assert 0.005 < found.least.hours < found.most.hours < 10
