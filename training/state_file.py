"""Training states as files without pickles: nested values as JSON beside their tensors as safetensors.

    state/
        step-00000050/      rank-0.json, rank-0.safetensors, rank-1.json, ..., state.json
        .step-00000100.tmp/ one that is being written

A state counts once its directory has its name; the last two are kept. Holds what is written below and nothing else: a
value of another type is an error when it is written, not when it is needed. Knows nothing of what the values mean.
"""

import math
import os
import re
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.errors import RunError
from engine.files import fsync_directory, write_atomic

KEPT: Final = 2
"""States kept: the last may have been written by what then failed."""

_NAME: Final = re.compile(r"step-(\d{8})")
_CARD: Final = "state.json"


# ---------------------------------------------------------------- values


def write_values(path: Path, values: Any) -> None:
    """Write nested values to `path`.json and `path`.safetensors, durably; an older pair is replaced.

    None, booleans, numbers, texts, lists, tuples, dicts, OrderedDicts, tensors, torch dtypes and sizes keep their type;
    tensors come back on the CPU. Raises TypeError for anything else, naming where it stands.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    skeleton = _taken_apart(values, tensors, "state")
    save_file(tensors, f"{path}.safetensors")
    _fsync(Path(f"{path}.safetensors"))
    write_atomic(Path(f"{path}.json"), msgspec.json.encode(skeleton))


def read_values(path: Path) -> Any:
    """Return the values written to a path. Raises RunError when they are not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        skeleton = msgspec.json.decode(Path(f"{path}.json").read_bytes())
        return _put_together(skeleton, load_file(f"{path}.safetensors"))
    except (OSError, msgspec.DecodeError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} must be a whole training state, got {error}: remove its directory") from error


def _taken_apart(value: Any, tensors: dict[str, Any], where: str) -> Any:
    """Return a value as JSON holds it: plain values as they are, all others as {type: content}."""
    import torch

    match value:
        case None | bool() | str():
            return value
        case float() if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        case int() if type(value) is int:
            return value
        case torch.Size():
            return {"size": list(value)}
        case list() | tuple() if type(value) in (list, tuple):
            parts = [_taken_apart(one, tensors, f"{where}[{i}]") for i, one in enumerate(value)]
            return parts if isinstance(value, list) else {"tuple": parts}
        case dict() if type(value) in (dict, OrderedDict):
            pairs = [
                [_taken_apart(key, tensors, f"{where} key"), _taken_apart(one, tensors, f"{where}[{key!r}]")]
                for key, one in value.items()
            ]
            return {"dict" if type(value) is dict else "ordered": pairs}
        case torch.Tensor():
            name = f"t{len(tensors)}"
            # Own memory: a view would drag along, or clash with, the storage that it looks into.
            tensors[name] = value.detach().to("cpu", copy=True).contiguous()
            return {"tensor": name}
        case torch.dtype():
            return {"dtype": str(value).removeprefix("torch.")}
    raise TypeError(f"{where} must be made of plain values and tensors, got {type(value).__name__}: leave it out")


def _put_together(skeleton: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(skeleton, list):
        return [_put_together(one, tensors) for one in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, content),) = skeleton.items()
    match kind:
        case "float":
            return float(content)
        case "tuple":
            return tuple(_put_together(one, tensors) for one in content)
        case "dict" | "ordered":
            made: dict[Any, Any] = {} if kind == "dict" else OrderedDict()
            made.update((_put_together(key, tensors), _put_together(one, tensors)) for key, one in content)
            return made
        case "tensor":
            return tensors[content]
    return _torch_value(kind, content)


def _torch_value(kind: str, content: Any) -> Any:
    import torch

    if kind == "size":
        return torch.Size(content)
    found = getattr(torch, content, None) if kind == "dtype" else None
    if not isinstance(found, torch.dtype):
        raise ValueError(f"no {kind} {content}")
    return found


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


# ---------------------------------------------------------------- the states of a job


class StateCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a state says of itself: the step that it stands behind, and by how many workers it was written."""

    step: int
    workers: int


class States:
    """The training states of one job. `begin`, `commit` and `remove` are the first worker's, the others wait."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def last(self) -> Path | None:
        """Return the last whole state, None when there is none."""
        return max(self._all(), default=None)

    def card(self, state: Path) -> StateCard:
        """Return what a state says of itself. Raises RunError when it says nothing."""
        try:
            return msgspec.json.decode((state / _CARD).read_bytes(), type=StateCard)
        except (OSError, msgspec.DecodeError) as error:
            raise RunError(f"{state} must be a whole training state, got {error}: remove it") from error

    def place(self, step: int) -> Path:
        """Return where the workers write the state behind a step."""
        return self.path / f".step-{step:08d}.tmp"

    def begin(self, step: int) -> None:
        """Make room for a state; what an earlier writer left half done is removed."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self.path.glob(".*.tmp"):
            shutil.rmtree(left)
        self.place(step).mkdir(mode=0o700)

    def commit(self, card: StateCard) -> None:
        """Let the state that all workers have written count, and remove those that are too old."""
        place, final = self.place(card.step), self.path / f"step-{card.step:08d}"
        write_atomic(place / _CARD, msgspec.json.encode(card))
        if final.exists():
            shutil.rmtree(final)
        os.rename(place, final)
        fsync_directory(self.path)
        for old in sorted(self._all())[:-KEPT]:
            shutil.rmtree(old)

    def remove(self) -> None:
        """Remove all states."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _all(self) -> list[Path]:
        return [path for path in self.path.glob("step-*") if _NAME.fullmatch(path.name)]
