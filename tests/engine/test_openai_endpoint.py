"""Texts go to the host that is named: past proxies of the environment, and never on to where a server points."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from engine.openai_endpoint import OpenAIEndpoint


@asynccontextmanager
async def serving(handle: object) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)  # type: ignore[arg-type]
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def test_no_proxy_stands_between_this_machine_and_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []

    async def proxy(request: web.Request) -> web.Response:
        passed.append(await request.text())
        return web.json_response({})

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"said": await request.text()})

    async with serving(proxy) as elsewhere, serving(answer) as here:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, elsewhere)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        endpoint = OpenAIEndpoint(base_url=f"{here}/v1", model="m", api_key_env=None, max_connections=1)
        await endpoint.open()
        try:
            assert b"persona" in await endpoint.post("/x", {"text": "persona"}, timeout_s=10)
        finally:
            await endpoint.close()
    assert passed == []


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    from openai import APIStatusError

    arrived: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        arrived.append(await request.text())
        return web.json_response({})

    async with serving(elsewhere) as other:

        async def point(request: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": f"{other}{request.path}"})

        async with serving(point) as here:
            endpoint = OpenAIEndpoint(base_url=f"{here}/v1", model="m", api_key_env=None, max_connections=1)
            await endpoint.open()
            try:
                with pytest.raises(APIStatusError) as refused:
                    await endpoint.post("/x", {"text": "persona"}, timeout_s=10)
            finally:
                await endpoint.close()
    assert refused.value.status_code == status
    assert arrived == []


async def test_what_the_environment_says_for_openai_goes_to_no_other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    headers: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        headers.append(str(dict(request.headers)))
        return web.json_response({})

    said = {
        "OPENAI_CUSTOM_HEADERS": "X-Api-Key: hush-1\nAuthorization: Bearer hush-2",
        "OPENAI_ORG_ID": "hush-3",
        "OPENAI_PROJECT_ID": "hush-4",
        "OPENAI_API_KEY": "hush-5",
        "OPENAI_BASE_URL": "http://models.invalid/v1",
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    async with serving(answer) as here:
        endpoint = OpenAIEndpoint(base_url=f"{here}/v1", model="m", api_key_env=None, max_connections=1)
        await endpoint.open()
        try:
            await endpoint.post("/x", {}, timeout_s=10)
        finally:
            await endpoint.close()
    assert len(headers) == 2 and not any("hush" in one for one in headers)
    assert {name: os.environ[name] for name in said} == said
