"""Step records: decoding and prefilling told apart, from the scheduler's output alone."""

from types import SimpleNamespace
from typing import Any

from actors.step_log import describe_step


def make_step(
    tokens: dict[str, int], *, new: dict[str, tuple[int, int]] | None = None, computed: dict[str, int] | None = None
) -> Any:
    """`new` maps a request to (prompt tokens, tokens from the cache), `computed` a known one to what it has."""
    return SimpleNamespace(
        scheduled_new_reqs=[
            SimpleNamespace(req_id=name, prompt_token_ids=[0] * prompt, num_computed_tokens=cached)
            for name, (prompt, cached) in (new or {}).items()
        ],
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=list(computed or {}), num_computed_tokens=list((computed or {}).values())
        ),
        num_scheduled_tokens=tokens,
        finished_req_ids=set(),
    )


def test_a_prompt_is_prefilled_and_then_decoded() -> None:
    left: dict[str, int] = {}
    first = describe_step(make_step({"a": 6}, new={"a": (10, 4)}), left, 0.5)
    assert (first.prefill_tokens, first.prefill_pairs, first.decode_seqs) == (6, 6 * 4 + 21, 0)
    second = describe_step(make_step({"a": 1}, computed={"a": 10}), left, 0.25)
    assert (second.decode_seqs, second.sum_context, second.prefill_tokens) == (1, 11, 0)
    assert second.duration_s == 0.25


def test_chunks_of_a_long_prompt_are_prefill_to_the_last_token() -> None:
    left: dict[str, int] = {}
    describe_step(make_step({"a": 4}, new={"a": (5, 0)}), left, 0.1)
    last = describe_step(make_step({"a": 1}, computed={"a": 4}), left, 0.1)
    assert (last.prefill_tokens, last.prefill_pairs, last.decode_seqs) == (1, 5, 0)


def test_a_step_adds_up_all_sequences() -> None:
    left = {"a": 0, "b": -3}
    mixed = describe_step(
        make_step({"a": 1, "b": 1, "c": 3}, new={"c": (3, 0)}, computed={"a": 10, "b": 20}), left, 1.0
    )
    assert (mixed.decode_seqs, mixed.sum_context, mixed.prefill_tokens, mixed.prefill_pairs) == (2, 32, 3, 6)
