"""Checkpoints made from others, for tests that need two."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np

from engine.checkpoints import Checkpoint, publish
from engine.weights_file import fingerprint_weights, read_header


def perturb(source: Path, target: Path) -> Path:
    """Copy a checkpoint with one linear layer changed a little."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    name = next(name for name in tensors if name.endswith("down_proj.weight"))
    tensors[name] = tensors[name] * 1.5
    with contextlib.suppress(FileNotFoundError):
        (target / "model.safetensors").unlink()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def make_full(model: Path, place: Path) -> Path:
    """Publish a whole model that differs a little from `model`."""
    draft = perturb(model, place.with_name(f".{place.name}"))
    publish(draft, place, Checkpoint(version=place.name, kind="full", base=fingerprint_weights(model), files={}))
    return place


def make_adapter(model: Path, place: Path, *, rank: int = 8, scale: float = 0.05, seed: int = 0) -> Path:
    """Publish a random LoRA adapter upon the attention outputs and the MLPs of `model`, written by hand."""
    from safetensors.numpy import save_file

    draws, tensors = np.random.default_rng(seed), {}
    shapes = read_header(model / "model.safetensors")[0]
    for name, tensor in shapes.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            made, taken = tensor.shape
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = draws.normal(0, scale, (rank, taken)).astype("float32")
            tensors[f"{stem}.lora_B.weight"] = draws.normal(0, scale, (made, rank)).astype("float32")
    draft = place.with_name(f".{place.name}")
    draft.mkdir(parents=True)
    save_file(tensors, draft / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["o_proj", "down_proj"]}
    more = {"bias": "none", "task_type": "CAUSAL_LM", "base_model_name_or_path": ""}
    (draft / "adapter_config.json").write_text(json.dumps(config | more))
    publish(draft, place, Checkpoint(version=place.name, kind="lora", base=fingerprint_weights(model), files={}))
    return place
