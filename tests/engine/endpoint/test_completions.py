"""Completions over real HTTP: prompts of all forms, echo and log probabilities, as harnesses ask for them."""

from typing import Any

import openai
import pytest

from engine.backend import RequestOptions
from engine.openai_backend import OpenAIBackend
from engine.scripted import ScriptedBackend
from engine.steps import Reply, Sampling
from tests.engine.endpoint.served import MODEL, serving, spelled


@pytest.mark.parametrize(
    "prompt, prompts",
    [
        ("abc", ["abc"]),
        (["abc", "de"], ["abc", "de"]),
        ([5, 6, 7], [(5, 6, 7)]),
        ([[5, 6], [7]], [(5, 6), (7,)]),
    ],
)
async def test_a_prompt_is_text_or_ids_one_or_several(prompt: Any, prompts: list[Any]) -> None:
    backend = ScriptedBackend(spelled)
    async with serving(backend) as served:
        answer = await served.client.completions.create(model=MODEL, prompt=prompt, max_tokens=4, stop=["\n"])
    assert [request.options for request in backend.requests] == [RequestOptions(one, ("\n",)) for one in prompts]
    assert {request.sampling for request in backend.requests} == {Sampling(4, 1.0, 1.0)}
    assert [choice.text for choice in answer.choices] == [" ok"] * len(prompts)
    assert [choice.index for choice in answer.choices] == list(range(len(prompts)))
    assert answer.object == "text_completion" and answer.choices[0].logprobs is None
    assert answer.usage is not None and answer.usage.prompt_tokens == sum(map(len, prompts))


async def test_echo_and_log_probabilities_come_as_openai_wrote_them() -> None:
    async with serving(ScriptedBackend(spelled)) as served:
        answer = await served.client.completions.create(model=MODEL, prompt="abc", max_tokens=1, logprobs=1, echo=True)
    (choice,) = answer.choices
    assert choice.text == "abc ok" and choice.finish_reason == "length"
    found = choice.logprobs
    assert found is not None
    assert found.tokens == ["a", "b", "c", " ok"] and found.text_offset == [0, 1, 2, 3]
    assert found.token_logprobs == [None, -0.25, -0.5, -0.75]
    assert found.top_logprobs == [None, {"b": -0.25}, {"c": -0.5, "?": 0.5}, {" ok": -0.75}]


@pytest.mark.parametrize("echo", [True, False])
async def test_without_a_token_to_make_only_the_prompt_comes_back(echo: bool) -> None:
    async with serving(ScriptedBackend(spelled)) as served:
        answer = await served.client.completions.create(model=MODEL, prompt="ab", max_tokens=0, logprobs=0, echo=echo)
    (choice,) = answer.choices
    assert choice.text == ("ab" if echo else "") and choice.logprobs is not None
    assert choice.logprobs.tokens == (["a", "b"] if echo else [])
    assert answer.usage is not None and answer.usage.completion_tokens == 0


async def test_echo_of_ids_spells_them() -> None:
    async with serving(ScriptedBackend(spelled)) as served:
        answer = await served.client.completions.create(model=MODEL, prompt=[1, 2], max_tokens=1, echo=True)
    assert answer.choices[0].text == "<1><2> ok" and answer.choices[0].logprobs is None


async def test_choices_stand_prompt_by_prompt_and_each_prompt_counts_once() -> None:
    backend = ScriptedBackend([Reply(text) for text in "abcd"])
    async with serving(backend) as served:
        answer = await served.client.completions.create(model=MODEL, prompt=["x", "y"], n=2)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert [request.options.prompt for request in backend.requests if request.options] == ["x", "x", "y", "y"]
    assert backend.requests[0].sampling.max_tokens == 16
    assert answer.usage is not None and answer.usage.prompt_tokens == 2


async def test_a_stream_of_completions() -> None:
    async with serving(ScriptedBackend(spelled)) as served:
        stream = await served.client.completions.create(
            model=MODEL, prompt=["ab", "c"], max_tokens=1, logprobs=0, stream=True
        )
        pieces = [chunk async for chunk in stream]
    assert [(choice.index, choice.text, choice.finish_reason) for piece in pieces for choice in piece.choices] == [
        (0, " ok", "length"),
        (1, " ok", "length"),
    ]
    assert pieces[0].choices[0].logprobs is not None and pieces[0].choices[0].logprobs.tokens == [" ok"]


async def test_what_a_harness_reads_of_a_scored_continuation() -> None:
    """lm_eval 0.4: token ids, one more token than it wants, sums and compares by the slices below."""
    context, continuation = [1, 2, 3], [4, 5]
    body = {
        "model": MODEL, "prompt": [context + continuation, [1, 2]], "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "seed": 1234, "echo": True,
    }  # fmt: skip
    async with serving(ScriptedBackend(spelled)) as served:
        answer: Any = await served.client.post("/completions", cast_to=object, body=body)
    sums, greedy = [], []
    for choice, begin in zip(answer["choices"], (len(context), 1), strict=True):
        own = choice["logprobs"]["token_logprobs"][begin:-1]
        tops = choice["logprobs"]["top_logprobs"][begin:-1]
        sums.append(sum(own))
        greedy.append(all(one == max(top.values()) for one, top in zip(own, tops, strict=True)))
    assert sums == [-0.75 - 1.0, -0.25] and greedy == [False, True]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"prompt": ""}, "prompt must be a text, token ids, or a list of either"),
        ({"prompt": []}, "prompt must be"),
        ({"prompt": [[]]}, "prompt must be"),
        ({"prompt": [1, "a"]}, "prompt must be"),
        ({"prompt": [[1], [-1]]}, "prompt must be"),
        ({"prompt": [True]}, "prompt must be"),
        ({"prompt": [1 << 40]}, "prompt must be"),
        ({"prompt": None}, "prompt must be"),
        ({"logprobs": 21}, "logprobs must be a whole number from 0 to 20, got 21"),
        ({"logprobs": True}, "logprobs must be a whole number from 0 to 20, got true"),
        ({"max_tokens": -1}, "max_tokens must be a whole number of tokens, 0 or more, got -1"),
        ({"best_of": 3}, "best_of must be 1, got 3"),
        ({"suffix": "x"}, "suffix must be '', got 'x'"),
        ({"messages": []}, "a field must be one that is taken here, got 'messages'"),
        ({"prompts": ["a"]}, "a field must be one that is taken here, got 'prompts'"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words(change: dict[str, Any], said: str) -> None:
    backend = ScriptedBackend("yes")
    async with serving(backend) as served:
        with pytest.raises(openai.BadRequestError) as refused:
            await served.client.post("/completions", cast_to=object, body={"prompt": "a", **change})
    body: Any = refused.value.body
    assert said in body["message"] and not backend.requests


@pytest.mark.parametrize("prompt", [[1] * 21, ["ok", "x" * (21 * 128)], [[1], [2] * 40]])
async def test_what_must_overflow_the_window_goes_no_further(prompt: Any) -> None:
    backend = ScriptedBackend(spelled, max_context=20)
    async with serving(backend) as served:
        with pytest.raises(openai.BadRequestError, match="must fit the window of 20 tokens") as refused:
            await served.client.completions.create(model=MODEL, prompt=prompt)
        await served.client.completions.create(model=MODEL, prompt=[1] * 20)
    body: Any = refused.value.body
    assert body["code"] == "context_length_exceeded" and len(backend.requests) == 1


async def test_a_backend_without_log_probabilities_rejects_the_request() -> None:
    from tests.stub import serve

    with serve() as stub:
        backend: Any = OpenAIBackend(name="hosted", base_url=stub.base_url, model="stub", api_key_env=None)
        await backend.start()
        try:
            async with serving(backend) as served:
                with pytest.raises(openai.BadRequestError, match="hosted must be served here to take these options"):
                    await served.client.completions.create(model=MODEL, prompt="a", logprobs=1)
                answer = await served.client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=5
                )
        finally:
            await backend.close()
    assert answer.choices[0].message.content and len(stub.chats) == 1
