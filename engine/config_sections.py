"""The sections of a configuration: what each table of the file may say, and what it says by default.

Knows nothing of files or of how sections belong together.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from engine.prices import Prices

LORA_RANKS: Final = (0, 1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `max_lora_rank` may be: vLLM's own sizes, and 0 for no adapters."""


def enough_lora_rank(rank: int) -> int:
    """Return the smallest `max_lora_rank` that serves adapters of a rank; the rank itself where none does."""
    return next((size for size in LORA_RANKS if size >= rank), rank)


class CasesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which cases are played. `limit` 0 means all; each is played `repeats` times.

    `source` is "bundled", "sampled" (drawn from the seed, `limit` of them), a file (JSON, JSONL or Parquet), or a file
    of a data set of the Hugging Face hub: "hf:ORG/NAME:FILE", without `:FILE` where only one fits. `revision` is a
    branch, tag or commit of it. `columns` says which column of a file a field is read from, where its name is another;
    columns that are no fields are then left out.
    """

    source: str = "bundled"
    revision: str | None = None
    columns: dict[str, str] = {}
    limit: int = 0
    repeats: int = 1


class PrinciplesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the groups of behavior principles come from: "bundled", a JSON object of lists by group, or a CSV file.

    The file may be one of a data set of the Hugging Face hub, as that of cases, with its `revision`.
    """

    source: str = "bundled"
    revision: str | None = None


class CorpusConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run is kept beside its directory.

    `target` is the URI of a folder, "s3://bucket/prefix", gs, abfs, hdfs or file: sealed parts are copied into a folder
    of the run's name there while it is played, the rest of the run at its end ("" copies nothing). A target that fails
    never ends a run. `target_options` are those of the URI in pyarrow, such as `region`, `endpoint_override` and
    `scheme`. Credentials come from the environment or the profile that pyarrow reads, never from here.
    """

    target: str = ""
    target_options: dict[str, str] = {}


class VllmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="vllm", tag_field="kind"):
    """A pool of vLLM replicas.

    `model` is a Hugging Face id, a directory, or the bundled "smollm2-135m"; `revision` a branch, tag or commit of an
    id. Each of the `replicas` runs `max_num_seqs` requests at once. `gpus` counts those of one replica: 0.5 is half of
    one, 0 is CPU; left out it is `ray.gpus_per_replica`, and without that `tensor_parallel` where there are GPUs.
    `max_model_len`, `dtype`, `block_size`, `gpu_memory_utilization` and `num_gpu_blocks_override` mean what they do in
    vLLM; `kv_cache_gib` holds on CPU only. LoRA adapters of rank up to `max_lora_rank` can be swapped in, none with 0.
    `engine` goes to vLLM's engine arguments as it is; those of it that only say how fast are operational.

    A replica that is not up after `start_timeout_s`, or makes no token for `stall_timeout_s` while it has work, is
    replaced, `max_restarts` times at most. `price_in` and `price_out` are money per million tokens of prompts and
    completions; `price_cached`, of prompts found in a prefix cache, is `price_in` where it is left out.
    """

    model: str = "smollm2-135m"
    revision: str | None = None
    replicas: int = 1
    gpus: float | None = None
    tensor_parallel: int = 1
    max_model_len: int = 8192
    max_num_seqs: int = 64
    block_size: int | None = None
    kv_cache_gib: float = 2.0
    gpu_memory_utilization: float = 0.9
    num_gpu_blocks_override: int | None = None
    dtype: str = "auto"
    start_timeout_s: float = 600.0
    stall_timeout_s: float = 120.0
    max_restarts: int = 5
    max_lora_rank: int = 0
    price_in: float | None = None
    price_out: float | None = None
    price_cached: float | None = None
    engine: dict[str, Any] = {}

    minima: ClassVar[Mapping[str, float]] = {
        "replicas": 1,
        "tensor_parallel": 1,
        "max_model_len": 64,
        "max_num_seqs": 1,
        "kv_cache_gib": 0.1,
        "start_timeout_s": 1,
        "stall_timeout_s": 1,
        "max_restarts": 0,
    }


class OpenAIConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="openai", tag_field="kind"
):
    """An OpenAI-compatible endpoint, which knows the model as `model`.

    `base_url` ends in /v1 as a rule. `api_key_env` is the *name* of the variable that holds the key. At most
    `max_inflight` requests are under way. `structured` says whether the endpoint holds replies to JSON schemas; left
    out, it is asked once. `max_model_len` is the window in tokens, where known. Prices (`price_in`, `price_out`,
    `price_cached`) are as above.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = None
    max_inflight: int = 64
    max_model_len: int | None = None
    structured: bool | None = None
    price_in: float | None = None
    price_out: float | None = None
    price_cached: float | None = None

    minima: ClassVar[Mapping[str, float]] = {"max_inflight": 1, "max_model_len": 64}


class EmbedderConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where similarities come from: a `local` sentence-transformers model, or an `openai` endpoint of embeddings.

    `model` is the bundled "minilm", a directory or a Hugging Face id; of an endpoint, the name that it knows.
    `base_url` and `api_key_env` are those of an endpoint.
    """

    kind: Literal["local", "openai"] = "local"
    model: str = "minilm"
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = None


class SchedulerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the run is paced. `max_live` bounds live dialogues, "auto" by the KV cache; times are seconds.

    A step is tried at most `max_attempts` times, for `request_timeout_s` each; waiting because a server asked for it
    (429 with Retry-After) is bounded by `max_wait_s` per step instead. Metrics are kept every `metrics_interval_s`, and
    every `seal_every` finished episodes become one Parquet part.
    """

    max_live: int | Literal["auto"] = "auto"
    request_timeout_s: float = 1800.0
    max_attempts: int = 4
    max_wait_s: float = 900.0
    metrics_interval_s: float = 5.0
    seal_every: int = 256

    minima: ClassVar[Mapping[str, float]] = {
        "max_live": 1,
        "request_timeout_s": 0.1,
        "max_attempts": 1,
        "max_wait_s": 0,
        "metrics_interval_s": 0.1,
        "seal_every": 1,
    }


class JournalConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where what is live is kept. `locking` "auto" opens the journal for one process alone, without shared memory,
    where the run directory lies on a network file system; "shared" and "exclusive" say so themselves.

    `local_dir` is a directory on a disk of the node that plays ("" for none; `$TMPDIR` and the like are filled in
    there). The journal then lives in a directory of its own in it, and is copied into the run directory every
    `copy_every_s`: when that node is lost, so is what was answered since the last copy.
    """

    locking: Literal["auto", "shared", "exclusive"] = "auto"
    local_dir: str = ""
    copy_every_s: float = 30.0

    minima: ClassVar[Mapping[str, float]] = {"copy_every_s": 0.1}


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run may use in its whole life; 0 is no limit. `max_cost` is in the unit of the models' prices.

    Calls count every attempt, tokens are prompt and completion, hours are those of playing, starting up left out.
    """

    max_calls: int = 0
    max_tokens: int = 0
    max_cost: float = 0.0
    max_hours: float = 0.0

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return any(value > 0 for value in self.by_name.values())

    @property
    def by_name(self) -> dict[str, float]:
        """Return the limits by name, those that are none included."""
        found: dict[str, float] = msgspec.structs.asdict(self)
        return found


class PrivacyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may leave this machine and the cluster, and what may be read in.

    By default (`egress = "refuse"`) nothing starts that would send texts to another host: no role's model, embedder,
    fine-tuning or `corpus.target` may be elsewhere. `"allow"` lets them. `sandplay generate CONFIG.toml --dry-run` says
    who sees what; each run keeps it in `egress.jsonl`.

    Cases, principles, items and transcripts from files are looked through for personal data and secrets (`scan`):
    `"warn"` says how many there are and where, `"redact"` replaces them by their kind in brackets before anything else
    sees them, `"block"` refuses them. `detector` is `"structured"` (forms and check digits: addresses, numbers, keys),
    or `"presidio"`, which adds names and places and needs the extra `privacy`.
    """

    egress: Literal["refuse", "allow"] = "refuse"
    scan: Literal["warn", "redact", "block", "off"] = "warn"
    detector: Literal["structured", "presidio"] = "structured"


class RayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where replicas run. Without an `address` a Ray of our own is started on this machine, on loopback.

    What one replica takes of its node is found out unless `cpus_per_replica` and `gpus_per_replica` say it.
    A cluster that `autoscales` adds nodes when asked: a placement that it has no room for now is shown, not refused.
    """

    address: str | None = None
    cpus_per_replica: float | None = None
    gpus_per_replica: float | None = None
    autoscales: bool = False


ModelConfig: TypeAlias = VllmConfig | OpenAIConfig


def prices_of(model: ModelConfig) -> Prices:
    """Return a model's prices."""
    return Prices(price_in=model.price_in, price_out=model.price_out, price_cached=model.price_cached)
