"""The names of vLLM's engine arguments, read off its source."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from actors.engine_names import known_arguments, read_fields, unknown_problems
from engine.engine_table import FIELDS, KEPT, ONLY_SPEED

SOURCE = """
import heavy
class EngineArgs:
    model: str = ModelConfig.model
    _private: int = 1
    dtype: "str" = x()
    constant = 3
    def method(self): local: int = 1
@dataclass
class AsyncEngineArgs(EngineArgs):
    enable_log_requests: bool = False
class Other:
    no: int = 0
"""


def test_public_annotated_fields_of_both_classes_are_read_and_nothing_is_run() -> None:
    assert read_fields(SOURCE) == {"model", "dtype", "enable_log_requests"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("quantisation", "did you mean quantization?"),
        ("kv-cache-dtype", "did you mean kv_cache_dtype?"),
        ("dtyp", "did you mean dtype? set models.a.dtype"),
        ("gpu_memory_utilisation", "did you mean gpu_memory_utilization? set models.a.gpu_memory_utilization"),
        (
            "trust_remote_cod",
            "did you mean trust_remote_code? it cannot be set: code from a model's directory is never run",
        ),
        ("swap_space", "see the engine arguments in vLLM's manual"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest_one_and_its_place(name: str, hint: str) -> None:
    known = known_arguments()
    assert known is not None
    assert unknown_problems("models.a", [name, "quantization"], known) == [
        f"models.a.engine.{name} must be an engine argument of the installed vLLM: {hint}"
    ]


def test_the_installed_engine_has_every_name_we_speak_of() -> None:
    known = known_arguments()
    assert known is not None
    assert {*FIELDS, *KEPT, *ONLY_SPEED} <= known


def test_reading_imports_no_vllm() -> None:
    code = (
        "import sys; from actors.engine_names import known_arguments; known_arguments(); print('vllm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_vllm_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read = known_arguments.__wrapped__
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert read() is None
    strange = importlib.util.spec_from_file_location("vllm", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: strange)
    assert read() is None
