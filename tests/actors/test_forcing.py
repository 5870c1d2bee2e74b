"""Forced tokens: requests that bring ids get exactly these, as they enter, move and leave the batch."""

from typing import Any

import msgspec
import pytest

from actors.fleet import Fleet
from engine.token_ids import unpack_ids
from engine.views import View
from tests.actors.conftest import make_request, play

pytestmark = [
    pytest.mark.timeout(200),  # importing vLLM alone takes a while
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # and warns about itself
]

VOCABULARY = 8


def make_parameters(forced: Any = None) -> Any:
    from vllm import SamplingParams

    return SamplingParams(extra_args=None if forced is None else {"forced_ids": forced})


def make_processor() -> Any:
    from actors.forcing import ForcedTokens

    return ForcedTokens(None, "cpu", False)


def update(processor: Any, *, added: Any = (), removed: Any = (), moved: Any = ()) -> None:
    from vllm.v1.sample.logits_processor import BatchUpdate

    processor.update_state(BatchUpdate(batch_size=4, removed=removed, added=added, moved=moved))


def chosen(processor: Any, rows: int = 2) -> list[int]:
    import torch

    logits = torch.zeros(rows, VOCABULARY)
    logits[:, 0] = 50.0  # what the model would say
    choice: list[int] = processor.apply(logits).argmax(-1).tolist()
    return choice


def test_forced_ids_come_one_after_the_other_and_other_rows_are_free() -> None:
    processor = make_processor()
    made: list[int] = []
    update(processor, added=[(0, make_parameters(), None, []), (1, make_parameters([3, 5]), None, made)])
    assert chosen(processor) == [0, 3]
    made.append(3)
    assert chosen(processor) == [0, 5]
    made.append(5)
    assert chosen(processor) == [0, 0]


def test_a_request_taken_up_again_goes_on_where_it_was() -> None:
    processor = make_processor()
    update(processor, added=[(0, make_parameters([3, 5, 6]), None, [3, 5])])
    assert chosen(processor, 1) == [6]


def test_requests_move_swap_and_leave() -> None:
    from vllm.v1.sample.logits_processor import MoveDirectionality

    processor = make_processor()
    update(processor, added=[(0, make_parameters([3]), None, []), (1, make_parameters([5]), None, [])])
    update(processor, moved=[(0, 1, MoveDirectionality.SWAP)])
    assert chosen(processor) == [5, 3]
    update(processor, removed=[0], moved=[(1, 0, MoveDirectionality.UNIDIRECTIONAL)])
    assert chosen(processor) == [3, 0]
    update(processor, added=[(0, make_parameters(), None, [])])
    assert chosen(processor) == [0, 0]


def test_nothing_is_touched_where_nothing_is_forced() -> None:
    import torch

    processor = make_processor()
    update(processor, added=[(0, make_parameters(), None, [])])
    logits = torch.randn(2, VOCABULARY)
    assert torch.equal(processor.apply(logits.clone()), logits)
    assert not processor.is_argmax_invariant()


def test_a_forced_token_is_sampled_with_certainty_at_any_temperature() -> None:
    import torch

    processor = make_processor()
    update(processor, added=[(0, make_parameters([3]), None, [])])
    for temperature in (0.1, 1.0, 2.0):
        odds = (processor.apply(50 * torch.randn(1, VOCABULARY)) / temperature).softmax(-1)
        assert odds[0].tolist() == [float(i == 3) for i in range(VOCABULARY)]


@pytest.mark.parametrize("bad", ["345", [3, "5"], [-1], {"a": 1}])
def test_what_is_no_list_of_token_ids_is_refused(bad: Any) -> None:
    from actors.forcing import ForcedTokens

    with pytest.raises(ValueError, match="forced_ids must be a list of token ids"):
        ForcedTokens.validate_params(make_parameters(bad))


def test_the_engine_loads_it_only_where_the_pool_asks_for_it() -> None:
    from actors.engine import engine_arguments, sampling_parameters
    from actors.forcing import FORCED_IDS, PROCESSOR, read_forced
    from actors.spec import ModelSpec
    from engine.steps import Sampling

    plain = engine_arguments(ModelSpec(name="m", path="p"), is_cpu=True, seed=0)
    forced = engine_arguments(ModelSpec(name="m", path="p", takes_forced_ids=True), is_cpu=True, seed=0)
    assert "logits_processors" not in plain
    assert forced["logits_processors"] == [PROCESSOR]
    parameters = sampling_parameters(Sampling(2), None, [2], forced_ids=(3, 5))
    assert parameters.extra_args == {FORCED_IDS: [3, 5]}
    assert read_forced(parameters) == [3, 5]
    assert sampling_parameters(Sampling(2), None, [2]).extra_args is None


@pytest.mark.vllm
@pytest.mark.timeout(400)
@pytest.mark.asyncio(loop_scope="session")
async def test_a_served_model_says_what_it_is_told_to(fleet: Fleet) -> None:
    view = View.of("You are Sam.").hear("How are you?")
    requests = [
        msgspec.structs.replace(make_request(view, f"turn/{i}", max_tokens=5), forced_ids=(100 + i, 200, 300 + i))
        for i in range(6)
    ]
    free = make_request(view, "free", max_tokens=5)
    *forced, other = await play(fleet, *requests, free)
    for request, completion in zip(requests, forced, strict=True):
        assert completion.reply is not None
        assert tuple(unpack_ids(completion.reply.token_ids))[:3] == request.forced_ids
    assert other.reply is not None and 0 < other.reply.usage.completion_tokens <= 5
