"""Session fixtures: the default model, converted once into the user's cache, and one real fleet, started when asked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from actors.fleet import Fleet
from actors.models import prepare_model
from actors.processes import ProcessTable
from actors.rendering import PromptRenderer
from actors.spec import ModelSpec, RaySpec
from engine.backend import Completion, Request
from engine.steps import Sampling, ValueSchema
from engine.views import Message, View

SMALL = {"max_model_len": 2048, "kv_cache_gib": 0.5, "max_num_seqs": 16, "takes_forced_ids": True}


def make_spec(path: Path, name: str = "base", **changes: Any) -> ModelSpec:
    return ModelSpec(name=name, path=str(path), **{**SMALL, **changes})


def make_request(
    view: View | tuple[Message, ...],
    path: str = "turn/1",
    *,
    max_tokens: int = 16,
    temperature: float = 0.8,
    value: ValueSchema | None = None,
    **more: Any,
) -> Request:
    messages = view.messages() if isinstance(view, View) else view
    sampling = Sampling(max_tokens, temperature)
    return Request("episode", path, more.pop("attempt", 0), "patient", "turn", messages, sampling, value, **more)


async def play(fleet: Fleet, *requests: Request, within_s: float = 120) -> list[Completion]:
    """Submit requests and return their completions in order of submission."""
    await fleet.submit(requests)
    done: dict[Any, Completion] = {}
    async with asyncio.timeout(within_s):
        while len(done) < len(requests):
            for completion in await fleet.collect():
                assert completion.key not in done
                done[completion.key] = completion
    return [done[request.key] for request in requests]


@pytest.fixture(scope="session")
def model_path() -> Path:
    return prepare_model("smollm2-135m")


@pytest.fixture(scope="session")
def tokenizer(model_path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_path)


@pytest.fixture(scope="session")
def renderer(tokenizer: Any) -> PromptRenderer:
    return PromptRenderer(tokenizer)


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fleet(model_path: Path, run_directory: Path) -> AsyncIterator[Fleet]:
    processes = ProcessTable(run_directory / "processes.json")
    made = Fleet(make_spec(model_path), RaySpec(), processes, lambda _text: None)
    await made.start()
    yield made
    await made.close()
    assert processes.records == ()
