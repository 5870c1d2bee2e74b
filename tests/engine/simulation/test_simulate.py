"""The unmodified scheduler on simulated pools."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from engine.backend import Completion, Request, RequestOptions
from engine.cli import app
from engine.errors import InputError
from engine.record import EpisodeRecord
from engine.simulation.answers import SampledAnswers
from engine.simulation.backend import SimulatedBackend
from engine.simulation.command import parse_sweep, swept_table
from engine.simulation.faults import Fault, draw_faults
from engine.simulation.jobs import Shape
from engine.simulation.latency import CPU, GPU_8B
from engine.simulation.lengths import LengthSampler
from engine.simulation.loop import run_virtual
from engine.simulation.pools import Settings, kv_bytes_per_token
from engine.simulation.prediction import Prediction, name_limit, steady_rate
from engine.simulation.simulate import simulate
from engine.simulation.tokens import Tokens
from engine.token_count import bytes_count
from tests.engine.simulation.making import STEADY, make_request, make_sim_plan


def play(protocol: str, num_cases: int, settings: Settings, **more: Any) -> tuple[Prediction, list[EpisodeRecord]]:
    records: list[EpisodeRecord] = []
    return simulate(make_sim_plan(protocol, num_cases, **more), settings, records.append), records


def test_two_hundred_episodes_of_mental_arena_on_four_replicas() -> None:
    rules = {"exchanges": 2, "max_decoder_rounds": 1, "max_tries": 2}
    model = {"replicas": 4, "max_num_seqs": 64}
    found, records = play("mental_arena", 200, Settings(coefficients=GPU_8B), rules=rules, model=model)
    assert (found.completed, found.failed, found.replicas) == (200, 0, 4)
    assert len({record.key for record in records}) == 200
    assert found.calls == sum(record.num_calls for record in records)
    assert 0.9 < found.hit_ratio <= 1.0
    assert 1.0 <= found.busy_ratio < 1.3
    assert found.elapsed_s >= found.longest_episode_s > 0
    assert all(not record.error for record in records)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    settings = Settings(faults=draw_faults(1, 2, 5000.0, mean_interval_s=300.0))
    model = {"replicas": 2}
    one, two = (play("counseling", 24, settings, model=model) for _ in range(2))
    other = play("counseling", 24, settings, model=model, seed=7)
    assert msgspec.json.encode(one[1]) == msgspec.json.encode(two[1]) != msgspec.json.encode(other[1])
    assert timeless(one[0]) == timeless(two[0])


def timeless(prediction: Prediction) -> Prediction:
    return msgspec.structs.replace(prediction, real_s=0.0, speedup=0.0)


@pytest.mark.parametrize("duration_s", [20.0, 100_000.0])
def test_a_death_costs_no_episode(duration_s: float) -> None:
    fault = Fault(at_s=30.0, replica=1, kind="death", duration_s=duration_s)
    found, records = play("counseling", 40, Settings(faults=[fault]), model={"replicas": 3})
    assert (found.completed, found.failed) == (40, 0)
    lost = [past for record in records for step in record.steps for past in step.attempts]
    assert {past.kind for past in lost} == {"replica_lost"}
    assert {past.replica for past in lost} == {"replica-1"}


def test_more_kv_and_faster_engines_are_never_slower() -> None:
    small, _ = play("counseling", 60, Settings(), model={"num_gpu_blocks_override": 300})
    large, _ = play("counseling", 60, Settings(), model={"num_gpu_blocks_override": 3000})
    fast, _ = play("counseling", 60, Settings(coefficients=GPU_8B))
    assert small.max_live < large.max_live
    assert fast.elapsed_s < large.elapsed_s <= small.elapsed_s * 1.02


def test_recorded_lengths_and_answers_are_used() -> None:
    first, records = play("counseling", 8, Settings())
    again, replayed = play("counseling", 8, Settings(records=records, is_replay=True))
    assert [step.reply.text for step in replayed[0].steps if step.reply] == [
        step.reply.text for step in next(r for r in records if r.key == replayed[0].key).steps if step.reply
    ]
    assert again.calls == first.calls
    assert again.elapsed_s == pytest.approx(first.elapsed_s, rel=0.02)
    assert not any("lengths" in assumption for assumption in again.assumptions)


def make_backend(**more: Any) -> SimulatedBackend:
    shape = Shape(slots=4, num_blocks=80, block_size=16, step_tokens=256)
    answers = SampledAnswers(0, LengthSampler.lognormal(20))
    return SimulatedBackend(
        answers=answers, tokens=Tokens(bytes_count, 16), shape=shape, coefficients=STEADY, **{"replicas": 2, **more}
    )


async def collect(backend: SimulatedBackend, count: int) -> list[Completion]:
    found: list[Completion] = []
    while len(found) < count:
        found += await backend.collect()
    return found


def make_batch(count: int) -> list[Request]:
    return [make_request(f"{n}/therapist", episode=f"case.{n % 5}", replica=f"replica-{n % 2}") for n in range(count)]


@pytest.mark.parametrize("seed", range(6))
def test_every_request_completes_exactly_once_whatever_fails(seed: int) -> None:
    async def conserve() -> Counter[Any]:
        faults = draw_faults(seed, 2, 60.0, mean_interval_s=2.0, mean_duration_s=0.5)
        backend = make_backend(faults=faults)
        await backend.start()
        for start in range(0, 120, 20):
            await backend.submit(make_batch(120)[start : start + 20])
            await asyncio.sleep(0.7)
        found = await collect(backend, 120)
        await asyncio.sleep(300)
        return Counter(done.key for done in found + list(backend._done))

    counts = run_virtual(conserve())
    assert len(counts) == 120
    assert set(counts.values()) == {1}


def test_what_only_a_real_model_can_do_is_rejected() -> None:
    async def ask() -> list[Completion]:
        backend = make_backend()
        await backend.start()
        plain, optional = make_batch(2)
        await backend.submit([plain, msgspec.structs.replace(optional, options=RequestOptions(num_tops=1))])
        return await collect(backend, 2)

    done = {completion.episode: completion.failure for completion in run_virtual(ask())}
    assert done["case.0"] is None and (failure := done["case.1"]) is not None and failure.kind == "rejected"


def test_a_cancelled_request_reports_nothing() -> None:
    async def cancel() -> set[str]:
        backend, batch = make_backend(), make_batch(8)
        await backend.start()
        await backend.submit(batch)
        await asyncio.sleep(0.05)
        await backend.cancel([batch[0].key, batch[7].key, ("unknown", "x", 0)])
        return {done.path for done in await collect(backend, 6)}

    assert run_virtual(cancel()) == {f"{n}/therapist" for n in range(1, 7)}


def test_gauges_and_usage_add_up() -> None:
    async def measure() -> None:
        backend = make_backend()
        await backend.start()
        before = backend.replicas()
        await backend.submit(make_batch(10))
        found = await collect(backend, 10)
        gauges = backend.replicas()
        assert gauges is not before
        replies = [done.reply for done in found if done.reply is not None]
        assert sum(one.prompt_tokens for one in gauges) == sum(reply.usage.prompt_tokens for reply in replies)
        assert sum(one.completion_tokens for one in gauges) == sum(reply.usage.completion_tokens for reply in replies)
        assert sum(one.prefix_hits for one in gauges) == sum(reply.usage.cached_tokens for reply in replies)
        assert {(one.running, one.waiting, one.slots, one.kv_tokens) for one in gauges} == {(0, 0, 4, 1280)}

    run_virtual(measure())


def test_a_prompt_beyond_the_window_overflows() -> None:
    async def overflow() -> Completion:
        backend = make_backend(max_context=150)
        await backend.submit([make_request(texts=("long " * 200, "Hello."))])
        return (await collect(backend, 1))[0]

    failure = run_virtual(overflow()).failure
    assert failure is not None
    assert failure.kind == "context_overflow"


def test_start_waits_for_the_first_replica() -> None:
    async def start() -> float:
        await make_backend(starts_s=24.0).start()
        return asyncio.get_running_loop().time()

    assert run_virtual(start()) == pytest.approx(24.001)


def make_figures(**more: Any) -> Prediction:
    names = [field.name for field in msgspec.structs.fields(Prediction) if field.required]
    return Prediction(**{**dict.fromkeys(names, 0), "elapsed_s": 100.0, "episodes": 50, "limited_by": "", **more})


@pytest.mark.parametrize(
    ("figures", "full", "blocked", "max_live", "limit"),
    [
        (make_figures(longest_episode_s=90.0), 0.0, 0.0, None, "critical path"),
        (make_figures(tail_s=60.0), 0.6, 0.0, None, "tail"),
        (make_figures(max_live=20), 0.8, 0.0, 20, "compute"),
        (make_figures(max_live=20), 0.1, 0.0, 20, "admission cap"),
        (make_figures(max_live=20), 0.1, 0.0, None, "kv"),
        (make_figures(max_live=50), 0.1, 0.5, None, "kv"),
        (make_figures(max_live=50, busy_share=0.95), 0.1, 0.0, None, "compute"),
        (make_figures(max_live=50, busy_share=0.5), 0.1, 0.0, None, "critical path"),
    ],
)
def test_one_line_names_the_limit(
    figures: Prediction, full: float, blocked: float, max_live: int | None, limit: str
) -> None:
    assert name_limit(figures, full, blocked, max_live).startswith(f"{limit}:")


def test_the_steady_rate_leaves_out_both_ends() -> None:
    ends = [*range(100), 10_000]
    assert steady_rate([float(end) for end in ends]) == pytest.approx(1.0)
    assert steady_rate([1.0, 2.0]) == 0.0


def test_kv_bytes_are_read_from_a_model_directory(tmp_path: Path) -> None:
    config = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert kv_bytes_per_token(tmp_path, "auto") == 2 * 30 * 3 * 64 * 4
    assert kv_bytes_per_token(tmp_path, "bfloat16") == 2 * 30 * 3 * 64 * 2
    assert kv_bytes_per_token(tmp_path / "nowhere", "auto") is None


CONFIG = """
protocol = {name = "counseling"}
cases = {source = "sampled", limit = 12}
roles = {patient = "base", therapist = "base"}
[models.base]
kind = "vllm"
max_num_seqs = 8
"""


def write_config(tmp_path: Path) -> str:
    path = tmp_path / "sim.toml"
    path.write_text(CONFIG)
    return str(path)


def test_the_command_prints_a_prediction(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    told = CliRunner().invoke(app, ["simulate", config])
    assert told.exit_code == 0
    assert told.stdout.count("limited by: ") == 1
    printed = CliRunner().invoke(app, ["simulate", config, "cases.limit=5", "--coefficients", "h200-8b", "--json"])
    assert json.loads(printed.stdout)["completed"] == 5


def test_the_command_sweeps(tmp_path: Path) -> None:
    swept = CliRunner().invoke(app, ["simulate", write_config(tmp_path), "--sweep", "replicas=1,2", "--json"])
    rows = [json.loads(line) for line in swept.stdout.splitlines()]
    assert [row["replicas"] for row in rows] == [1, 2]
    assert rows[1]["elapsed_s"] < rows[0]["elapsed_s"]


def test_the_sweep_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / "sweep.svg"
    drawn = CliRunner().invoke(
        app, ["simulate", write_config(tmp_path), "--sweep", "replicas=1,2", "--plot", str(target)]
    )
    assert drawn.exit_code == 0
    assert target.read_text().startswith("<svg") and target.stat().st_mode & 0o777 == 0o600


def test_bad_options_are_refused_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--sweep must look like"):
        parse_sweep("replicas")
    refused = CliRunner().invoke(app, ["simulate", write_config(tmp_path), "--plot", "x.svg", "--match", "2"])
    assert isinstance(refused.exception, InputError)
    assert len(refused.exception.problems) == 2


def test_a_sweep_of_replicas_sets_every_served_model() -> None:
    table = {"models": {"a": {"kind": "vllm"}, "b": {"kind": "openai"}, "c": {"kind": "vllm"}}}
    found = swept_table(table, "replicas", "3")["models"]
    assert (found["a"]["replicas"], "replicas" in found["b"], found["c"]["replicas"]) == (3, False, 3)
    assert swept_table(table, "scheduler.max_live", "7")["scheduler"] == {"max_live": 7}


def test_presets_are_what_the_command_offers() -> None:
    assert CPU.base == pytest.approx(0.0285)
