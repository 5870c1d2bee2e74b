"""What `sandplay train` was asked for: its own tables of the configuration file, checked before anything is touched."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.config_decode import decode
from engine.config_sections import ModelConfig, RayConfig, VllmConfig
from engine.errors import InputError
from engine.files import write_atomic
from training.settings import PLAN, SampleSettings
from training.training_settings import TrainingSettings


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The tables that training reads; a file may have others."""

    training: TrainingSettings = TrainingSettings()
    samples: SampleSettings = SampleSettings()
    models: dict[str, ModelConfig] = {}
    ray: RayConfig = RayConfig()


class TrainPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is trained on what. `model` is its name in the configuration."""

    training: TrainingSettings
    samples: SampleSettings
    ray: RayConfig
    model: str
    config: VllmConfig
    data: Path
    held_out: Path | None = None


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    data: str
    held_out: str
    samples: SampleSettings


_READ: Final = Tables.__struct_fields__


def plan_training(table: Mapping[str, Any], model: str, data: Path | None, held_out: Path | None) -> TrainPlan:
    """Return the plan. Raises InputError with everything that is wrong."""
    tables, problems = decode(Tables, {name: table[name] for name in _READ if name in table}, "")
    if data is None:
        problems.append("the samples are missing: give --data DIR|FILE")
    problems += [
        f"a source must be a run directory or a file, got {path}: correct it"
        for path in (data, held_out)
        if path is not None and not path.exists()
    ]
    name, config = "", None
    if tables is not None:
        problems += tables.training.problems() + tables.samples.problems()
        if PLAN in tables.samples.kinds:
            problems.append(f"samples.kinds must not have {PLAN!r}, which makes pairs, to train on: remove it")
        name, config, found = _chosen(tables.models, model)
        problems += found
    if problems or tables is None or config is None or data is None:
        raise InputError(problems)
    return TrainPlan(
        training=tables.training,
        samples=tables.samples,
        ray=tables.ray,
        model=name,
        config=config,
        data=data.absolute(),
        held_out=held_out.absolute() if held_out else None,
    )


def _chosen(models: Mapping[str, ModelConfig], wanted: str) -> tuple[str, VllmConfig | None, list[str]]:
    """Return (name, settings, what is wrong) of the model to train."""
    local = {name: model for name, model in models.items() if isinstance(model, VllmConfig)}
    known = ", ".join(local) or "none"
    if wanted and wanted not in local:
        return "", None, [f"--model must name a model of kind vllm, got {wanted!r}: there are {known}"]
    if not wanted and len(local) != 1:
        return "", None, [f"one model of kind vllm must be trained, got {known}: give --model NAME"]
    name = wanted or next(iter(local))
    return name, local[name], []


def claim(plan: TrainPlan, path: Path) -> None:
    """Note what samples come from, or see that it is the same. Raises InputError when it is not."""
    request = _Request(data=str(plan.data), held_out=str(plan.held_out or ""), samples=plan.samples)
    if not path.exists():
        write_atomic(path, msgspec.json.format(msgspec.json.encode(request)))
        return
    before = msgspec.json.decode(path.read_bytes(), type=_Request)
    changed = [
        f"{path.parent} holds samples of another request: {name} was {getattr(before, name)!r}, got"
        f" {getattr(request, name)!r}: use a new directory"
        for name in _Request.__struct_fields__
        if getattr(before, name) != getattr(request, name)
    ]
    if changed:
        raise InputError(changed)
