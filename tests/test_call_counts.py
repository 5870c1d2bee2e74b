"""The published call counts, end to end: command line, HTTP, journal, corpus."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from engine.cases.sampler import sample_cases
from tests.running import JUDGE, header, run_json, stub_process, write_config


def write_full_cases(directory: Path) -> Path:
    """Write 50 sampled cases none of whose gold fields is empty."""
    full = [case for case in sample_cases(100, seed=3) if case.intermediate_belief_depression][:50]
    path = directory / "cases.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(case) + b"\n" for case in full))
    return path


@pytest.mark.parametrize(
    ("mode", "score", "embedding", "num_calls", "num_judge"),
    [
        ("corrected", 9, "equal", 26, 4),
        ("reference", 9, "equal", 26, 4),
        ("corrected", 5, "orthogonal", 107, 26),
        ("reference", 5, "orthogonal", 109, 28),
    ],
)
def test_calls_per_episode(
    tmp_path: Path, mode: str, score: int, embedding: str, num_calls: int, num_judge: int
) -> None:
    with stub_process(tmp_path, score=score, embedding=embedding) as stub:
        config = write_config(tmp_path, stub.url)
        overrides = [f'protocol.mode="{mode}"', f'cases.source="{write_full_cases(tmp_path)}"']
        summary = run_json("generate", config, *overrides, "--out", tmp_path / "run")
        per_episode = Counter(header(call, "episode") for call in stub.calls())
        judged = Counter(header(call, "episode") for call in stub.calls() if header(call, "purpose") in JUDGE)
    assert summary["episodes"] == {"completed": 50, "failed": 0, "cancelled": 0}
    assert set(per_episode.values()) == {num_calls}
    assert set(judged.values()) == {num_judge}
    assert summary["calls"] == 50 * num_calls
    assert summary["completion_tokens"] > 0


@pytest.mark.timeout(400)
def test_a_thousand_episodes_live_at_once_end_once_each(tmp_path: Path) -> None:
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        overrides = ['cases.source="sampled"', "cases.limit=1000", "scheduler.max_live=1000"]
        summary = run_json("generate", config, *overrides, "--out", tmp_path / "run")
        calls = stub.calls()
    assert summary["episodes"]["completed"] == 1000
    assert len(calls) == 26_000 == summary["calls"]
    steps = Counter((header(call, "episode"), header(call, "step")) for call in calls)
    assert set(steps.values()) == {1}
