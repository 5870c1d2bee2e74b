"""Checkpoints: directories of safetensors with a `checkpoint.json` that says what they are and what they came from.

    checkpoints/
        CURRENT            the name of the version that is served, replaced atomically
        r1/                checkpoint.json, model.safetensors or adapter_model.safetensors, configuration, tokenizer

A checkpoint is whole or absent: it is written beside its place, described, made durable, and renamed. `verify` finds
every fault before a replica touches it. Knows nothing of how weights are trained or served.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from engine.errors import InputError
from engine.files import fsync_directory, write_atomic
from engine.weights_file import Tensor, WeightsError, file_digest, fingerprint_weights, first_not_finite, read_header

CARD: Final = "checkpoint.json"
CURRENT: Final = "CURRENT"
FULL_CONFIG: Final = "config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_WEIGHTS: Final = "*.safetensors"
_PEFT_PREFIX: Final = re.compile(r"^base_model\.model\.|\.lora_[AB](?:\.[\w-]+)?\.weight$")


class CheckpointError(InputError):
    """A checkpoint that must not be served."""


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint came from; `corpus` and `config` are SHA-256 of the manifests trained on and the settings."""

    round: int = 0
    parent: str = ""
    corpus: str = ""
    config: str = ""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What `checkpoint.json` says. `base` is the SHA-256 of the base model's weights; `files` maps names to theirs.

    A `hosted` one has no files: `model` is its name at the endpoint that trained it, `base` that of its base there.
    """

    version: str
    kind: Literal["full", "lora", "hosted"]
    base: str
    files: dict[str, str]
    model: str = ""
    lineage: Lineage = Lineage()
    made_at: float = 0.0
    format: int = 1


def publish(directory: Path, place: Path, checkpoint: Checkpoint) -> Checkpoint:
    """Describe the files in `directory` and move it to `place`, a new name in a registry; returns what was written.

    `files` is filled in here. Raises InputError when the place is taken or its name is no version's.
    """
    if _NAME.fullmatch(checkpoint.version) is None or place.name != checkpoint.version:
        raise InputError(f"a version must be letters, digits, '.', '_' or '-', got {checkpoint.version!r} in {place}")
    if place.exists():
        raise InputError(f"a checkpoint must get a new name, got {place}, which exists: choose another version")
    described = msgspec.structs.replace(checkpoint, files=_digests(directory))
    write_atomic(directory / CARD, msgspec.json.format(msgspec.json.encode(described)))
    for path in (*_files(directory), directory):
        _fsync(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    os.rename(directory, place)
    fsync_directory(place.parent)
    return described


def read_checkpoint(path: Path) -> Checkpoint:
    """Return what a checkpoint says of itself. Raises CheckpointError."""
    try:
        return msgspec.json.decode((path / CARD).read_bytes(), type=Checkpoint)
    except OSError as error:
        raise CheckpointError(f"{path} must hold {CARD}, got {error.strerror}: give a finished checkpoint") from None
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{path / CARD} must describe a checkpoint, got {error}: train it again") from None


def verify(path: Path, base: Path) -> Checkpoint:
    """Return the checkpoint when it may be served in place of, or upon, the model directory `base`.

    Every file is read. Raises CheckpointError with all that is wrong: files missing, changed, cut off, pickled or not
    finite; another base; tensors missing, unknown or of other shapes.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.kind == "hosted":
        raise CheckpointError(
            f"checkpoint {checkpoint.version}: must have weights, got a hosted model: name its endpoint"
        )
    try:
        problems = [*_file_problems(path, checkpoint), *_weight_problems(path, base, checkpoint)]
    except OSError as error:
        problems = [f"{path} must stay readable while it is loaded, got {error}: restore it"]
    if problems:
        raise CheckpointError([f"checkpoint {checkpoint.version}: {problem}" for problem in problems])
    return checkpoint


def hosted_model(path: Path) -> str:
    """Return the name of a hosted checkpoint at its endpoint. Raises CheckpointError for one of another kind."""
    checkpoint = read_checkpoint(path)
    if checkpoint.kind != "hosted" or not checkpoint.model:
        rule = f"checkpoint {checkpoint.version}: an endpoint serves hosted models alone"
        raise CheckpointError(f"{rule}, got kind {checkpoint.kind!r}: serve it with vllm")
    return checkpoint.model


# ---------------------------------------------------------------- the registry


class Registry:
    """The checkpoints of one run of rounds, and which of them is current."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Return the versions there are, oldest first."""
        found = [(read_checkpoint(path.parent).made_at, path.parent.name) for path in self.path.glob(f"*/{CARD}")]
        return [name for _, name in sorted(found)]

    def place(self, version: str) -> Path:
        """Return where a version is, or is to be."""
        return self.path / version

    @property
    def current(self) -> str | None:
        """The version that is served, None for the base model."""
        try:
            return (self.path / CURRENT).read_text("utf-8").strip() or None
        except FileNotFoundError:
            return None

    def set_current(self, version: str | None) -> None:
        """Say which version is served from now on; durable when this returns. Raises CheckpointError for none such."""
        if version is not None:
            read_checkpoint(self.place(version))
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / CURRENT, f"{version or ''}\n".encode())

    def remove_leftovers(self) -> None:
        """Remove what was being written when its writer died: directories without a description."""
        for path in self.path.glob("*"):
            if path.is_dir() and not (path / CARD).exists():
                shutil.rmtree(path)


# ---------------------------------------------------------------- faults


def _file_problems(path: Path, checkpoint: Checkpoint) -> Iterable[str]:
    there = {file.relative_to(path).as_posix(): file for file in _files(path)}
    for name in sorted(there.keys() - checkpoint.files.keys()):
        yield f"{name} must be named in {CARD}, got a file that is not: remove it"
    for name, file in there.items():
        if file.suffix.lower() in PICKLES:
            yield f"{name} must not be a pickle, which runs code when it is loaded: save as safetensors"
        if file.is_symlink():
            yield f"{name} must be a file, got a link: copy what it points to"
    for name, digest in checkpoint.files.items():
        if name not in there:
            yield f"{name} must be there, got no such file: restore it"
        elif file_digest(there[name]) != digest:
            yield f"{name} must have the SHA-256 {digest[:12]}..., got another: it was changed or is cut off"
    wanted = FULL_CONFIG if checkpoint.kind == "full" else ADAPTER_CONFIG
    if wanted not in checkpoint.files:
        yield f"a {checkpoint.kind} checkpoint must have {wanted}, got none: save the whole model"


def _weight_problems(path: Path, base: Path, checkpoint: Checkpoint) -> Iterable[str]:
    if (found := fingerprint_weights(base)) != checkpoint.base:
        yield f"its base must be the served model {found[:12]}..., got {checkpoint.base[:12]}...: serve its own base"
        return
    own: dict[str, Tensor] = {}
    for file in sorted(path.glob(_WEIGHTS)):
        try:
            tensors, begin = read_header(file)
        except WeightsError as error:
            yield str(error)
            continue
        own |= tensors
        if (name := first_not_finite(file, tensors, begin)) is not None:
            yield f"{file.name}: {name} must be finite, got infinity or no number: train again with a lower rate"
    if not own:
        yield f"it must hold {_WEIGHTS}, got none: save as safetensors"
        return
    check = _shape_problems if checkpoint.kind == "full" else _adapter_problems
    yield from check(own, _tensors_of(base))


def _shape_problems(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> Iterable[str]:
    for name in sorted(base.keys() - own.keys()):
        yield f"{name} must be there, got no such tensor"
    for name in sorted(own.keys() - base.keys()):
        yield f"{name} must be a tensor of the base, got an unknown one"
    for name in sorted(own.keys() & base.keys()):
        if own[name].shape != base[name].shape:
            yield f"{name} must have the shape {list(base[name].shape)}, got {list(own[name].shape)}"


def _adapter_problems(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> Iterable[str]:
    """Each low-rank pair must fit the weight that it is added to."""
    for name, tensor in sorted(own.items()):
        target = f"{_PEFT_PREFIX.sub('', name)}.weight"
        is_down = ".lora_A" in name
        if target not in base or len(tensor.shape) != 2:
            yield f"{name} must adapt a weight of the base, got none called {target}"
        elif tensor.shape[1 if is_down else 0] != base[target].shape[1 if is_down else 0]:
            yield f"{name} must fit {target} {list(base[target].shape)}, got {list(tensor.shape)}"


def _tensors_of(directory: Path) -> dict[str, Tensor]:
    return {name: tensor for file in sorted(directory.glob(_WEIGHTS)) for name, tensor in read_header(file)[0].items()}


# ---------------------------------------------------------------- files


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if not path.is_dir() and path.name != CARD)


def _digests(directory: Path) -> dict[str, str]:
    return {path.relative_to(directory).as_posix(): file_digest(path) for path in _files(directory)}


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
