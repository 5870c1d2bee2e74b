from pathlib import Path

import pytest

from actors import launch
from actors.cluster import actor_environment
from actors.launch import resolve_share
from actors.placement import Share
from actors.spec import ModelSpec, RaySpec


def make_spec(**changes: object) -> ModelSpec:
    return ModelSpec(name="base", path="/m", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "ray_spec", "cluster", "share"),
    [
        ({}, RaySpec(), {"CPU": 2.0}, Share(0.5, 0.0)),
        ({"replicas": 2}, RaySpec(), {"CPU": 2.0}, Share(0.25, 0.0)),
        ({}, RaySpec(), {"CPU": 64.0}, Share(1.0, 0.0)),
        ({}, RaySpec(cpus_per_replica=3), {"CPU": 2.0}, Share(3, 0.0)),
        ({"tensor_parallel": 2}, RaySpec(), {"CPU": 8.0, "GPU": 4.0}, Share(1.0, 2.0)),
        ({"gpus": 0.5}, RaySpec(gpus_per_replica=2), {"CPU": 8.0, "GPU": 4.0}, Share(1.0, 0.5)),
        ({"gpus": 0}, RaySpec(gpus_per_replica=2), {"CPU": 2.0, "GPU": 4.0}, Share(0.5, 0)),
        ({"gpus": 1}, RaySpec(cpus_per_replica=4), {"CPU": 2.0}, Share(4, 1)),
        ({"tensor_parallel": 2}, RaySpec(gpus_per_replica=0), {"CPU": 8.0, "GPU": 4.0}, Share(1.0, 0)),
    ],
)
def test_the_share_suits_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    ray_spec: RaySpec,
    cluster: dict[str, float],
    share: Share,
) -> None:
    monkeypatch.setattr(launch, "_is_cpu_build", lambda: False)
    assert resolve_share(make_spec(**changes), ray_spec, cluster) == share


def test_a_cpu_build_takes_no_gpu_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_is_cpu_build", lambda: True)
    assert resolve_share(make_spec(), RaySpec(), {"CPU": 8.0, "GPU": 1.0}).gpus == 0


def test_the_reason_is_the_engines_own_and_not_the_pointer_to_it(tmp_path: Path) -> None:
    log = tmp_path / "base-0.log"
    log.write_text(
        "INFO starting\nTraceback ...\nValueError: max_model_len 9000 is too long\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    pointer = RuntimeError("StartupError: RuntimeError: Engine core initialization failed. See root cause above.")
    assert launch._root_cause(pointer, log, 0) == "ValueError: max_model_len 9000 is too long"
    assert launch._root_cause(pointer, log, log.stat().st_size) == str(pointer)
    own = RuntimeError("Traceback ...\nactors.replica.StartupError: ValidationError: no such dtype")
    assert launch._root_cause(own, log, 0) == "ValidationError: no such dtype"
    assert launch._root_cause(RuntimeError("just this"), tmp_path / "none.log", 0) == "just this"
    assert launch._root_cause(RuntimeError(), tmp_path / "none.log", 0) == "RuntimeError"


def test_actors_are_quiet_and_find_this_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = actor_environment({"OMP_NUM_THREADS": "2"})
    root = str(Path(__file__).parents[2])
    assert environment["PYTHONPATH"] == f"{root}:/elsewhere"
    assert environment["TOKENIZERS_PARALLELISM"] == "false" and environment["OMP_NUM_THREADS"] == "2"
    assert environment["VLLM_NO_USAGE_STATS"] == "1"
