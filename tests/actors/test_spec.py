import subprocess
import sys

import pytest

from actors.spec import ModelSpec, RaySpec
from engine.errors import InputError


def test_all_problems_of_a_spec_come_at_once() -> None:
    with pytest.raises(InputError) as refused:
        ModelSpec(name="base", path="/m", replicas=0, kv_cache_gib=-1, gpu_memory_utilization=2, max_restarts=-1)
    named = " ".join(refused.value.problems)
    assert len(refused.value.problems) == 4
    assert all(field in named for field in ("replicas", "kv_cache_gib", "gpu_memory_utilization", "max_restarts"))


def test_a_replica_cannot_take_less_than_nothing() -> None:
    with pytest.raises(InputError, match="cpus_per_replica must be >= 0, got -1"):
        RaySpec(cpus_per_replica=-1)


@pytest.mark.parametrize("module", ["actors.fleet", "actors.embedder", "actors.models", "actors.rendering"])
def test_importing_loads_none_of_the_heavy_libraries(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('ray', 'vllm', 'torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
