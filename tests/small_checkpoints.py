"""A model of two tensors and checkpoints of it, for tests that load none of them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engine.checkpoints import Checkpoint, Lineage, publish
from engine.weights_file import fingerprint_weights

BASE = {"layer.weight": (4, 6), "norm.weight": (6,)}
ADAPTER = {
    "base_model.model.layer.lora_A.weight": (2, 6),
    "base_model.model.layer.lora_B.weight": (4, 2),
}


def write_weights(path: Path, shapes: Mapping[str, tuple[int, ...]], value: float = 1.0) -> None:
    header, data = {}, b""
    for name, shape in shapes.items():
        body = np.full(shape, value, dtype="<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + len(body)]}
        data += body
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)


def make_base(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    write_weights(path / "model.safetensors", BASE)
    return path


def make_full(base: Path, place: Path, value: float = 2.0) -> Checkpoint:
    draft = place.parent / f".{place.name}.tmp"
    draft.mkdir(parents=True)
    shutil.copy(base / "config.json", draft)
    write_weights(draft / "model.safetensors", BASE, value)
    made = Checkpoint(
        version=place.name, kind="full", base=fingerprint_weights(base), files={}, lineage=Lineage(round=1)
    )
    return publish(draft, place, made)


def make_adapter(base: Path, place: Path, shapes: Mapping[str, tuple[int, ...]] = ADAPTER) -> Checkpoint:
    draft = place.parent / f".{place.name}.tmp"
    draft.mkdir(parents=True)
    (draft / "adapter_config.json").write_text('{"r": 2}')
    write_weights(draft / "adapter_model.safetensors", shapes)
    made = Checkpoint(version=place.name, kind="lora", base=fingerprint_weights(base), files={})
    return publish(draft, place, made)
