"""What a model's engine table and GPUs may say, all problems at once."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import is_operational, load
from engine.config_sections import RayConfig, VllmConfig
from engine.engine_table import FIELDS, KEPT, ONLY_SPEED, model_problems
from engine.errors import ConfigError


def problems(ray: dict[str, Any] | None = None, **model: Any) -> list[str]:
    return model_problems("a", VllmConfig(**model), RayConfig(**(ray or {})))


def test_an_argument_with_a_field_of_its_own_is_refused_with_the_field() -> None:
    found = problems(engine={"dtype": "half", "tensor_parallel_size": 2, "kv_cache_memory_bytes": 1})
    assert found == [
        "models.a.engine.dtype has a place of its own: set models.a.dtype",
        "models.a.engine.tensor_parallel_size has a place of its own: set models.a.tensor_parallel",
        "models.a.engine.kv_cache_memory_bytes has a place of its own: "
        "set models.a.kv_cache_gib (on CPU) or gpu_memory_utilization",
    ]
    fields = {field.split()[0] for field in FIELDS.values()}
    assert fields <= set(VllmConfig.__struct_fields__)


def test_what_sandplay_depends_on_is_refused_with_the_reason() -> None:
    for name, reason in KEPT.items():
        assert problems(engine={name: 1}) == [f"models.a.engine.{name} cannot be set: {reason}"]
    (found,) = problems(engine={"data_parallel_hybrid_lb": True})
    assert "set tensor_parallel and replicas" in found


def test_names_are_known_however_they_are_spelled() -> None:
    assert problems(engine={"gpu-memory-utilization": 0.5, "--Trust-Remote-Code": True, "tensor_parallel": 2}) == [
        "models.a.engine.gpu-memory-utilization has a place of its own: set models.a.gpu_memory_utilization",
        "models.a.engine.--Trust-Remote-Code cannot be set: code from a model's directory is never run",
        "models.a.engine.tensor_parallel has a place of its own: set models.a.tensor_parallel",
    ]


@pytest.mark.parametrize(
    "name",
    ["worker_cls", "worker_extension_cls", "reasoning_parser_plugin", "log_config_file", "scheduler_cls"],
)
def test_no_argument_names_code_to_run(name: str) -> None:
    assert problems(engine={name: "module.Name"})


@pytest.mark.parametrize("name", ["kv_events_config", "kv_transfer_config", "ec_transfer_config"])
def test_no_argument_lets_prompts_out_of_a_replica(name: str) -> None:
    (found,) = problems(engine={name: {"endpoint": "tcp://*:5557"}})
    assert "stay in the replica" in found


def test_weights_of_a_draft_model_are_safetensors_too() -> None:
    draft = {"model": "m", "draft_load_config": {"load_format": "pt"}}
    (found,) = problems(engine={"speculative_config": draft})
    where = "models.a.engine.speculative_config.draft_load_config.load_format"
    assert found.startswith(f"{where} must be \"safetensors\", got 'pt': weights are safetensors or nothing")
    draft["draft_load_config"] = {"load_format": "safetensors"}
    assert problems(engine={"speculative_config": draft}) == []


@pytest.mark.parametrize("value", [True, False, "yes"])
def test_remote_code_is_never_trusted(value: object) -> None:
    (found,) = problems(engine={"trust_remote_code": value})
    assert found.endswith("code from a model's directory is never run")
    hidden = problems(engine={"speculative_config": {"model": "m", "trust_remote_code": value}})
    assert bool(hidden) is bool(value)
    assert problems(engine={"hf_overrides": {"inner": {"trust_remote_code": 1}}})[0].startswith(
        "models.a.engine.hf_overrides.inner.trust_remote_code must not be switched on"
    )


@pytest.mark.parametrize(
    ("model", "ray", "said"),
    [
        ({"gpus": -1.0}, {}, "models.a.gpus must be >= 0, got -1"),
        ({}, {"gpus_per_replica": -1.0}, "ray.gpus_per_replica must be >= 0, got -1"),
        ({"gpus": math.inf}, {}, "models.a.gpus must be a finite number, got inf"),
        ({"gpus": math.nan}, {}, "models.a.gpus must be a finite number, got nan"),
        ({"gpus": 0.00001}, {}, "models.a.gpus must be at least 0.0001, got 1e-05"),
        ({"gpus": 1.5}, {}, "models.a.gpus must be a whole number or a part of one GPU, got 1.5: set 1 or 2"),
        ({"gpus": 2.0, "tensor_parallel": 4}, {}, "models.a.gpus must be >= models.a.tensor_parallel=4, got 2"),
        ({"gpus": 0.5, "tensor_parallel": 2}, {}, "models.a.gpus must be >= models.a.tensor_parallel=2, got 0.5"),
        ({"tensor_parallel": 2}, {"gpus_per_replica": 1.0}, "ray.gpus_per_replica must be >= models.a.tensor_parallel"),
        (
            {"gpus": 0.5},
            {},
            "models.a.gpu_memory_utilization must be <= models.a.gpus=0.5, got 0.9: a replica would take the memory of"
            " its neighbours on that GPU: set 0.45",
        ),
        ({}, {"gpus_per_replica": 0.25}, "models.a.gpu_memory_utilization must be <= ray.gpus_per_replica=0.25"),
        ({"revision": " "}, {}, 'models.a.revision must name a branch, tag or commit, got ""'),
    ],
)
def test_gpus_are_whole_ones_or_a_part_of_one_that_holds_the_engine(
    model: dict[str, Any], ray: dict[str, Any], said: str
) -> None:
    (found,) = problems(ray, **model)
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("model", "ray"),
    [
        ({}, {}),
        ({"gpus": 0.0, "tensor_parallel": 4}, {}),
        ({"gpus": 8.0, "tensor_parallel": 4}, {}),
        ({"gpus": 0.5, "gpu_memory_utilization": 0.5}, {}),
        ({"gpus": 4.0, "tensor_parallel": 4}, {"gpus_per_replica": 0.5}),
        ({"revision": "v1", "engine": {"quantization": "fp8", "kv_cache_dtype": "fp8"}}, {}),
    ],
)
def test_what_fits_is_taken(model: dict[str, Any], ray: dict[str, Any]) -> None:
    assert problems(ray, **model) == []


@given(gpus=st.floats(0.01, 1, exclude_max=True), share=st.floats(0.01, 1))
def test_a_part_of_a_gpu_is_taken_exactly_when_the_engines_memory_fits_it(gpus: float, share: float) -> None:
    assert (problems(gpus=gpus, gpu_memory_utilization=share) == []) is (share <= gpus)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_what_one_replica_takes_is_a_finite_number(value: float) -> None:
    table = {"models": {"a": {"kv_cache_gib": value}}, "ray": {"cpus_per_replica": value}}
    with pytest.raises(ConfigError) as refused:
        load(table)
    gib, cpus = refused.value.problems
    assert gib.startswith("models.a.kv_cache_gib must be ") and gib.endswith(f">= 0.1, got {value}")
    assert cpus.startswith(f"ray.cpus_per_replica must be a finite number >= 0, got {value}")


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "head.local:6379", "[fd00::1]:6379", "ray://head:10001"])
def test_a_cluster_is_named_by_host_and_port(address: str) -> None:
    assert load({"models": {"a": {}}, "ray": {"address": address}}).ray.address == address


@pytest.mark.parametrize(
    "address", ["", "head", "auto", "local", "head:", ":6379", "a..b:6379", "head:0", "head:99999", "http://head:6379"]
)
def test_any_other_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load({"models": {"a": {}}, "ray": {"address": address}})
    (found,) = refused.value.problems
    assert found.startswith("ray.address must be HOST:PORT of a Ray's head, got ") and "such as 10.0.0.1:6379" in found


def test_they_come_with_the_other_problems_of_a_configuration() -> None:
    with pytest.raises(ConfigError) as refused:
        load({"models": {"a": {"gpus": 1.5, "replicas": 0, "engine": {"seed": 1}}}})
    assert len(refused.value.problems) == 3


def test_what_only_says_how_fast_may_change_on_resume_and_nothing_else() -> None:
    assert all(is_operational(f"models.a.engine.{name}") for name in ONLY_SPEED)
    assert is_operational("models.a.engine.compilation_config.level") and is_operational("models.a.gpus")
    for name in ("quantization", "kv_cache_dtype", "hf_overrides.x", "anything"):
        assert not is_operational(f"models.a.engine.{name}")
    assert not is_operational("models.a.revision")
    assert not set(ONLY_SPEED) & (KEPT.keys() | FIELDS.keys()) and not KEPT.keys() & FIELDS.keys()
