from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.errors import InputError
from engine.simulation.latency import (
    CPU,
    GPU_8B,
    PICOSECONDS,
    Coefficients,
    StepRecord,
    fit,
    read_coefficients,
    read_steps,
    write_coefficients,
    write_steps,
)


def make_steps(true: Coefficients, num_steps: int = 200) -> list[StepRecord]:
    steps = []
    for number in range(num_steps):
        decode = number % 17
        context = decode * (400 + 37 * (number % 23))
        prefill = (number % 5) * 113
        step = StepRecord(
            decode_seqs=decode, sum_context=context, prefill_tokens=prefill, prefill_pairs=prefill * (number % 11) * 90
        )
        steps.append(
            StepRecord(
                decode_seqs=decode,
                sum_context=context,
                prefill_tokens=prefill,
                prefill_pairs=step.prefill_pairs,
                duration_s=true.seconds(step),
            )
        )
    return steps


@pytest.mark.parametrize("true", [CPU, GPU_8B, replace(CPU, batched=0.008)])
def test_a_fit_finds_the_coefficients_that_made_the_steps(true: Coefficients) -> None:
    found = fit(make_steps(true))
    assert found.weights == pytest.approx(true.weights, rel=1e-4, abs=1e-12)
    assert found.mean_error < 1e-6
    assert found.r_squared == pytest.approx(1.0)
    assert found.num_steps == 200


def test_no_coefficient_is_negative_and_the_residuals_are_told() -> None:
    steps = [
        StepRecord(decode_seqs=n % 7, sum_context=10 * (n % 3), duration_s=0.03 - 0.001 * (n % 3)) for n in range(60)
    ]
    found = fit(steps)
    assert min(found.weights) >= 0
    assert 0 < found.mean_error < 0.1


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(InputError, match="at least 12 steps, got 3"):
        fit(make_steps(CPU, 3))


def test_steps_and_coefficients_survive_their_files(tmp_path: Path) -> None:
    steps, log, json = make_steps(CPU, 20), tmp_path / "steps.jsonl", tmp_path / "cpu.json"
    write_steps(log, steps)
    assert read_steps(log) == steps
    write_coefficients(json, CPU)
    assert read_coefficients(str(json)) == CPU
    assert read_coefficients("h200-8b") is GPU_8B
    assert read_coefficients(str(log)).base == pytest.approx(CPU.base, rel=1e-3)


def test_bad_files_are_refused_with_their_place(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"decode_seqs": 1}\n{"decode_seqs": "x"}\n')
    with pytest.raises(InputError, match="bad.jsonl:2"):
        read_steps(bad)
    negative = tmp_path / "negative.json"
    negative.write_text('{"base": -1}')
    with pytest.raises(InputError, match="negative.json"):
        read_coefficients(str(negative))
    with pytest.raises(InputError, match="cpu, h200-8b"):
        read_coefficients("nowhere")


@given(st.integers(0, 500), st.integers(0, 10**6), st.integers(0, 8192))
def test_picoseconds_agree_with_seconds(decode: int, context: int, prefill: int) -> None:
    times = GPU_8B.scaled(1.0)
    step = StepRecord(decode_seqs=decode, sum_context=context, prefill_tokens=prefill)
    ticks = times.base + times.decode_seq * decode + times.context * context + times.prefill_token * prefill
    assert ticks / PICOSECONDS == pytest.approx(GPU_8B.seconds(step), rel=1e-3)


def test_the_cpu_preset_is_what_was_measured() -> None:
    for rows, tokens_per_s in ((1, 31), (8, 131), (16, 173), (64, 225)):
        step = StepRecord(decode_seqs=rows, sum_context=rows * 1100)
        assert rows / CPU.seconds(step) == pytest.approx(tokens_per_s, rel=0.02)
