"""lm_eval, as it is installed, against the endpoint over a real fleet: it scores what our own exam scores."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import pytest_asyncio

from actors.engine import cpu_dtype
from actors.fleet import Fleet
from tests.engine.endpoint.served import KEY, MODEL, Served, serving
from tests.running import ROOT, SANDPLAY

pytest.importorskip("lm_eval", reason="lm_eval is an extra: pip install -e '.[interop]'")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="session")]

EXAM = """
name = "primer"
[protocol]
max_tokens = 16
[tasks.primer]
task = "medqa"
path = "{root}/examples/items.jsonl"
[models.base]
kind = "openai"
model = "{model}"
base_url = "{url}"
api_key_env = "OPENAI_API_KEY"
"""
ENVIRONMENT = {**os.environ, "OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
LETTERS = "ABCD"


@pytest_asyncio.fixture(loop_scope="session")
async def served(fleet: Fleet) -> AsyncIterator[Served]:
    async with serving(fleet) as found:
        yield found


async def call(*command: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-4000:]


async def harness(out: Path, task: str, model: str, arguments: str, *more: str) -> tuple[dict[str, Any], list[Any]]:
    """Run lm_eval on one of the tasks in `examples/lm_eval`; return its figures, and its samples in order."""
    options = ("--include_path", "examples/lm_eval", "--output_path", out, "--log_samples")
    await call(
        sys.executable, "-m", "lm_eval", "run", "--tasks", task, "--model", model, "--model_args",
        f"model={MODEL},num_concurrent=8,{arguments}", *options, *more,
    )  # fmt: skip
    return read_results(out, task)


def read_results(out: Path, task: str) -> tuple[dict[str, Any], list[Any]]:
    (results,) = out.rglob("results_*.json")
    (samples,) = out.rglob(f"samples_{task}_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    return json.loads(results.read_text("utf-8"))["results"][task], sorted(rows, key=lambda row: row["doc_id"])


async def test_a_chat_gets_the_replies_and_the_score_of_our_exam(served: Served, tmp_path: Path) -> None:
    config = tmp_path / "exam.toml"
    config.write_text(EXAM.format(root=ROOT, model=MODEL, url=served.url), "utf-8")
    await call(*SANDPLAY, "exam", config, "--out", tmp_path / "ours")
    ours = pyarrow.parquet.read_table(tmp_path / "ours" / "items.parquet").to_pylist()
    system = (ROOT / "eval" / "exam" / "prompts" / "examinee.txt").read_text("utf-8").strip()
    figures, theirs = await harness(
        tmp_path / "theirs", "primer_chat", "local-chat-completions", f"base_url={served.url}/chat/completions",
        "--apply_chat_template", "--system_instruction", system,
    )  # fmt: skip
    assert len(ours) == len(theirs) == 20
    same = [(own, one) for own, one in zip(ours, theirs, strict=True) if own["text"] == one["resps"][0][0]]
    # Which requests share a batch differs, and with it the last digit of a probability.
    assert len(same) >= 18
    for own, one in same:
        assert one["filtered_resps"][0] == (own["answer"] or "[invalid]"), own["text"]
        assert one["exact_match"] == float(own["answer"] == own["gold"])
    right = sum(own["answer"] == own["gold"] for own in ours)
    assert figures["exact_match,letter"] * 20 == pytest.approx(right, abs=20 - len(same))


async def test_choices_are_the_likeliest_as_transformers_has_it(
    served: Served, model_path: Path, tokenizer: Any, tmp_path: Path
) -> None:
    figures, samples = await harness(
        tmp_path, "primer", "local-completions", f"base_url={served.url}/completions,tokenizer={model_path}"
    )
    expected = likelihoods(model_path, tokenizer, [one["arguments"] for one in samples])
    tolerance = 0.2 if cpu_dtype() == "float32" else 2.0
    right = []
    for one, own in zip(samples, expected, strict=True):
        found = [float(resp[0][0]) for resp in one["resps"]]
        assert found == pytest.approx(own, abs=tolerance)
        first, second = sorted(own, reverse=True)[:2]
        if first - second > 2 * tolerance:
            assert found.index(max(found)) == own.index(first)
        right.append(LETTERS[found.index(max(found))] == one["doc"]["answer_idx"])
    assert figures["acc,none"] == pytest.approx(sum(right) / 20)


def likelihoods(model_path: Path, tokenizer: Any, asked: list[dict[str, dict[str, str]]]) -> list[list[float]]:
    """Log likelihood of each continuation, computed by transformers in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()

    def of(context: str, continuation: str) -> float:
        num_context, ids = len(tokenizer.encode(context)), tokenizer.encode(context + continuation)
        with torch.no_grad():
            rows = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)
        return sum(float(rows[i - 1, ids[i]]) for i in range(num_context, len(ids)))

    return [[of(one["arg_0"], one["arg_1"]) for one in options.values()] for options in asked]
