"""Real vLLM in Ray, the default model: from `generate` to all four exports."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.corpus import Corpus
from engine.record import EpisodeRecord
from engine.rundir import RunDirectory
from tests.running import ROOT, run, run_json

PATIENT_PSI = ROOT.parent / "shared" / "data" / "patient_psi" / "cognitive_models.json"
FORMATS = ("records", "messages", "prompt-completion", "sharegpt")

CONFIG = """
name = "real"
[protocol]
name = "mental_arena"
exchanges = 1
max_decoder_rounds = 1
max_tries = 1
max_tokens = 24
reply_sentences = 1
[cases]
source = "bundled"
limit = 2
[models.base]
kind = "vllm"
model = "smollm2-135m"
block_size = 32
kv_cache_gib = 1.0
[roles]
patient = "base"
therapist = "base"
judge = "base"
"""


def write_real_config(directory: Path, text: str = CONFIG) -> Path:
    path = directory / "real.toml"
    path.write_text(text, "utf-8")
    return path


def records_of(directory: Path) -> list[EpisodeRecord]:
    return list(Corpus.open(RunDirectory.open(directory)))


def export_all(run_dir: Path, target: Path) -> dict[str, list[dict[str, Any]]]:
    rows = {}
    for kind in FORMATS:
        run("export", run_dir, "--format", kind, "--to", target / kind)
        rows[kind] = [json.loads(line) for line in (target / kind / "train.jsonl").read_text("utf-8").splitlines()]
        assert (target / kind / "README.md").is_file()
    return rows


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_two_episodes_on_the_default_model(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    summary = run_json("generate", write_real_config(tmp_path), "--out", run_dir, timeout_s=580)
    assert summary["episodes"] == {"completed": 2, "failed": 0, "cancelled": 0}
    assert summary["cached_tokens"] > 0
    records = records_of(run_dir)
    replies = [step.reply for record in records for step in record.steps if step.reply]
    assert {reply.weights for reply in replies} == {records[0].weights[0]}
    assert all(reply.replica == "base/0" and reply.usage.prompt_tokens > 0 for reply in replies)
    scores = [step.reply for record in records for step in record.steps if step.purpose == "score" and step.reply]
    assert all(reply.probabilities for reply in scores)
    rows = export_all(run_dir, tmp_path / "data")
    assert all(rows.values())
    assert set(rows["records"][0]) >= {"symptom", "illness", "treatment", "explain_t", "medicine", "explain_m"}
    assert not json.loads((run_dir / "processes.json").read_text() or "[]")


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not PATIENT_PSI.is_file(), reason="the Patient-Psi file is not here")
def test_sixteen_patient_psi_cases(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    overrides = [f'cases.source="{PATIENT_PSI}"', "cases.limit=16", "models.base.kv_cache_gib=4.0"]
    summary = run_json("generate", write_real_config(tmp_path), *overrides, "--out", run_dir, timeout_s=1700)
    assert summary["episodes"]["completed"] >= 14
    assert sum(summary["episodes"].values()) == 16
    assert isinstance(summary["missing"], dict)
    rows = export_all(run_dir, tmp_path / "data")
    assert len(rows["records"]) == summary["episodes"]["completed"]


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(1800)
def test_two_checkpoints_each_turn_carries_its_own_pools_weights(tmp_path: Path) -> None:
    from actors.models import prepare_model
    from tests.actors.checkpoints import perturb

    other = perturb(prepare_model("smollm2-135m"), tmp_path / "other")
    text = CONFIG.replace('therapist = "base"', 'therapist = "other"')
    text += f'\n[models.other]\nkind = "vllm"\nmodel = "{other}"\nblock_size = 32\nkv_cache_gib = 1.0\n'
    run_dir = tmp_path / "run"
    summary = run_json("generate", write_real_config(tmp_path, text), "--out", run_dir, timeout_s=1700)
    assert summary["episodes"]["completed"] == 2
    by_role: dict[str, set[str]] = {}
    for record in records_of(run_dir):
        for step in record.steps:
            if step.reply is not None:
                by_role.setdefault(step.role, set()).add(step.reply.weights)
        assert len(record.weights) == 2
    assert all(len(weights) == 1 for weights in by_role.values())
    assert by_role["patient"] == by_role["judge"] != by_role["therapist"]
    shutil.rmtree(other)
