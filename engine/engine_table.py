"""What `[models.NAME.engine]` and `gpus` may say; pure, and without vLLM.

The table goes to vLLM's `AsyncEngineArgs` as it is, but for the names that have a place of their own or that Sandplay
depends on. Whether vLLM knows a name is checked where vLLM is installed (`actors.engine_names`).
"""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from engine.api_keys import shown

if TYPE_CHECKING:
    from engine.config_sections import RayConfig, VllmConfig

_SAME: Final = (
    "model revision dtype max_model_len max_num_seqs block_size gpu_memory_utilization num_gpu_blocks_override "
    "max_lora_rank"
).split()
FIELDS: Final[Mapping[str, str]] = {
    **{name: name for name in _SAME},
    "tensor_parallel_size": "tensor_parallel",
    "data_parallel_size": "replicas",
    "enable_lora": "max_lora_rank",
    "kv_cache_memory_bytes": "kv_cache_gib (on CPU) or gpu_memory_utilization",
}
"""Arguments that have a field of their own in `[models.NAME]`."""

_PLACE: Final = "a replica is one process group in a place of its own: set tensor_parallel and replicas"
_TEXTS: Final = "prompts are rendered and replies read with the model's own tokenizer"
_SAMPLING: Final = "how is sampled is the protocol's business: see [protocol]"
_CODE: Final = "code from a model's directory is never run"
_LOGS: Final = "the run's own metrics and logs are made from it"
_OWN_CODE: Final = "replicas run vLLM's own code, none that a configuration names"
_STAYS: Final = "prompts and their caches stay in the replica: for more room set kv_offloading_size"
_PICKLE: Final = "weights are safetensors or nothing: a pickle runs code when loaded"
KEPT: Final[Mapping[str, str]] = {
    "trust_remote_code": _CODE,
    "code_revision": _CODE,
    "load_format": _PICKLE,
    "model_weights": "weights come from where the model is: set models.NAME.model",
    "download_dir": "models are fetched before replicas start: the variable HF_HOME says where they are kept",
    "hf_token": "a key never stands in a configuration: set the variable HF_TOKEN",
    "seed": "every replica draws its own; the run's seed stands at the top",
    **dict.fromkeys(("tokenizer", "tokenizer_revision", "skip_tokenizer_init"), _TEXTS),
    **dict.fromkeys(("generation_config", "override_generation_config"), _SAMPLING),
    **dict.fromkeys(("runner", "convert"), "replicas generate"),
    **dict.fromkeys(("scheduling_policy", "scheduler_cls"), "old dialogues go before new ones by priority"),
    **dict.fromkeys(("logprobs_mode", "max_logprobs"), "probabilities of choices are read from it"),
    "structured_outputs_config": "replies are held to choices and fields by it",
    "logits_processors": "recorded runs are replayed by it",
    "enable_prefix_caching": "admission and routing count on it",
    "max_loras": "a swap needs room for the old adapter and the new one",
    **dict.fromkeys(("disable_log_stats", "enable_log_requests", "aggregate_engine_logging"), _LOGS),
    **dict.fromkeys(("log_config_file", "logging_config", "otlp_traces_endpoint"), _LOGS),
    **dict.fromkeys(("worker_cls", "worker_extension_cls", "model_class_overrides", "ec_manager_config"), _OWN_CODE),
    **dict.fromkeys(("reasoning_parser_plugin", "io_processor_plugin"), _OWN_CODE),
    **dict.fromkeys(("kv_events_config", "kv_transfer_config", "ec_transfer_config"), _STAYS),
    "weight_transfer_config": "weights change by a swap",
    "served_model_name": "the pool's name and the model's are what clients see",
    **dict.fromkeys(("pipeline_parallel_size", "prefill_context_parallel_size"), _PLACE),
    **dict.fromkeys(
        ("distributed_executor_backend", "nnodes", "node_rank", "master_addr", "master_port", "device_ids"), _PLACE
    ),
    **dict.fromkeys(("data_parallel_rank", "data_parallel_size_local", "data_parallel_address"), _PLACE),
}
"""Arguments that Sandplay sets itself or depends on, each with the reason."""

ONLY_SPEED: Final = (
    *("enforce_eager", "compilation_config", "cudagraph_capture_sizes", "max_cudagraph_capture_size"),
    *("optimization_level", "performance_mode", "max_num_batched_tokens", "enable_chunked_prefill"),
    *("long_prefill_token_threshold", "async_scheduling", "stream_interval", "cpu_offload_gb"),
    *("kv_offloading_size", "kv_offloading_backend", "disable_custom_all_reduce", "max_parallel_loading_workers"),
    *("safetensors_load_strategy", "use_tqdm_on_load", "enable_sleep_mode", "numa_bind", "log_level"),
)
"""Arguments that say how fast and where, and may change on resume. All others may change what is sampled: identity."""


_LEAST_PART: Final = 0.0001
"""Ray counts no smaller part of a GPU."""


def model_problems(name: str, model: "VllmConfig", ray: "RayConfig") -> list[str]:
    """Return what is wrong with a model's engine table, its GPUs and its revision, one sentence each."""
    where = f"models.{name}"
    own = [field for field in model.__struct_fields__ if field not in FIELDS]
    found = [problem for key in model.engine for problem in _kept(where, key, own)]
    found += [problem for path, value in _leaves(model.engine) for problem in _hidden(where, path, value)]
    if model.revision is not None and not model.revision.strip():
        found.append(f'{where}.revision must name a branch, tag or commit, got "": leave it out for the newest')
    return found + _gpu_problems(where, model, ray)


def _kept(where: str, key: str, own: Collection[str]) -> list[str]:
    rule = own_rule(where, key) or (f"set {where}.{plain(key)}" if plain(key) in own else "")
    if not rule:
        return []
    how = "has a place of its own" if rule.startswith("set ") else "cannot be set"
    return [f"{where}.engine.{key} {how}: {rule}"]


def own_rule(where: str, key: str) -> str:
    """Return why an argument has no place in the table, or where its place is ("set ..."); "" for any other."""
    name = plain(key)
    if name in FIELDS:
        return f"set {where}.{FIELDS[name]}"
    return KEPT.get(name, _PLACE if name.startswith("data_parallel_") else "")


def plain(key: str) -> str:
    """Return an argument's name as vLLM's Python writes it, whether or not it was taken from a command line."""
    return key.removeprefix("--").replace("-", "_").lower()


def _hidden(where: str, path: str, value: object) -> list[str]:
    """What may not be said further in, as of a draft model, either."""
    if "." in path and path.endswith("trust_remote_code") and value:
        return [f"{where}.engine.{path} must not be switched on: {_CODE}"]
    if path.endswith(".load_format") and value != "safetensors":
        return [f'{where}.engine.{path} must be "safetensors", got {shown(value)}: {_PICKLE}']
    return []


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")


def _gpu_problems(where: str, model: "VllmConfig", ray: "RayConfig") -> list[str]:
    """GPUs of one replica: none, a part of one, or at least as many whole ones as its tensor parallelism."""
    gpus = model.gpus if model.gpus is not None else ray.gpus_per_replica
    field = f"{where}.gpus" if model.gpus is not None else "ray.gpus_per_replica"
    if gpus is None or gpus == 0:
        return []
    if gpus < _LEAST_PART or not math.isfinite(gpus):
        rule = ">= 0" if gpus < 0 else f"at least {_LEAST_PART:g}" if gpus < 1 else "a finite number"
        return [f"{field} must be {rule}, got {gpus:g}: set 0 for CPU"]
    if gpus > 1 and gpus != int(gpus):
        rule = f"{field} must be a whole number or a part of one GPU, got {gpus:g}"
        return [f"{rule}: set {int(gpus)} or {int(gpus) + 1}"]
    if gpus < model.tensor_parallel and model.tensor_parallel > 1:
        rule = f"{field} must be >= {where}.tensor_parallel={model.tensor_parallel}, got {gpus:g}"
        return [f"{rule}: set {field}={model.tensor_parallel}, or lower tensor_parallel"]
    share = model.gpu_memory_utilization
    if gpus < 1 and share > gpus:
        rule = f"{where}.gpu_memory_utilization must be <= {field}={gpus:g}, got {share:g}"
        return [f"{rule}: a replica would take the memory of its neighbours on that GPU: set {gpus * 0.9:.2g}"]
    return []
