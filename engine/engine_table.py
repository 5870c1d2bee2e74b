"""What `[models.NAME.engine]` and `gpus` may say; pure, and without vLLM.

The table goes to vLLM's `AsyncEngineArgs` as it is, but for the names that have a place of their own or that Sandplay
depends on. Whether vLLM knows a name is checked where vLLM is installed (`actors.engine_names`).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

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
KEPT: Final[Mapping[str, str]] = {
    "trust_remote_code": _CODE,
    "code_revision": _CODE,
    "load_format": "weights are safetensors or nothing: a pickle runs code when loaded",
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


def model_problems(name: str, model: "VllmConfig", ray: "RayConfig") -> list[str]:
    """Return what is wrong with a model's engine table, its GPUs and its revision, one sentence each."""
    where = f"models.{name}"
    found = [problem for key in model.engine for problem in _kept(where, key)]
    found += [
        f"{where}.engine.{path} must not be switched on: {_CODE}"
        for path, value in _leaves(model.engine)
        if "." in path and path.endswith("trust_remote_code") and value
    ]
    if model.revision is not None and not model.revision.strip():
        found.append(f'{where}.revision must name a branch, tag or commit, got "": leave it out for the newest')
    return found + _gpu_problems(where, model, ray)


def _kept(where: str, key: str) -> list[str]:
    if key in FIELDS:
        return [f"{where}.engine.{key} has a place of its own: set {where}.{FIELDS[key]}"]
    if key in KEPT or key.startswith("data_parallel_"):
        return [f"{where}.engine.{key} cannot be set: {KEPT.get(key, _PLACE)}"]
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
    if gpus < 0:
        return [f"{field} must be >= 0, got {gpus:g}: set 0 for CPU"]
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
