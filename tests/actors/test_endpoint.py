"""The endpoint over one real fleet: what it says of log probabilities is what transformers computes itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from actors.engine import cpu_dtype
from actors.fleet import Fleet
from actors.rendering import PromptRenderer
from engine.views import View
from tests.actors.conftest import make_request, play
from tests.engine.endpoint.served import MODEL, Served, serving, until

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="session")]

TEXT = (
    "The therapist asked Anna how she had slept. She said that she had lain awake until four, and that the house felt"
    " too quiet since her brother moved out."
)
QUESTION = "Question: Which organ pumps blood through the body?\nAnswer:"
OPTIONS = (" the liver", " the heart", " the left kidney", " bone")


@pytest_asyncio.fixture(loop_scope="session")
async def served(fleet: Fleet) -> AsyncIterator[Served]:
    async with serving(fleet) as found:
        yield found


@pytest.fixture(scope="module")
def reference(model_path: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    return model.eval()


@pytest.fixture(scope="module")
def tolerance(fleet: Fleet) -> float:
    return 0.05 if cpu_dtype() == "float32" else 0.5


def rows_of(reference: Any, ids: Sequence[int]) -> Any:
    """Log probabilities [len(ids), vocabulary] of what follows each token."""
    import torch

    with torch.no_grad():
        return torch.log_softmax(reference(torch.tensor([list(ids)])).logits[0].float(), dim=-1)


async def scored(served: Served, *prompts: Any, max_tokens: int = 1, logprobs: int = 1) -> list[Any]:
    answer = await served.client.completions.create(
        model=MODEL, prompt=list(prompts), max_tokens=max_tokens, temperature=0, logprobs=logprobs, echo=True
    )
    return answer.choices


async def test_echoed_log_probabilities_are_those_of_transformers(
    served: Served, reference: Any, tokenizer: Any, tolerance: float
) -> None:
    ids = tokenizer.encode(TEXT)
    rows = rows_of(reference, ids)
    (choice,) = await scored(served, ids, logprobs=3)
    found = choice.logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(ids) + 1
    assert "".join(found.tokens) == choice.text and choice.text.startswith(TEXT)
    assert found.text_offset == [len("".join(found.tokens[:i])) for i in range(len(found.tokens))]
    assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
    expected = [float(rows[i - 1, ids[i]]) for i in range(1, len(ids))]
    assert found.token_logprobs[1:-1] == pytest.approx(expected, abs=tolerance)
    for i in range(1, len(ids)):
        best = rows[i - 1].topk(3)
        tops = sorted(found.top_logprobs[i].values(), reverse=True)
        assert tops[:3] == pytest.approx(best.values.tolist(), abs=tolerance)
        assert found.top_logprobs[i][found.tokens[i]] == found.token_logprobs[i]
        gap = float(best.values[0] - best.values[1])
        if gap > 2 * tolerance:
            assert (found.token_logprobs[i] == tops[0]) == (ids[i] == int(best.indices[0]))
    assert found.token_logprobs[-1] == pytest.approx(float(rows[-1].max()), abs=tolerance)


async def test_a_cached_prefix_changes_no_log_probability(served: Served, tokenizer: Any) -> None:
    ids = tokenizer.encode(TEXT)
    (before,) = await scored(served, ids)
    for _ in range(2):
        await served.client.completions.create(model=MODEL, prompt=ids, max_tokens=2, temperature=0)
    again = await served.client.completions.create(model=MODEL, prompt=ids, max_tokens=1, temperature=0)
    assert again.usage is not None and again.usage.prompt_tokens_details is not None
    assert (again.usage.prompt_tokens_details.cached_tokens or 0) > 0
    (after,) = await scored(served, ids)
    assert len(after.logprobs.token_logprobs) == len(ids) + 1
    assert after.logprobs.token_logprobs[1:] == pytest.approx(before.logprobs.token_logprobs[1:], abs=1e-3)


async def test_the_same_option_is_the_likeliest(
    served: Served, reference: Any, tokenizer: Any, tolerance: float
) -> None:
    context = tokenizer.encode(QUESTION)
    prompts = [context + tokenizer.encode(option) for option in OPTIONS]
    sums = [
        sum(choice.logprobs.token_logprobs[len(context) : -1]) for choice in await scored(served, *prompts, logprobs=1)
    ]
    expected = []
    for ids in prompts:
        rows = rows_of(reference, ids)
        expected.append(sum(float(rows[i - 1, ids[i]]) for i in range(len(context), len(ids))))
    assert sums == pytest.approx(expected, abs=4 * tolerance)
    assert sums.index(max(sums)) == expected.index(max(expected))


async def test_a_text_is_tokenized_as_it_is_control_tokens_included(served: Served, tokenizer: Any) -> None:
    text = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.encode(text)
    (as_text,), (as_ids,) = await scored(served, text), await scored(served, ids)
    assert tokenizer.decode(ids) == text
    assert as_text.logprobs.tokens == as_ids.logprobs.tokens and as_text.text == as_ids.text
    assert as_text.logprobs.tokens[0] == "<|im_start|>"
    assert as_text.logprobs.token_logprobs[1:] == pytest.approx(as_ids.logprobs.token_logprobs[1:], abs=1e-3)


async def test_nothing_is_made_where_nothing_is_asked(served: Served, tokenizer: Any) -> None:
    ids = tokenizer.encode(TEXT)
    answer = await served.client.completions.create(model=MODEL, prompt=ids, max_tokens=0, logprobs=0, echo=True)
    (choice,) = answer.choices
    assert choice.text == TEXT and choice.logprobs is not None and len(choice.logprobs.tokens or ()) == len(ids)
    assert answer.usage is not None and answer.usage.completion_tokens == 0
    assert answer.usage.prompt_tokens == len(ids)


async def test_a_stop_text_ends_the_completion_right_before_it(served: Served) -> None:
    async def complete(**more: Any) -> Any:
        return await served.client.completions.create(
            model=MODEL, prompt=TEXT, max_tokens=40, temperature=0, logprobs=0, **more
        )

    whole = (await complete()).choices[0]
    stop = whole.text[20:26]
    assert len(stop) == 6
    cut = await complete(stop=["never said", stop])
    choice = cut.choices[0]
    assert choice.text == whole.text[: whole.text.index(stop)] and choice.finish_reason == "stop"
    assert len(choice.logprobs.tokens) == cut.usage.completion_tokens < 40


async def test_a_chat_is_what_the_fleet_makes_of_its_messages(served: Served, fleet: Fleet) -> None:
    view = View.of("You are brief.").hear("Name three colours.")
    messages: Any = [{"role": m.role, "content": m.text} for m in view.messages()]
    answer = await served.client.chat.completions.create(
        model=MODEL, messages=messages, max_tokens=12, temperature=0, logprobs=True, top_logprobs=2
    )
    unlimited = await served.client.chat.completions.create(model=MODEL, messages=messages, temperature=0, stop=["e"])
    (choice,) = answer.choices
    assert choice.logprobs is not None and choice.logprobs.content is not None
    assert all(token.top_logprobs[0].logprob >= token.logprob for token in choice.logprobs.content)
    assert unlimited.choices[0].message.content == (choice.message.content or "").partition("e")[0]
    assert answer.usage is not None and answer.usage.completion_tokens == len(choice.logprobs.content)
    assert answer.system_fingerprint == fleet.replicas()[0].weights


async def test_a_chat_says_what_a_step_with_the_same_messages_says(
    served: Served, fleet: Fleet, renderer: PromptRenderer
) -> None:
    view = View.of("You are brief.").hear("Name three colours.")
    ids = renderer.render(view.messages()).token_ids
    raw = await served.client.completions.create(model=MODEL, prompt=ids, max_tokens=12, temperature=0)
    messages: Any = [{"role": m.role, "content": m.text} for m in view.messages()]
    chat = await served.client.chat.completions.create(model=MODEL, messages=messages, max_tokens=12, temperature=0)
    assert raw.choices[0].text == chat.choices[0].message.content
    assert raw.usage is not None and chat.usage is not None and raw.usage.prompt_tokens == chat.usage.prompt_tokens


@pytest.mark.parametrize(
    "prompt, max_tokens, code",
    [([10] * 2048, 1, "context_length_exceeded"), ([10] * 2000, 49, "context_length_exceeded"), ([1 << 20], 1, None)],
)
async def test_what_the_model_cannot_take_is_refused(
    served: Served, prompt: list[int], max_tokens: int, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await served.client.completions.create(model=MODEL, prompt=prompt, max_tokens=max_tokens, logprobs=1, echo=True)
    body: Any = refused.value.body
    assert body["code"] == code
    (choice,) = await scored(served, [10] * 2047)
    assert len(choice.logprobs.tokens) == 2048


async def test_who_hangs_up_frees_the_engine(served: Served, fleet: Fleet) -> None:
    asking = asyncio.create_task(
        served.client.completions.create(model=MODEL, prompt=TEXT, max_tokens=1500, temperature=1.0, n=4)
    )
    await until(lambda: fleet.replicas()[0].running == 4, 60)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    # An engine that stands still reports nothing: one more token makes it say what else it works at.
    await served.client.completions.create(model=MODEL, prompt=TEXT, max_tokens=1)
    await until(lambda: fleet.replicas()[0].running == 0, 60)
    assert served.desk.num_open == 0


async def test_a_step_is_served_beside_it_as_before(fleet: Fleet) -> None:
    (done,) = await play(fleet, make_request(View.of("You are brief.").hear("Hello"), "plain", max_tokens=3))
    assert done.reply is not None and done.reply.details is None
