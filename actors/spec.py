"""What a pool of replicas is made of: the model, its engine settings, and the Ray resources each replica takes.

Plain values, checked at construction; they travel to the actors as they are. Nothing here touches ray or vllm.
"""

from pathlib import Path
from typing import Any

import msgspec

from engine.config_sections import LORA_RANKS
from engine.errors import InputError
from engine.swap import Target


class RaySpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where replicas run. `address` None starts a Ray of our own on loopback; otherwise that cluster is joined.

    `gpus_per_replica` counts the whole replica's GPUs, 0 means CPU, None as many as its tensor parallelism where the
    cluster has GPUs. `cpus_per_replica` None takes a share that leaves room for other pools. `node` is the id of the
    node that replicas are placed on while it has room, "" anywhere.
    """

    address: str | None = None
    node: str = ""
    cpus_per_replica: float | None = None
    gpus_per_replica: float | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be >= 0, got {value}: set it to the share of a node that one replica may take"
            for name, value in (
                ("cpus_per_replica", self.cpus_per_replica),
                ("gpus_per_replica", self.gpus_per_replica),
            )
            if value is not None and value < 0
        ]
        if problems:
            raise InputError(problems)


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One pool: `replicas` engines serving the model directory `path` under the pool's `name`, numbered from
    `first_replica` on, with the LoRA directory `adapter` upon it ("" for none).

    `base` is the model that `path` was trained from, "" when that is `path` itself: tokenizer, chat template and end
    tokens are always the base's. Adapters of rank up to `max_lora_rank` can be served, none with 0.

    Lengths are in tokens, `kv_cache_gib` (CPU only) in GiB, times in seconds. `block_size` None means 32 on CPU (the
    engine's default of 128 loses half a block of every prompt) and the engine's default on GPU. `threads` None shares
    the node's cores among the pool's replicas. A replica with open requests and no movement for `stall_timeout_s` is
    hung; it is restarted at most `max_restarts` times. An idle replica is asked for one token every `canary_s`.
    `gpus` counts those of one replica, None leaves that to `RaySpec`. `engine` goes to vLLM's arguments as it is.
    `nodes` are the ids of the nodes that the replicas were planned for, "" and none for any.
    `takes_forced_ids` lets a request name the ids it gets instead of sampled ones, to replay recorded runs.
    """

    name: str
    path: str
    base: str = ""
    adapter: str = ""
    max_lora_rank: int = 0
    replicas: int = 1
    first_replica: int = 0
    gpus: float | None = None
    tensor_parallel: int = 1
    max_model_len: int = 8192
    max_num_seqs: int = 64
    block_size: int | None = None
    kv_cache_gib: float = 2.0
    gpu_memory_utilization: float = 0.9
    num_gpu_blocks_override: int | None = None
    dtype: str = "auto"
    enforce_eager: bool = False
    enable_prefix_caching: bool = True
    threads: int | None = None
    start_timeout_s: float = 600.0
    stall_timeout_s: float = 120.0
    canary_s: float = 300.0
    max_restarts: int = 5
    takes_forced_ids: bool = False
    env: dict[str, str] = {}
    engine: dict[str, Any] = {}
    nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [*self._count_problems(), *self._range_problems(), *self._adapter_problems()]
        if problems:
            raise InputError(problems)

    @property
    def home(self) -> Path:
        """The model directory that tokenizer and template come from."""
        return Path(self.base or self.path)

    @property
    def target(self) -> Target:
        """What the replicas serve from their start."""
        return Target(self.path, self.adapter)

    def node_of(self, index: int) -> str:
        """Return the id of the node that replica `index` was planned for, "" for any."""
        place = index - self.first_replica
        return self.nodes[place] if place < len(self.nodes) else ""

    def serving(self, target: Target) -> "ModelSpec":
        """Return the same pool on another target."""
        return msgspec.structs.replace(self, path=target.weights, adapter=target.adapter, base=str(self.home))

    def _adapter_problems(self) -> list[str]:
        ranks = ", ".join(map(str, LORA_RANKS))
        rank = self.max_lora_rank
        problems = []
        if rank not in LORA_RANKS:
            problems.append(f"{self.name}: max_lora_rank must be one of {ranks}, got {rank}: set the next larger one")
        if self.adapter and not rank:
            problems.append(f"{self.name}: max_lora_rank must be > 0 to serve an adapter, got 0: set one of {ranks}")
        return problems

    def _count_problems(self) -> list[str]:
        at_least_one = ("replicas", "tensor_parallel", "max_model_len", "max_num_seqs")
        problems = [
            f"{self.name}: {name} must be >= 1, got {getattr(self, name)}: set {name}=1 or more"
            for name in at_least_one
            if getattr(self, name) < 1
        ]
        if self.max_restarts < 0:
            problems.append(f"{self.name}: max_restarts must be >= 0, got {self.max_restarts}: set 0 for no restart")
        return problems

    def _range_problems(self) -> list[str]:
        problems = [
            f"{self.name}: {name} must be > 0, got {getattr(self, name)}: set a positive number"
            for name in ("kv_cache_gib", "start_timeout_s", "stall_timeout_s", "canary_s")
            if getattr(self, name) <= 0
        ]
        if not 0 < self.gpu_memory_utilization <= 1:
            found = self.gpu_memory_utilization
            problems.append(f"{self.name}: gpu_memory_utilization must be in (0, 1], got {found}: set for example 0.9")
        return problems
