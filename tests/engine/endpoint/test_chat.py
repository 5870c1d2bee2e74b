"""Chats over real HTTP, asked by the `openai` package."""

import asyncio
import json
from typing import Any

import aiohttp
import openai
import pytest

from engine.backend import Failure, Request, RequestOptions
from engine.endpoint.server import IGNORED_HEADER
from engine.retry import RetryPolicy
from engine.scripted import ScriptedBackend
from engine.steps import Fields, Reply, ReplyDetails, Sampling, Usage
from tests.engine.endpoint.served import KEY, MODEL, serving, until

HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How are you?"}]


async def test_a_chat_reaches_the_pool_and_its_reply_the_client() -> None:
    backend = ScriptedBackend(Reply("Well.", usage=Usage(9, 2, 4)))
    async with serving(backend) as served:
        answer = await served.client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=7, temperature=0.25, top_p=0.5
        )
    (request,) = backend.requests
    assert [(m.role, m.text) for m in request.messages] == [("system", "Be brief."), ("user", "How are you?")]
    assert request.sampling == Sampling(7, 0.25, 0.5)
    assert request.value is None and request.options is None
    assert (answer.choices[0].message.role, answer.choices[0].message.content) == ("assistant", "Well.")
    assert answer.choices[0].finish_reason == "stop" and answer.object == "chat.completion" and answer.model == MODEL
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (9, 2, 11)
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert answer.system_fingerprint == "scripted-0"
    assert backend.forgotten == [request.episode]


async def test_without_a_limit_the_reply_may_fill_the_window() -> None:
    backend = ScriptedBackend("yes")
    async with serving(backend) as served:
        await served.client.chat.completions.create(model=MODEL, messages=HELLO)
        await served.client.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=5, max_tokens=3)
    first, second = backend.requests
    assert first.options == RequestOptions(fills_window=True) and first.sampling.max_tokens > 1 << 20
    assert second.options is None and second.sampling.max_tokens == 5


async def test_parts_of_text_are_joined_and_a_developer_is_the_system() -> None:
    backend = ScriptedBackend("yes")
    messages: Any = [
        {"role": "developer", "content": "Be brief.", "name": "x"},
        {"role": "user", "type": "text", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]},
    ]
    async with serving(backend) as served:
        await served.client.chat.completions.create(model=MODEL, messages=messages, max_tokens=3)
    assert [(m.role, m.text) for m in backend.requests[0].messages] == [("system", "Be brief."), ("user", "One\ntwo")]


async def test_n_choices_are_n_requests_and_one_prompt() -> None:
    backend = ScriptedBackend([Reply(text, usage=Usage(10, 2)) for text in ("a", "b", "c")])
    async with serving(backend) as served:
        answer = await served.client.chat.completions.create(model=MODEL, messages=HELLO, n=3, max_tokens=2)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(0, "a"), (1, "b"), (2, "c")]
    assert answer.usage is not None and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (10, 6)
    assert len({request.key for request in backend.requests}) == 3


@pytest.mark.parametrize("stop, texts", [("END", ("END",)), (["\n", "Q:"], ("\n", "Q:"))])
async def test_stop_texts_go_to_the_pool(stop: Any, texts: tuple[str, ...]) -> None:
    backend = ScriptedBackend("yes")
    async with serving(backend) as served:
        await served.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=3, stop=stop)
    assert backend.requests[0].options == RequestOptions(stop=texts)


async def test_a_stream_says_what_the_whole_answer_says() -> None:
    replies = [Reply("Grüß", usage=Usage(5, 1)), Reply("Gott", finish="length", usage=Usage(5, 2))]
    async with serving(ScriptedBackend(iter(replies))) as served:
        stream = await served.client.chat.completions.create(
            model=MODEL, messages=HELLO, n=2, max_tokens=2, stream=True, stream_options={"include_usage": True}
        )
        pieces = [chunk async for chunk in stream]
    texts = {0: "", 1: ""}
    ends = {}
    for chunk in pieces:
        assert chunk.object == "chat.completion.chunk" and chunk.id == pieces[0].id
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason
    assert texts == {0: "Grüß", 1: "Gott"} and ends == {0: "stop", 1: "length"}
    usage = pieces[-1].usage
    assert not pieces[-1].choices and usage is not None and (usage.prompt_tokens, usage.completion_tokens) == (5, 3)
    assert all(chunk.usage is None for chunk in pieces[:-1])


async def test_what_changes_nothing_is_taken_and_named() -> None:
    async with serving(ScriptedBackend("yes")) as served:
        raw = await served.client.chat.completions.with_raw_response.create(
            model=MODEL, messages=HELLO, max_tokens=3, seed=7, user="me", frequency_penalty=0.0, tools=[]
        )
    assert raw.headers[IGNORED_HEADER] == "seed, user"


async def test_log_probabilities_of_a_chat() -> None:
    details = ReplyDetails("", 0, ("Yes", "."), (-0.5, -0.25), ({"Yes": -0.5, "No": -1.0, "é": -0.1}, {".": -0.25}))
    backend = ScriptedBackend(Reply("Yes.", details=details))
    async with serving(backend) as served:
        answer = await served.client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2
        )
    assert backend.requests[0].options == RequestOptions(num_tops=2)
    found = answer.choices[0].logprobs
    assert found is not None and found.content is not None
    assert [(token.token, token.logprob) for token in found.content] == [("Yes", -0.5), (".", -0.25)]
    assert [(top.token, top.bytes) for top in found.content[0].top_logprobs] == [("é", [195, 169]), ("Yes", [*b"Yes"])]


async def test_an_object_of_strings_is_constrained() -> None:
    backend = ScriptedBackend('{"a":"1","b":"2"}')
    properties = {"a": {"type": "string", "maxLength": 50}, "b": {"type": "string", "maxLength": 50}}
    schema = {"type": "object", "properties": properties, "required": ["b", "a"], "additionalProperties": False}
    async with serving(backend) as served:
        await served.client.chat.completions.create(
            model=MODEL,
            messages=HELLO,
            max_tokens=30,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}},
        )
    assert backend.requests[0].value == Fields(("a", "b"), 50)


async def test_the_models_are_listed() -> None:
    async with serving(ScriptedBackend("yes", max_context=2048)) as served:
        models = [model async for model in served.client.models.list()]
        one = await served.client.models.retrieve("base")
        with pytest.raises(openai.NotFoundError, match="model must be one that is served, got 'other'"):
            await served.client.models.retrieve("other")
    assert [model.id for model in models] == [MODEL, "base"] and one.id == "base"
    assert one.model_dump()["max_model_len"] == 2048


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("key", ["sk-wrong", KEY + "x", KEY[:-1], "ü"])
async def test_without_the_key_nothing_is_answered(key: str) -> None:
    backend = ScriptedBackend("yes")
    async with serving(backend) as served, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {key}"}
        body = {"model": MODEL, "messages": HELLO}
        for sent in (headers, {}, {"Authorization": KEY}):
            async with session.post(f"{served.url}/chat/completions", json=body, headers=sent) as response:
                said = await response.text()
                assert response.status == 401 and json.loads(said)["error"]["code"] == "invalid_api_key"
                assert KEY not in said
        if key.isascii():
            with pytest.raises(openai.AuthenticationError):
                await served.client.with_options(api_key=key).models.list()
    assert not backend.requests


async def test_health_wants_no_key_and_tells_whether_a_replica_is_ready() -> None:
    backend = ScriptedBackend("yes", replicas=2)
    async with serving(backend) as served, aiohttp.ClientSession() as session:
        for state, status in ((None, 200), ("replica-0", 200), ("replica-1", 503)):
            if state:
                backend.kill_replica(state)
            async with session.get(served.url.replace("/v1", "/health")) as response:
                assert response.status == status


@pytest.mark.parametrize(
    "change, said",
    [
        ({"temperature": 3}, "temperature must be a number from 0 to 2, got 3"),
        ({"temperature": "hot"}, "temperature must be a number from 0 to 2, got 'hot'"),
        ({"max_tokens": 0}, "max_tokens must be a whole number of tokens, 1 or more, got 0"),
        ({"n": True}, "n must be a whole number from 1 to 128, got true"),
        ({"messages": []}, "messages must be 1 to 4096 messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "got [{"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages must be"),
        ({"stop": ""}, "stop must be a text or at most 64 texts"),
        ({"top_logprobs": 2}, "top_logprobs must come with logprobs=true"),
        ({"top_k": 5}, "top_k must be 0 or -1, got 5"),
        ({"tools": [{"type": "function"}]}, "tools must be []"),
        ({"guided_regex": "a+"}, "a field must be one that is taken here, got 'guided_regex'"),
        ({"response_format": {"type": "json_object"}}, "response_format.type must be text or json_schema"),
        ({"model": "gpt-4"}, "model must be one that is served, got 'gpt-4': ask for tiny"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words(change: dict[str, Any], said: str) -> None:
    backend = ScriptedBackend("yes")
    async with serving(backend) as served:
        with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as refused:
            await served.client.post("/chat/completions", cast_to=object, body={"messages": HELLO, **change})
    body: Any = refused.value.body
    assert said in body["message"] and body["type"] == "invalid_request_error"
    assert not backend.requests


async def test_all_problems_come_at_once() -> None:
    async with serving(ScriptedBackend("yes")) as served:
        with pytest.raises(openai.BadRequestError) as refused:
            await served.client.post(
                "/chat/completions", cast_to=object, body={"n": 0, "top_p": 2, "logit_bias": {"1": 5}}
            )
    said = str(refused.value)
    assert all(f"{name} must be" in said for name in ("n", "top_p", "logit_bias", "messages"))


async def test_unknown_paths_and_methods_are_errors_of_the_api() -> None:
    async with serving(ScriptedBackend("yes")) as served:
        with pytest.raises(openai.NotFoundError, match="a path and method that exist here"):
            await served.client.embeddings.create(model=MODEL, input="x")
        with pytest.raises(openai.APIStatusError) as wrong:
            await served.client.get("/chat/completions", cast_to=object)
    assert wrong.value.status_code == 405


async def test_a_body_that_is_too_long_is_refused() -> None:
    backend = ScriptedBackend("yes")
    messages: Any = [{"role": "user", "content": "x" * (17 << 20)}]
    async with serving(backend) as served:
        with pytest.raises(openai.APIStatusError) as refused:
            await served.client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1)
    assert refused.value.status_code == 413 and not backend.requests


@pytest.mark.parametrize(
    "kind, status, code",
    [
        ("rejected", 400, None),
        ("context_overflow", 400, "context_length_exceeded"),
        ("server_error", 503, "server_error"),
        ("replica_lost", 503, "replica_lost"),
    ],
)
async def test_failures_have_a_status(kind: Any, status: int, code: str | None) -> None:
    backend = ScriptedBackend(Failure(kind, "it is so"))
    async with serving(backend, retry=RetryPolicy(max_attempts=1)) as served:
        with pytest.raises(openai.APIStatusError) as failed:
            await served.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1)
    body: Any = failed.value.body
    assert (failed.value.status_code, body["code"], body["message"]) == (status, code, "it is so")
    assert len(backend.requests) == 1


# ---------------------------------------------------------------- traffic


async def test_a_lost_replica_is_made_up_for_by_another() -> None:
    backend = ScriptedBackend("yes", replicas=2, is_held=True)
    async with serving(backend) as served:
        asking = asyncio.create_task(served.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1))
        await backend.arrived(1)
        backend.kill_replica(backend.requests[0].replica)
        await backend.arrived(2)
        backend.release_all()
        answer = await asking
    first, second = backend.requests
    assert answer.choices[0].message.content == "yes"
    assert first.replica != second.replica and (first.attempt, second.attempt) == (0, 1)
    assert first.episode == second.episode


async def test_a_request_waits_until_a_replica_is_ready() -> None:
    backend = ScriptedBackend("yes", replicas=2)
    async with serving(backend) as served:
        for name in ("replica-0", "replica-1"):
            backend._replicas[name].is_lost = True
        asking = asyncio.create_task(served.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1))
        await until(lambda: served.desk.num_open == 1)
        assert not backend.requests
        backend.revive_replica("replica-1")
        assert (await asking).choices[0].message.content == "yes"
    assert backend.requests[0].replica == "replica-1"


async def test_who_hangs_up_is_worked_for_no_longer() -> None:
    backend = ScriptedBackend("yes", is_held=True)
    async with serving(backend) as served:
        asking = asyncio.create_task(
            served.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1, n=3)
        )
        await backend.arrived(3)
        assert len(backend.open_keys) == 3
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: not backend.open_keys and not served.desk.num_open)
    assert len(backend.forgotten) == 3


async def test_one_failure_of_n_ends_the_others() -> None:
    def answer(request: Request) -> Any:
        return Failure("rejected", "no") if request.episode.endswith("/1") else asyncio.sleep(60, "late")

    backend = ScriptedBackend(answer)
    async with serving(backend) as served:
        with pytest.raises(openai.BadRequestError):
            await served.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1, n=3)
        assert served.desk.num_open == 0 and not backend._awaiting


async def test_beyond_the_bound_clients_are_sent_away_and_come_back() -> None:
    backend = ScriptedBackend("yes", is_held=True)
    async with serving(backend, max_open=2) as served:
        ask = served.client.chat.completions.create
        waiting = asyncio.create_task(ask(model=MODEL, messages=HELLO, max_tokens=1, n=2))
        await backend.arrived(2)
        with pytest.raises(openai.RateLimitError) as busy:
            await ask(model=MODEL, messages=HELLO, max_tokens=1)
        assert int(busy.value.response.headers["Retry-After"]) > 0
        with pytest.raises(openai.BadRequestError, match="at most 2 replies"):
            await ask(model=MODEL, messages=HELLO, max_tokens=1, n=3)
        backend.release_all()
        assert len((await waiting).choices) == 2
        assert (await ask(model=MODEL, messages=HELLO, max_tokens=1)).choices[0].message.content == "yes"
    assert len(backend.requests) == 3


async def test_an_answer_that_does_not_come_times_out() -> None:
    backend = ScriptedBackend("yes", is_held=True)
    async with serving(backend, timeout_s=0.05, retry=RetryPolicy(max_attempts=2)) as served:
        with pytest.raises(openai.APIStatusError) as late:
            await served.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1)
    assert late.value.status_code == 504 and len(backend.requests) == 2 and not backend.open_keys


async def test_requests_with_a_common_beginning_share_a_replica() -> None:
    backend = ScriptedBackend("yes", replicas=4)
    async with serving(backend) as served:
        for number in range(8):
            messages: Any = [{"role": "system", "content": "x" * 600}, {"role": "user", "content": str(number)}]
            await served.client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1)
    assert len({request.replica for request in backend.requests}) == 1


async def test_a_pool_beyond_help_fails_what_waits_and_what_comes() -> None:
    backend = ScriptedBackend("yes", is_held=True)
    async with serving(backend) as served:
        ask = served.client.chat.completions.create
        waiting = asyncio.create_task(ask(model=MODEL, messages=HELLO, max_tokens=1))
        await backend.arrived(1)
        backend.kill_replica("replica-0")
        for asking in (waiting, ask(model=MODEL, messages=HELLO, max_tokens=1)):
            with pytest.raises(openai.APIStatusError) as down:
                await asking
            assert down.value.status_code == 503
