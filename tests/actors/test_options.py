"""What options mean to a replica: the room for a completion, details of a reply, parameters for vLLM."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from actors.engine import Generated, sampling_parameters
from actors.options import LEAST, details_of, fit_sampling, trimmed
from engine.backend import RequestOptions
from engine.steps import ReplyDetails, Sampling

MADE = Generated((7, 8), "stop", 0, [{7: -0.5, 9: -0.25}, {8: -0.125}], "", None, [None, {2: -1.0}])


def spell(ids: Sequence[int]) -> str:
    return "".join({2: "b", 9: "x", 10: "x"}.get(i, f"<{i}>") for i in ids)


@pytest.mark.parametrize(
    "max_tokens, options, room, limit",
    [
        (9, None, 5, 9),
        (0, None, 5, 0),
        (9, RequestOptions(), 5, 9),
        (0, RequestOptions(), 5, 1),
        (1 << 31, RequestOptions(fills_window=True), 5, 5),
        (1 << 31, RequestOptions(fills_window=True), -2, 1),
        (3, RequestOptions(fills_window=True), 5, 3),
    ],
)
def test_the_limit_fits_the_engine(max_tokens: int, options: RequestOptions | None, room: int, limit: int) -> None:
    assert fit_sampling(Sampling(max_tokens, 0.5, 0.75), options, room) == Sampling(limit, 0.5, 0.75)


def test_a_token_that_nobody_asked_for_is_taken_off() -> None:
    cut = trimmed(MADE, Sampling(0))
    assert (cut.token_ids, cut.finish, cut.log_probabilities, cut.text) == ((), "length", [], "")
    assert trimmed(MADE, Sampling(1)) is MADE


def test_details_are_those_asked_for() -> None:
    ids = [1, 2]
    assert details_of(None, ids, MADE, spell) is None
    assert details_of(RequestOptions(stop=("x",)), ids, MADE, spell) is None
    assert details_of(RequestOptions(is_echoed=True), ids, MADE, spell) == ReplyDetails("<1>b", 2)
    assert details_of(RequestOptions("as sent", is_echoed=True), ids, MADE, spell) == ReplyDetails("as sent", 2)
    tops = ({"<7>": -0.5, "x": -0.25}, {"<8>": -0.125})
    bare = details_of(RequestOptions(num_tops=1), ids, MADE, spell)
    assert bare == ReplyDetails("", 0, ("<7>", "<8>"), (-0.5, -0.125), tops)
    whole = details_of(RequestOptions(num_tops=1, is_echoed=True), ids, MADE, spell)
    assert whole == ReplyDetails(
        "<1>b", 2, ("<1>", "b", "<7>", "<8>"), (None, -1.0, -0.5, -0.125), (None, {"b": -1.0}, *tops)
    )


def test_of_tokens_with_one_text_the_likeliest_counts_and_zero_has_a_number() -> None:
    made = Generated((7,), "stop", 0, [{7: -math.inf, 9: -0.5, 10: -3.0}])
    details = details_of(RequestOptions(num_tops=3), [1], made, spell)
    assert details is not None
    assert details.log_probabilities == (LEAST,) and details.tops == ({"<7>": LEAST, "x": -0.5},)


@pytest.mark.timeout(200)  # importing vLLM alone takes a while
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_options_become_parameters_of_vllm() -> None:
    def parameters(options: RequestOptions | None) -> Any:
        return sampling_parameters(Sampling(9), None, [2], options=options)

    plain, stop = parameters(None), parameters(RequestOptions(stop=("\n", "Q:")))
    assert (plain.detokenize, plain.stop, plain.logprobs, plain.prompt_logprobs) == (False, [], None, None)
    assert (stop.detokenize, stop.stop) == (True, ["\n", "Q:"])
    scored = parameters(RequestOptions(num_tops=0, is_echoed=True))
    assert (scored.logprobs, scored.prompt_logprobs, scored.detokenize) == (0, 0, False)
    assert scored.skip_reading_prefix_cache is True
    echoed = parameters(RequestOptions(is_echoed=True))
    assert (echoed.logprobs, echoed.prompt_logprobs) == (None, None)
    assert not echoed.skip_reading_prefix_cache
