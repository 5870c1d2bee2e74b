"""From a plan to simulated pools: shapes of replicas, ways to count tokens, what the models will say.

What is not known is assumed, and every assumption is written down for the report. Starts nothing.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.config_sections import OpenAIConfig, VllmConfig
from engine.errors import InputError
from engine.planning import Plan
from engine.record import EpisodeRecord
from engine.simulation.answers import Answers, RecordedAnswers, SampledAnswers, Similarities
from engine.simulation.backend import WIRE_S, SimulatedBackend
from engine.simulation.faults import Fault
from engine.simulation.jobs import Shape
from engine.simulation.latency import CPU, GPU_8B, Coefficients
from engine.simulation.lengths import LengthSampler, choice_weights
from engine.simulation.tokens import Tokens
from engine.token_count import bytes_count

GIB: Final = 1 << 30
CPU_KV_TOKENS: Final = 46_000
"""SmolLM2-135M in float32 with 2 GiB: 46 kB per token."""
GPU_KV_TOKENS: Final = 900_000
"""An 8B model in bf16 on an H200: 118 GB at 131 kB per token."""
CPU_BLOCK: Final = 32
GPU_BLOCK: Final = 16
STEP_TOKENS: Final = 8192
CPU_STEP_TOKENS: Final = 4096


class Settings(msgspec.Struct, kw_only=True):
    """How a plan is simulated.

    `records` give lengths and choices (and with `is_replay` the very answers); without them lengths are assumed.
    `match` is the probability that two texts are found similar; `counter` measures texts in tokens (None: the
    model's own tokenizer where it is at hand, else bytes / 4).
    """

    coefficients: Coefficients = CPU
    records: Sequence[EpisodeRecord] = ()
    is_replay: bool = False
    match: float = 0.5
    faults: Sequence[Fault] = ()
    wire_s: float = WIRE_S
    starts_s: float = 0.0
    counter: Callable[[str], int] | None = None


class Pools(msgspec.Struct, kw_only=True):
    """What is played on, and what had to be assumed."""

    pools: dict[str, SimulatedBackend]
    similarities: Similarities
    assumptions: list[str]


def make_pools(plan: Plan, settings: Settings) -> Pools:
    """Return a simulated pool for every model that a role uses. Raises InputError when a pool cannot be simulated."""
    assumptions: list[str] = []
    seed = plan.config.seed
    answers = make_answers(seed, settings, assumptions)
    pools: dict[str, SimulatedBackend] = {}
    for name in sorted(set(plan.config.roles.values())):
        model = plan.config.models[name]
        count = settings.counter or _counter(model.model, f"models.{name}", assumptions)
        shape = make_shape(model, settings.coefficients, f"models.{name}", assumptions)
        pools[name] = SimulatedBackend(
            answers=answers,
            tokens=Tokens(count, shape.block_size),
            shape=shape,
            coefficients=settings.coefficients,
            replicas=model.replicas if isinstance(model, VllmConfig) else 1,
            max_context=model.max_model_len,
            faults=settings.faults,
            wire_s=settings.wire_s,
            starts_s=settings.starts_s,
            model=model.model,
        )
    replayed = settings.records if settings.is_replay else ()
    return Pools(pools=pools, similarities=Similarities(seed, settings.match, replayed), assumptions=assumptions)


def make_answers(seed: int, settings: Settings, assumptions: list[str]) -> Answers:
    """Return what the models will say."""
    if not settings.records:
        lengths = LengthSampler.lognormal()
        assumptions.append("completion lengths: lognormal around 80 tokens (give recorded ones with --lengths DIR)")
        return SampledAnswers(seed, lengths)
    try:
        lengths = LengthSampler.from_records(settings.records)
    except ValueError:
        raise InputError("the recorded run must hold free-text replies to take lengths from, got none") from None
    sampled = SampledAnswers(seed, lengths, weights=choice_weights(settings.records))
    return RecordedAnswers(settings.records, sampled) if settings.is_replay else sampled


def make_shape(
    model: VllmConfig | OpenAIConfig, coefficients: Coefficients, where: str, assumptions: list[str]
) -> Shape:
    """Return the shape of one replica of a model. Raises InputError for a KV cache below one context."""
    if isinstance(model, OpenAIConfig):
        assumptions.append(f"{where}: an endpoint is taken for one replica with max_inflight slots and endless KV")
        return Shape(slots=model.max_inflight, num_blocks=1 << 24, step_tokens=max(STEP_TOKENS, model.max_inflight))
    is_gpu = coefficients is GPU_8B
    block = model.block_size or (GPU_BLOCK if is_gpu else CPU_BLOCK)
    num_blocks = model.num_gpu_blocks_override or _num_blocks(model, block, is_gpu, where, assumptions)
    if num_blocks * block <= block + 64:
        raise InputError(f"{where}: the KV cache must hold a context, got {num_blocks} blocks of {block} tokens")
    step_tokens = STEP_TOKENS if is_gpu else CPU_STEP_TOKENS
    return Shape(
        slots=model.max_num_seqs,
        num_blocks=num_blocks,
        block_size=block,
        step_tokens=max(step_tokens, model.max_num_seqs),
    )


def _num_blocks(model: VllmConfig, block: int, is_gpu: bool, where: str, assumptions: list[str]) -> int:
    per_token = None if is_gpu else kv_bytes_per_token(Path(model.model).expanduser(), model.dtype)
    if per_token is not None:
        return int(model.kv_cache_gib * GIB) // (per_token * block)
    tokens = GPU_KV_TOKENS if is_gpu else int(CPU_KV_TOKENS * model.kv_cache_gib / 2)
    assumptions.append(f"{where}: {tokens} KV tokens per replica (set num_gpu_blocks_override to say how many)")
    return tokens // block


def kv_bytes_per_token(directory: Path, dtype: str) -> int | None:
    """Return the KV bytes of one token by a model directory's config.json, None when it does not tell.

    `auto` is taken for float32, which is what CPUs without bf16 instructions serve.
    """
    try:
        config: dict[str, Any] = json.loads((directory / "config.json").read_bytes())
        heads = int(config["num_attention_heads"])
        head_size = int(config.get("head_dim") or config["hidden_size"] // heads)
        kv_heads = int(config.get("num_key_value_heads") or heads)
        size = 2 if dtype in ("bfloat16", "float16", "half") else 4
        return 2 * int(config["num_hidden_layers"]) * kv_heads * head_size * size
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _counter(model: str, where: str, assumptions: list[str]) -> Callable[[str], int]:
    file = Path(model).expanduser() / "tokenizer.json"
    if not file.is_file():
        assumptions.append(f"{where}: prompts are counted as bytes / 4, without the model's tokenizer")
        return bytes_count
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
