from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tests.tiny_model import write_tiny_model
from training.saving import round_as_written


def test_weights_are_rounded_to_what_their_files_can_hold(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "tiny", dtype="bfloat16")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1e-5
    trained = {name: weight.clone() for name, weight in model.named_parameters()}
    round_as_written(model, source)
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32 and weight.equal(trained[name].to(torch.bfloat16).to(torch.float32))
    assert any(not weight.equal(trained[name]) for name, weight in model.named_parameters())


def test_weights_of_files_in_full_precision_stay_as_they_are(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "tiny")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    round_as_written(model, source)
    assert all(weight.equal(before[name]) for name, weight in model.named_parameters())
