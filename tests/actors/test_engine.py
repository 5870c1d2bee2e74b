"""The contract with vLLM: everything `actors/engine.py` uses of it, checked against the installed version."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from actors import engine
from actors.engine import EngineCounters, engine_arguments, json_schema, max_tokens_of
from actors.engine_names import known_arguments
from actors.spec import ModelSpec
from engine.config_sections import LORA_RANKS
from engine.engine_table import FIELDS, KEPT
from engine.errors import InputError
from engine.steps import Choice, Fields, Sampling

pytestmark = [
    pytest.mark.timeout(200),  # importing vLLM alone takes a while
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # and warns about itself
]


@pytest.mark.parametrize("is_cpu", [True, False])
def test_vllm_knows_all_our_arguments(is_cpu: bool) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = set(inspect.signature(AsyncEngineArgs).parameters)
    spec = ModelSpec(name="base", path="/model", block_size=64, max_lora_rank=16)
    assert set(engine_arguments(spec, is_cpu=is_cpu, seed=1)) <= known


def test_the_names_read_off_the_source_are_those_of_the_class() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    fields = inspect.signature(AsyncEngineArgs).parameters
    assert known_arguments() == {name for name in fields if not name.startswith("_")}


@pytest.mark.parametrize("is_cpu", [True, False])
def test_everything_we_set_is_kept_from_the_engine_table_but_eager_mode(is_cpu: bool) -> None:
    spec = ModelSpec(name="base", path="/m", block_size=64, max_lora_rank=16, takes_forced_ids=True)
    ours = set(engine_arguments(spec, is_cpu=is_cpu, seed=1))
    assert ours - KEPT.keys() - FIELDS.keys() == {"enforce_eager"}


def test_the_engine_table_is_handed_over_as_it_is() -> None:
    table = {"quantization": "fp8", "enforce_eager": False, "speculative_config": {"method": "ngram"}}
    spec = ModelSpec(name="base", path="/m", engine=table)
    found = engine_arguments(spec, is_cpu=True, seed=1)
    assert {name: found[name] for name in table} == table and found["model"] == "/m"


def test_an_engine_refuses_what_the_driver_could_not_check() -> None:
    spec = ModelSpec(name="base", path="/m", engine={"quantisation": "fp8"})
    with pytest.raises(InputError, match=r"models\.base\.engine\.quantisation .* did you mean quantization"):
        engine.Engine.open(spec, 1)


def test_cpu_gets_small_blocks_and_a_fixed_cache_and_gpu_its_defaults() -> None:
    spec = ModelSpec(name="base", path="/model", kv_cache_gib=1.5)
    cpu, gpu = (engine_arguments(spec, is_cpu=is_cpu, seed=1) for is_cpu in (True, False))
    assert (cpu["block_size"], cpu["kv_cache_memory_bytes"], cpu["enforce_eager"]) == (32, 3 << 29, True)
    assert "block_size" not in gpu and gpu["gpu_memory_utilization"] == 0.9 and gpu["enforce_eager"] is False
    assert cpu["trust_remote_code"] is False and cpu["load_format"] == "safetensors"


def test_adapters_are_served_where_a_rank_is_set_and_the_tokenizer_is_the_bases() -> None:
    plain, lora = (
        engine_arguments(ModelSpec(name="b", path="/r1", base="/model", max_lora_rank=rank), is_cpu=True, seed=1)
        for rank in (0, 16)
    )
    assert (plain["model"], plain["tokenizer"]) == ("/r1", "/model") and "enable_lora" not in plain
    assert (lora["enable_lora"], lora["max_lora_rank"], lora["max_loras"]) == (True, 16, 2)


def test_vllm_knows_our_ranks() -> None:
    from vllm.config.lora import MaxLoRARanks

    assert set(get_args(MaxLoRARanks)) == set(LORA_RANKS) - {0}


def test_the_engine_has_the_methods_we_call() -> None:
    from vllm.v1.engine.async_llm import AsyncLLM

    generate = inspect.signature(AsyncLLM.generate).parameters
    assert {"prompt", "sampling_params", "request_id", "priority", "lora_request"} <= set(generate)
    assert {"mode", "clear_cache"} <= set(inspect.signature(AsyncLLM.pause_generation).parameters)
    assert {"method", "kwargs"} <= set(inspect.signature(AsyncLLM.collective_rpc).parameters)
    for method in ("resume_generation", "update_weight_version", "add_lora", "remove_lora"):
        assert callable(getattr(AsyncLLM, method))
    assert "stat_loggers" in inspect.signature(AsyncLLM.from_engine_args).parameters
    for method in ("shutdown", "compute_weight_checksums"):
        assert callable(getattr(AsyncLLM, method))
    assert isinstance(AsyncLLM.errored, property)


def test_prompts_take_token_ids_and_a_salt() -> None:
    from vllm.inputs import TokensPrompt

    assert {"prompt_token_ids", "cache_salt"} <= set(TokensPrompt.__annotations__) | set(
        TokensPrompt.__mro__[0].__optional_keys__ | TokensPrompt.__required_keys__  # type: ignore[attr-defined]
    )


def test_outputs_have_the_fields_we_read() -> None:
    from vllm.outputs import CompletionOutput, RequestOutput

    assert {"text", "token_ids", "finish_reason", "logprobs"} <= set(CompletionOutput.__dataclass_fields__)
    assert {"num_cached_tokens", "prompt_logprobs"} <= set(inspect.signature(RequestOutput.__init__).parameters)


def test_log_probabilities_are_read_of_prompt_and_completion() -> None:
    from vllm.logprobs import Logprob
    from vllm.outputs import CompletionOutput, RequestOutput

    made = CompletionOutput(0, "so", [7], None, [{7: Logprob(-0.5, 2), 9: Logprob(-0.25, 1)}], finish_reason="stop")
    output = RequestOutput("r", None, [1, 2], [None, {2: Logprob(-1.0, 1)}], [made], True, num_cached_tokens=None)
    found = engine._generated(output, "w", True)
    assert (found.token_ids, found.finish, found.cached_tokens, found.text) == ((7,), "stop", 0, "so")
    assert found.log_probabilities == [{7: -0.5, 9: -0.25}]
    assert found.prompt_log_probabilities == [None, {2: -1.0}]
    assert engine._generated(output, "w", False).text is None


def test_a_dead_engine_and_a_bad_request_have_their_own_errors() -> None:
    from vllm.exceptions import VLLMClientError, VLLMValidationError
    from vllm.v1.engine.exceptions import EngineDeadError

    assert issubclass(VLLMValidationError, (VLLMClientError, ValueError))
    assert not issubclass(EngineDeadError, (VLLMClientError, ValueError))


def test_the_stat_logger_counts_real_statistics() -> None:
    from vllm.v1.metrics.loggers import StatLoggerBase
    from vllm.v1.metrics.stats import IterationStats, PrefixCacheStats, SchedulerStats

    counters = EngineCounters()
    logger = engine.stat_logger_factory(counters)(None, 0)
    assert isinstance(logger, StatLoggerBase)
    steps = SchedulerStats(
        num_running_reqs=3, num_waiting_reqs=2, num_skipped_waiting_reqs=1, kv_cache_usage=0.5,
        prefix_cache_stats=PrefixCacheStats(requests=1, queries=100, hits=64),
    )  # fmt: skip
    batch = IterationStats()
    batch.num_generation_tokens = 7
    batch.num_preempted_reqs = 1
    batch.prompt_token_stats.total = 100
    logger.record(steps, batch)
    logger.record(None, None)
    logger.record(steps, None)
    assert counters == EngineCounters(
        num_steps=2, running=3, waiting=3, kv_usage=0.5, prefix_queries=200, prefix_hits=128, preemptions=1,
        prompt_tokens=100, completion_tokens=7,
    )  # fmt: skip


def test_sampling_is_final_only_without_text_or_seed() -> None:
    from vllm.sampling_params import RequestOutputKind

    parameters = engine.sampling_parameters(Sampling(9, 0.5, 0.9), None, [2, 5])
    assert (parameters.max_tokens, parameters.temperature, parameters.top_p) == (9, 0.5, 0.9)
    assert parameters.output_kind is RequestOutputKind.FINAL_ONLY
    assert parameters.detokenize is False and parameters.seed is None
    assert parameters.stop_token_ids == [2, 5]


def test_values_become_grammars() -> None:
    choice = engine.sampling_parameters(Sampling(1), Choice(("1", "10")), [2], [2, 33])
    assert choice.structured_outputs.choice == ["1", "10"]
    assert choice.logprob_token_ids == [2, 33]
    fields = engine.sampling_parameters(Sampling(99), Fields(("a", "b"), 40), [2])
    assert fields.structured_outputs.json["properties"]["b"] == {"type": "string", "maxLength": 40}
    assert fields.structured_outputs.disable_any_whitespace is True


def test_too_many_watched_tokens_fall_back_to_the_top_ones() -> None:
    from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

    parameters = engine.sampling_parameters(Sampling(1), Choice(("a",)), [2], range(MAX_LOGPROB_TOKEN_IDS + 1))
    assert parameters.logprob_token_ids is None and parameters.logprobs == 20


def test_a_choice_has_room_for_its_longest_option_and_the_end() -> None:
    assert max_tokens_of(Sampling(1), Choice(("1", "10", "100"))) == 4
    assert max_tokens_of(Sampling(8), Choice(("1",))) == 8
    assert max_tokens_of(Sampling(1), Fields(("a",))) == 1


def test_the_schema_takes_nothing_else() -> None:
    schema = json_schema(Fields(("a", "b"), 9))
    assert schema["required"] == ["a", "b"] and schema["additionalProperties"] is False


def test_end_tokens_come_from_everywhere_they_are_named(tmp_path: Path) -> None:
    tokenizer: Any = SimpleNamespace(eos_token_id=2)
    assert engine.read_end_ids(tmp_path, tokenizer, ()) == [2]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    assert engine.read_end_ids(tmp_path, tokenizer, (9,)) == [2, 7, 9]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 8}')
    assert engine.read_end_ids(tmp_path, SimpleNamespace(eos_token_id=None), ()) == [8]
