"""The head of a model in training: what it scores, and that nothing else comes of it."""

from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import write_tiny_model

NUM_TOKENS = 24
TAUGHT = (5, 6, 7, 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    path: Path = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    made = AutoModelForCausalLM.from_pretrained(path)
    add_fused_lm_head(made, outputs=("log_probs", "entropy", "is_top1"))
    return made


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many positions the head scored, call by call."""
    from trl.trainer import utils

    found: list[int] = []
    head = utils._ChunkedLogProbFunction.apply

    def count(hidden: Any, *rest: Any) -> Any:
        found.append(len(hidden))
        return head(hidden, *rest)

    monkeypatch.setattr(utils._ChunkedLogProbFunction, "apply", count)
    monkeypatch.setattr(utils, "_use_triton", utils._use_triton)  # put back afterwards
    return found


def loss_and_gradient(model: Any, taught: tuple[int, ...]) -> tuple[float, Any]:
    import torch

    ids = torch.arange(100, 100 + NUM_TOKENS)[None]
    labels = torch.full_like(ids, -100)
    labels[0, list(taught)] = ids[0, list(taught)]
    model.zero_grad()
    loss = model(input_ids=ids, labels=labels, fused_lm_head=True).loss
    loss.backward()
    return float(loss.detach()), model.model.layers[0].mlp.down_proj.weight.grad.clone()


def test_scoring_taught_positions_alone_changes_neither_loss_nor_gradient(model: Any, scored: list[int]) -> None:
    import torch

    from training.sft_model import score_taught_alone

    loss, gradient = loss_and_gradient(model, TAUGHT)
    score_taught_alone()
    alone, gradient_alone = loss_and_gradient(model, TAUGHT)
    assert scored == [NUM_TOKENS - 1, len(TAUGHT)]
    assert alone == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(gradient_alone, gradient, rtol=1e-4, atol=1e-7)


def test_a_batch_that_teaches_nothing_has_a_gradient_of_zero(model: Any, scored: list[int]) -> None:
    from training.sft_model import score_taught_alone

    score_taught_alone()
    loss, gradient = loss_and_gradient(model, ())
    assert (loss, float(gradient.abs().max()), scored) == (0.0, 0.0, [0])
