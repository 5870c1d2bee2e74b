"""The layers: engine loads nothing heavy, imports point one way, and help answers at once."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("ray", "vllm", "torch", "transformers")
BANNED = {
    "engine": ("actors", "training", "eval", "benchmarks", *HEAVY),
    "actors": ("training", "eval", "benchmarks"),
    "training": ("actors", "eval", "benchmarks"),
    "eval": ("actors", "training", "benchmarks"),
}


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("layer", BANNED)
def test_imports_point_one_way(layer: str) -> None:
    composing = {ROOT / "engine" / "cli.py", *(ROOT / "engine" / "commands").glob("*.py")}
    paths = [path for path in (ROOT / layer).rglob("*.py") if path not in composing]
    assert paths
    wrong = {str(path): imported_modules(path) & set(BANNED[layer]) for path in paths}
    assert not {path: names for path, names in wrong.items() if names}


@pytest.mark.parametrize("module", ["engine", "engine.cli", "engine.scheduler", "engine.run"])
def test_importing_the_engine_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_help_answers_at_once() -> None:
    times = []
    for _ in range(3):
        begun = cpu_of_children()
        subprocess.run([sys.executable, "-m", "engine", "--help"], capture_output=True, check=True, cwd=ROOT)
        times.append(cpu_of_children() - begun)
    assert min(times) < 0.5


def cpu_of_children() -> float:
    """Seconds of processor time, which a busy machine stretches less than those of the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_nothing_outside_protocols_knows_what_a_symptom_is() -> None:
    paths = [path for path in (ROOT / "engine").glob("*.py") if not path.name.startswith("example_")]
    words = ("symptom", "diagnos", "medicine")
    found = {path.name for path in paths if path.name != "cli.py" and any(w in path.read_text().lower() for w in words)}
    assert found == set()
