"""An endpoint over a backend: real HTTP on loopback, and real `openai` clients."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI

from engine.backend import Backend, Request
from engine.endpoint.desk import Desk
from engine.endpoint.server import Endpoint, bind, listening, url_of
from engine.steps import Reply, ReplyDetails, Usage

KEY = "sk-test-0123456789"
MODEL = "tiny"


@dataclass
class Served:
    """What a test works with."""

    url: str
    desk: Desk
    client: AsyncOpenAI


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until something holds that announces itself to nobody."""
    for _ in range(int(within_s * 1000)):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


@asynccontextmanager
async def serving(backend: Backend, **settings: Any) -> AsyncIterator[Served]:
    desk = Desk(backend, draw=lambda: 0.0, **settings)
    with bind("127.0.0.1", 0) as bound:
        running = asyncio.create_task(desk.run())
        try:
            async with listening(Endpoint(desk, (MODEL, "base"), KEY), bound):
                url = url_of(bound)
                async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
                    yield Served(url, desk, client)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def spelled(request: Request) -> Reply:
    """Complete a raw prompt: one token per character or id, each less likely than the one before; " ok" follows.

    The second of three is the likeliest of its place, the others are not.
    """
    options = request.options
    assert options is not None and options.prompt is not None
    prompt = options.prompt if isinstance(options.prompt, str) else "".join(f"<{i}>" for i in options.prompt)
    pieces: Sequence[str] = prompt if isinstance(options.prompt, str) else [f"<{i}>" for i in options.prompt]
    made = [" ok"] * min(request.sampling.max_tokens, 1)
    num_prompt = len(pieces)
    details = None
    if options.num_tops is not None or options.is_echoed:
        tokens = [*(pieces if options.is_echoed else ()), *made]
        own: list[float | None] = [-float(i) / 4 for i in range(len(tokens))]
        tops: list[dict[str, float] | None] = [
            {token: own[i] or 0.0} if i % 2 else {token: own[i] or 0.0, "?": 0.5} for i, token in enumerate(tokens)
        ]
        if options.is_echoed:
            own[0], tops[0] = None, None
        if options.num_tops is None:
            tokens, own, tops = [], [], []
        details = ReplyDetails(
            prompt if options.is_echoed else "",
            num_prompt if options.is_echoed else 0,
            tuple(tokens),
            tuple(own),
            tuple(tops),
        )
    return Reply("".join(made), "length", usage=Usage(num_prompt, len(made), 0), details=details)
