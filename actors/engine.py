"""The one place that talks to vLLM: engine arguments, sampling, counters, checksums.

Everything here is pinned by a contract test, because vLLM promises little of it. Prompts go in as token ids, token ids
come out once per request; text, views and replies are the replica's business.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from actors.engine_names import unknown_problems
from actors.spec import ModelSpec
from actors.weights import Weights
from engine.backend import RequestOptions
from engine.errors import InputError
from engine.steps import Choice, Fields, Sampling, ValueSchema

_CPU_BLOCK_SIZE = 32
_GIB = 1 << 30
_MAX_LORAS = 2  # the one that is served, and during a swap the one before it


class EngineLost(Exception):
    """The engine process is dead; nothing more will come of it."""


class EngineRefused(Exception):
    """The engine takes no such request."""


class EngineCounters(msgspec.Struct):
    """What the engine reports of itself; counters grow from its start, in tokens where not said otherwise."""

    num_steps: int = 0
    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Generated(msgspec.Struct, frozen=True):
    """One finished generation. `log_probabilities` has one row per token where they were asked for.

    `weights` is the version it was sampled under, or several, joined. `text` is there where stop texts were given: what
    came before the one that ended it. `prompt_log_probabilities` has one row per token of the prompt, the first None.
    """

    token_ids: tuple[int, ...]
    finish: str
    cached_tokens: int
    log_probabilities: list[dict[int, float]] | None = None
    weights: str = ""
    text: str | None = None
    prompt_log_probabilities: list[dict[int, float] | None] | None = None


def engine_arguments(spec: ModelSpec, *, is_cpu: bool, seed: int) -> dict[str, Any]:
    """Return the keyword arguments of vLLM's `AsyncEngineArgs`."""
    arguments: dict[str, Any] = {
        "model": spec.path,
        "tokenizer": str(spec.home),
        "dtype": cpu_dtype() if is_cpu and spec.dtype == "auto" else spec.dtype,
        "seed": seed,
        "load_format": "safetensors",
        "trust_remote_code": False,
        "max_model_len": spec.max_model_len,
        "max_num_seqs": spec.max_num_seqs,
        "tensor_parallel_size": spec.tensor_parallel,
        "enable_prefix_caching": spec.enable_prefix_caching,
        "enforce_eager": spec.enforce_eager or is_cpu,
        "scheduling_policy": "priority",
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",  # the model's own sampling defaults would override what a protocol asks for
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "num_gpu_blocks_override": spec.num_gpu_blocks_override,
        "enable_log_requests": False,
        "disable_log_stats": True,  # the default loggers; ours switches the statistics on
    }
    if spec.max_lora_rank:
        arguments |= {"enable_lora": True, "max_lora_rank": spec.max_lora_rank, "max_loras": _MAX_LORAS}
    if spec.takes_forced_ids:
        arguments["logits_processors"] = ["actors.forcing:ForcedTokens"]
    if is_cpu:
        arguments |= {"kv_cache_memory_bytes": int(spec.kv_cache_gib * _GIB)}
        arguments |= {"block_size": spec.block_size or _CPU_BLOCK_SIZE}
    else:
        arguments |= {"gpu_memory_utilization": spec.gpu_memory_utilization}
        arguments |= {"block_size": spec.block_size} if spec.block_size else {}
    return arguments | spec.engine


def cpu_dtype(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the dtype that `auto` means on CPU: without bf16 instructions, bfloat16 products run about 9 times slower.

    Measured on AVX2 (2 cores, 512 x 576 by 576 x 3072): 19 GFLOP/s in bfloat16, 159 in float32.
    """
    flags = cpuinfo.read_text().split() if cpuinfo.is_file() else []
    has_bf16 = any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))
    return "auto" if has_bf16 else "float32"


class Engine:
    """One running vLLM engine. Build it with `open`; it belongs to the event loop that first calls `generate`."""

    def __init__(self, llm: Any, counters: EngineCounters, path: str) -> None:
        self._llm = llm
        self.counters = counters
        self.weights = Weights(llm, path)

    @classmethod
    def open(cls, spec: ModelSpec, seed: int) -> "Engine":
        """Start an engine; blocks until it is ready. Raises InputError for an argument that vLLM does not know, and
        whatever vLLM raises.
        """
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        known = inspect.signature(AsyncEngineArgs).parameters
        if unknown := unknown_problems(f"models.{spec.name}", spec.engine, known):
            raise InputError(unknown)
        counters = EngineCounters()
        arguments = AsyncEngineArgs(**engine_arguments(spec, is_cpu=current_platform.is_cpu(), seed=seed))
        llm = AsyncLLM.from_engine_args(arguments, stat_loggers=[stat_logger_factory(counters)])
        return cls(llm, counters, spec.path)

    @property
    def kv_tokens(self) -> int:
        """How many tokens the KV cache holds."""
        cache = self._llm.vllm_config.cache_config
        return int(cache.num_gpu_blocks * cache.block_size)

    @property
    def max_context(self) -> int:
        """Longest context in tokens, prompt and completion together."""
        return int(self._llm.vllm_config.model_config.max_model_len)

    @property
    def is_lost(self) -> bool:
        """Whether the engine process is dead."""
        return bool(self._llm.errored)

    async def generate(
        self, token_ids: Sequence[int], parameters: Any, request_id: str, priority: int, weights: str = ""
    ) -> Generated:
        """Run one request to its end under a weight version ("": the newest); cancelling it aborts it in the engine.

        Raises `EngineLost` when the engine is dead, `EngineRefused` when the request is at fault.
        """
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        use, versions = self.weights.begin(weights), ""
        prompt = {"prompt_token_ids": list(token_ids), "cache_salt": use.salt}
        last = None
        try:
            async for output in self._llm.generate(
                prompt, parameters, request_id, lora_request=use.adapter, priority=priority
            ):
                last = output
        except EngineDeadError as error:
            raise EngineLost(str(error)) from error
        except (VLLMClientError, ValueError) as error:
            raise EngineRefused(str(error)) from error
        finally:
            versions = self.weights.end(use)
        if last is None:
            raise EngineLost("the engine ended the request without an answer")
        return _generated(last, versions, bool(parameters.detokenize))

    async def forget_prefixes(self) -> bool:
        """Empty the prefix cache; return whether it is empty (it is not while requests hold blocks)."""
        return bool(await self._llm.reset_prefix_cache())

    async def pause(self) -> None:
        """Stop generating; requests are kept as they are, and new ones wait."""
        await self._llm.pause_generation(mode="keep", clear_cache=False)

    async def resume(self) -> None:
        """Go on generating."""
        await self._llm.resume_generation()

    def close(self) -> None:
        """End the engine's processes."""
        self._llm.shutdown()


def _generated(output: Any, weights: str, has_text: bool) -> Generated:
    made = output.outputs[0]
    rows, before = made.logprobs, output.prompt_logprobs
    return Generated(
        token_ids=tuple(made.token_ids),
        finish=made.finish_reason or "abort",
        cached_tokens=output.num_cached_tokens or 0,
        log_probabilities=None if rows is None else [_row(row) for row in rows],
        weights=weights,
        text=made.text if has_text else None,
        prompt_log_probabilities=None if before is None else [None if row is None else _row(row) for row in before],
    )


def _row(row: Mapping[int, Any]) -> dict[int, float]:
    return {token_id: value.logprob for token_id, value in row.items()}


def sampling_parameters(
    sampling: Sampling,
    value: ValueSchema | None,
    end_ids: Sequence[int],
    watched_ids: Sequence[int] = (),
    forced_ids: Sequence[int] = (),
    options: RequestOptions | None = None,
) -> Any:
    """Return vLLM's parameters for one request: final output only, no text, no seed (it kills the CPU engine).

    `end_ids` end a turn. `watched_ids` are the tokens whose log probability is wanted at every position. `forced_ids`
    are made instead of sampled ones, by an engine that takes them. With stop texts among the `options` vLLM decodes as
    it goes, which is the only way to end right there; where log probabilities of the prompt are wanted it computes all
    of it, whatever its prefix cache holds.
    """
    from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS, RequestOutputKind, SamplingParams

    extra: dict[str, Any] = {}
    if 0 < len(watched_ids) <= MAX_LOGPROB_TOKEN_IDS:
        extra["logprob_token_ids"] = list(watched_ids)
    elif watched_ids:
        extra["logprobs"] = 20
    if value is not None:
        extra["structured_outputs"] = _structured(value)
    if forced_ids:
        extra["extra_args"] = {"forced_ids": list(forced_ids)}
    if options is not None:
        extra |= _optional(options)
    return SamplingParams(
        max_tokens=max_tokens_of(sampling, value),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        stop_token_ids=list(end_ids),
        output_kind=RequestOutputKind.FINAL_ONLY,
        **{"detokenize": False, **extra},
    )


def _optional(options: RequestOptions) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if options.stop:
        extra |= {"stop": list(options.stop), "detokenize": True}
    if options.num_tops is not None:
        extra["logprobs"] = options.num_tops
        if options.is_echoed:
            extra["prompt_logprobs"] = options.num_tops
    return extra


def max_tokens_of(sampling: Sampling, value: ValueSchema | None) -> int:
    """Return the token limit: a choice always has room for its longest option, in any tokenization, and the end."""
    if isinstance(value, Choice):
        return max(sampling.max_tokens, 1 + max(len(option.encode()) for option in value.options))
    return sampling.max_tokens


def _structured(value: ValueSchema) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    if isinstance(value, Choice):
        return StructuredOutputsParams(choice=list(value.options))
    return StructuredOutputsParams(json=json_schema(value), disable_any_whitespace=True)


def json_schema(value: Fields) -> dict[str, Any]:
    """Return the JSON schema of an object of strings."""
    string = {"type": "string", "maxLength": value.max_chars}
    return {
        "type": "object",
        "properties": dict.fromkeys(value.names, string),
        "required": list(value.names),
        "additionalProperties": False,
    }


def read_end_ids(path: Path, tokenizer: Any, end_of_turn_ids: Sequence[int]) -> list[int]:
    """Return the tokens that end a turn: the tokenizer's, the generation configuration's and the template's."""
    file = path / "generation_config.json"
    configured = msgspec.json.decode(file.read_bytes()).get("eos_token_id") if file.is_file() else None
    named = configured if isinstance(configured, list) else [configured]
    return sorted({i for i in (*named, tokenizer.eos_token_id, *end_of_turn_ids) if isinstance(i, int)})


def stat_logger_factory(counters: EngineCounters) -> Callable[[Any, int], Any]:
    """Return what vLLM calls to make its logger; the logger writes into `counters`."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Counting(StatLoggerBase):  # type: ignore[misc]  # vllm is not followed
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(
            self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
        ) -> None:
            count_scheduler(counters, scheduler_stats)
            count_iteration(counters, iteration_stats)

        def log_engine_initialized(self) -> None:
            pass

    return Counting


def count_scheduler(counters: EngineCounters, stats: Any) -> None:
    """Take over what one scheduler step reports."""
    if stats is None:
        return
    counters.num_steps += 1
    counters.running = stats.num_running_reqs
    counters.waiting = stats.num_waiting_reqs + stats.num_skipped_waiting_reqs
    counters.kv_usage = stats.kv_cache_usage
    counters.prefix_queries += stats.prefix_cache_stats.queries
    counters.prefix_hits += stats.prefix_cache_stats.hits


def count_iteration(counters: EngineCounters, stats: Any) -> None:
    """Take over what one batch of outputs reports."""
    if stats is None:
        return
    counters.preemptions += stats.num_preempted_reqs
    counters.prompt_tokens += stats.num_prompt_tokens
    counters.completion_tokens += stats.num_generation_tokens
