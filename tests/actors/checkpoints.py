"""Checkpoints made from others, for tests that need two."""

import contextlib
import shutil
from pathlib import Path


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
