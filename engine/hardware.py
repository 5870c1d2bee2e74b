"""What this machine computes with, by name: nothing is started, and no library of models is loaded."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def processor() -> str:
    """Return the processor's name."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gpu_lines() -> list[str]:
    """Return what `nvidia-smi -L` says of each GPU, nothing where there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    done = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=20, check=False)
    return [line for line in done.stdout.strip().splitlines() if line.strip()]


def computes_with(*, is_cpu: bool) -> str:
    """Return what an engine here computes with: the processor and its cores, or the name of the first GPU."""
    names = [line.partition(":")[2].partition("(")[0].strip() for line in gpu_lines()] if not is_cpu else []
    return names[0] if names else f"{processor()}, {os.cpu_count()} cores"
