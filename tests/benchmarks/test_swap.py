"""The swap row: what it counts, and that goals are told from misses."""

import msgspec
import pytest

from benchmarks.swap import BRIEF, KINDS, POLICIES, measure, play
from engine.simulation.loop import run_virtual


def test_every_policy_and_kind_has_a_throughput_and_a_stall() -> None:
    figures = {figure.name: figure for figure in measure(1, brief=True)}
    names = {f"{policy}_{kind}" for policy in POLICIES for kind in KINDS}
    assert {f"swap_throughput_{name}" for name in names} | {f"swap_stall_{name}_s" for name in names} < set(figures)
    for name in ("swap_turns_lost_or_doubled", "swap_unflagged_mixed", "swap_mixed_without_mix"):
        assert figures[name].median == 0.0 and figures[name].is_reached
    assert figures["swap_stall_finish_on_old_lora_s"].median == 0.0
    assert figures["swap_stall_mix_full_s"].is_reached
    assert figures["swap_throughput_drain_full"].median < figures["swap_throughput_finish_on_old_lora"].median


def test_a_run_that_ends_too_early_is_no_figure() -> None:
    short = msgspec.structs.replace(BRIEF, workload=msgspec.structs.replace(BRIEF.workload, num_episodes=40))
    with pytest.raises(AssertionError, match="40 episodes must last through the run"):
        run_virtual(play(short, "mix", "lora"))
