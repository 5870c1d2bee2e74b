"""Trained weights as files that can be served: an adapter, or a whole model in the form of the one it came from.

A whole model has the files, names, shapes and dtypes of its source, so that whoever served that serves this. All
workers take part, because each holds a part of the weights; the first one writes. Imports torch: for workers alone.
"""

import copy
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from engine.checkpoints import CARD, PICKLES
from engine.errors import InputError
from engine.files import fsync_directory
from engine.weights_file import Tensor, read_header

_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_WEIGHTS: Final = "*.safetensors"
_ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"


def require_same_names(model: Any, source: Path) -> None:
    """Raise InputError when the model holds its weights under other names than its files do."""
    held = _parameters(model)
    missing = sorted(name for file in _files(source) for name in file[1] if name not in held)
    if missing:
        raise InputError(
            f'training.method "full" needs a model that stores its weights under the names it uses, got {missing[0]}'
            f' and {len(missing) - 1} more in {source}: use method = "lora"'
        )


def round_as_written(model: Any, source: Path) -> None:
    """Round the weights in place to the dtypes in which `source` has them, and they will be written.

    What is measured then is what will be served; small steps of a training in float32 may be lost in bf16.
    """
    held = _parameters(model)
    with torch.no_grad():
        for name, tensor in ((name, tensor) for _, tensors in _files(source) for name, tensor in tensors.items()):
            dtype = _DTYPES.get(tensor.dtype, held[name].dtype)
            # Under ZeRO-3 each worker holds a part of a weight, and the whole of a small one beside it.
            for values in (held[name].data, getattr(held[name], "ds_tensor", held[name]).data):
                values.copy_(values.to(dtype))


def save_full(model: Any, source: Path, target: Path, *, is_first: bool) -> None:
    """Write a whole model as `source` is written; all workers call it together. `target` appears whole."""
    held = _parameters(model)
    with _Staged(target, is_first) as place:
        for name, tensors in _files(source):
            found = _gathered(((one, held[one]) for one in tensors), is_first)
            if place is not None:
                cast = {one: _as_in(tensor, found[one]) for one, tensor in tensors.items()}
                _write(cast, place / name)
        if place is not None:
            _copy_others(source, place)


def save_adapter(model: Any, target: Path, *, is_first: bool) -> None:
    """Write the adapter of a PEFT model; all workers call it together. `target` appears whole, and names no path."""
    from peft import get_peft_model_state_dict

    trained = ((name, one) for name, one in model.named_parameters() if one.requires_grad)
    with _Staged(target, is_first) as place:
        found = _gathered(trained, is_first)
        if place is None:
            return
        _write(
            get_peft_model_state_dict(model, state_dict=found, save_embedding_layers=False), place / _ADAPTER_WEIGHTS
        )
        config = copy.deepcopy(model.peft_config["default"])
        config.base_model_name_or_path = ""
        config.inference_mode = True
        if not isinstance(config.target_modules, str):
            config.target_modules = sorted(config.target_modules)
        config.save_pretrained(str(place))


class _Staged:
    """The first worker writes beside the target, and renames at the end; the others get no place."""

    def __init__(self, target: Path, is_first: bool) -> None:
        self._target = target
        self._place = target.with_name(f".{target.name}.tmp")
        self._is_first = is_first

    def __enter__(self) -> Path | None:
        if not self._is_first:
            return None
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir(mode=0o700, parents=True)
        return self._place

    def __exit__(self, kind: object, *_: object) -> None:
        if not self._is_first or kind is not None:
            return
        for path in self._place.iterdir():
            path.chmod(0o600)
        shutil.rmtree(self._target, ignore_errors=True)
        os.rename(self._place, self._target)
        fsync_directory(self._target.parent)


def _gathered(parameters: Iterable[tuple[str, Any]], is_first: bool) -> dict[str, Any]:
    """Return whole weights on the CPU, on the first worker; the others take part and get nothing."""
    found: dict[str, Any] = {}
    for name, parameter in parameters:
        with _whole(parameter):
            if is_first:
                found[name] = parameter.detach().to("cpu", copy=True).contiguous()
    return found


def _whole(parameter: Any) -> Any:
    import deepspeed

    return deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id"))


def _parameters(model: Any) -> dict[str, Any]:
    """All names, those of tied weights too."""
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())


def _as_in(tensor: Tensor, weight: Any) -> Any:
    return weight.to(_DTYPES.get(tensor.dtype, weight.dtype))


def _files(source: Path) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    return ((path.name, read_header(path)[0]) for path in sorted(source.glob(_WEIGHTS)))


def _write(tensors: Mapping[str, Any], path: Path) -> None:
    save_file(dict(tensors), str(path), metadata={"format": "pt"})


def _copy_others(source: Path, place: Path) -> None:
    """Configuration, tokenizer and chat template, not the weights and no pickles."""
    for path in source.iterdir():
        is_other = path.is_file() and path.suffix != ".safetensors" and path.suffix.lower() not in PICKLES
        if is_other and path.name != CARD and not path.name.startswith("."):
            shutil.copyfile(path, place / path.name)
