"""How fast a model runs on a machine, as measured: step times of one engine, kept in the cache by what they hold for.

Step times follow from the model, its precision and its share of the machine, not from how many requests or replicas
there are; those come in when hours are reckoned (`engine.hours`). A file also does for `simulate --coefficients`.
"""

import hashlib
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.config_sections import VllmConfig
from engine.files import write_atomic
from engine.simulation.latency import Coefficients

FOLDER: Final = "speed"
_DECIDING: Final = ("model", "revision", "dtype", "tensor_parallel", "gpus", "engine")


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Step times of a model on a machine. `settings` are the fields of `[models.NAME]` that they hold for.

    `kv_tokens` is the size of one replica's KV cache as it was measured, None where nobody said; `measured_at` is Unix
    time.
    """

    machine: str
    settings: dict[str, Any]
    coefficients: Coefficients
    is_cpu: bool = False
    kv_tokens: int | None = None
    measured_at: float = 0.0

    @property
    def day(self) -> str:
        """When it was measured, in UTC."""
        return time.strftime("%Y-%m-%d", time.gmtime(self.measured_at))


def settings_of(model: VllmConfig) -> dict[str, Any]:
    """Return what decides a model's step times on a given machine."""
    found: dict[str, Any] = msgspec.to_builtins({name: getattr(model, name) for name in _DECIDING})
    return found


def speed_path(cache: Path, model: VllmConfig, machine: str) -> Path:
    """Return where the speed of a model on a machine is kept."""
    key = hashlib.sha256(msgspec.json.encode([settings_of(model), machine], order="deterministic")).hexdigest()
    return cache / FOLDER / f"{key[:24]}.json"


def keep_speed(path: Path, speed: Speed) -> None:
    """Keep a speed; readers see all of it or none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(speed)))


def find_speed(cache: Path, model: VllmConfig, machine: str) -> tuple[Speed, Path] | None:
    """Return the kept speed that holds for a model here, and its file; what cannot be read is as good as none."""
    path = speed_path(cache, model, machine)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Speed)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    is_same = found.machine == machine and found.settings == settings_of(model)
    return (found, path) if is_same else None
