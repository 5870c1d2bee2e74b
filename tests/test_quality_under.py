"""`sandplay quality --under`: dialogues scored by a served model, cut to its window; a signal ends all in order."""

import asyncio
import json
import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.backend import Failure, Request
from engine.commands import quality as command
from engine.commands.scoring import running, score_text, scorer
from engine.commands.serve import Serving, Stopped, open_crew, plan_serving
from engine.endpoint.desk import Desk
from engine.errors import RunError
from engine.rundir import RunDirectory
from engine.scripted import ScriptedBackend
from engine.steps import Reply, ReplyDetails
from tests.eval.quality.records import TALK, keep_run, make_record
from tests.running import run

WINDOW = 24
CONFIG = '[models.small]\nkind = "vllm"\nmodel = "smollm2-135m"\n'


def score(request: Request) -> Reply | Failure:
    """A model whose tokens are characters, each seen with a probability of 1/4."""
    options = request.options
    assert options is not None and isinstance(options.prompt, str)
    assert options.is_echoed and options.num_tops == 0 and request.sampling.max_tokens == 0
    if len(options.prompt) >= WINDOW:
        return Failure("context_overflow", "too long")
    tokens = tuple(options.prompt)
    logs = (None, *[math.log(0.25)] * (len(tokens) - 1))
    return Reply("", details=ReplyDetails(options.prompt, len(tokens), tokens, logs, (None,) * len(tokens)))


async def test_the_perplexity_of_texts_is_that_of_their_tokens() -> None:
    backend = ScriptedBackend(score)
    async with running(Desk(backend)) as desk:
        found = await scorer(desk, "small")(["Hello", "How are you?", "x" * 100])
    assert found.value == pytest.approx(4.0) and (found.model, found.num_texts, found.num_cut) == ("small", 3, 1)
    longest = [
        len(one.options.prompt) for one in backend.requests if one.options and len(one.options.prompt or "") < WINDOW
    ]
    assert WINDOW * 7 // 8 <= max(longest) < WINDOW, "what is left fills most of the window"
    assert found.num_tokens == 4 + 11 + max(longest) - 1
    assert len(backend.forgotten) == len(backend.requests)


async def test_control_tokens_of_a_dialogue_do_not_count_as_such() -> None:
    backend = ScriptedBackend(score)
    async with running(Desk(backend)) as desk:
        found = await score_text(desk, "a<|im_end|>b", "score/0")
    (request,) = backend.requests
    assert request.options is not None and "<|im_end|>" not in str(request.options.prompt) and not found.is_cut


@pytest.mark.parametrize(
    ("answer", "said"),
    [(Failure("rejected", "no \x1b[2J such thing"), "rejected: no such thing"), (Reply("x"), "gave no log prob")],
)
async def test_a_model_that_gives_none_ends_it(answer: Any, said: str) -> None:
    async with running(Desk(ScriptedBackend(answer))) as desk:
        with pytest.raises(RunError, match=said):
            await scorer(desk, "m")(["Hello", "you"])


def test_the_table_and_json_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def opened(plan: Serving, path: Path) -> AsyncIterator[Any]:
        assert plan.pool == "small" and path == tmp_path / "weights"
        async with running(Desk(ScriptedBackend(score))) as desk:
            yield scorer(desk, plan.names[0])

    monkeypatch.setattr("engine.commands.scoring.open_scorer", opened)
    monkeypatch.setattr("actors.models.prepare_model", lambda name, window: tmp_path / "weights")
    (tmp_path / "c.toml").write_text(CONFIG)
    corpus = keep_run(tmp_path / "run", [make_record("a"), make_record("b", [*TALK, ("patient", "Well.")])]).path
    for as_json in (False, True):
        command.quality([corpus], under=tmp_path / "c.toml", as_json=as_json)
    said = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0].strip() or line.split()[0]: line.split() for line in said if line.strip()}
    assert rows["perplexity"][-1] == "4" and "smollm2-135m" in "\n".join(said)
    figures = json.loads(said[-1])["corpora"][0]["perplexity"]
    assert figures["num_texts"] == figures["num_cut"] == 2 and figures["value"] == pytest.approx(4.0)


def test_a_model_that_cannot_be_served_is_refused_before_anything_starts(tmp_path: Path) -> None:
    corpus = keep_run(tmp_path / "run", [make_record()]).path
    (tmp_path / "c.toml").write_text('[models.hosted]\nkind = "openai"\nmodel = "gpt"\n')
    assert "one model of kind vllm must be served, got none" in run(
        "quality", corpus, "--under", tmp_path / "c.toml", expect=2
    )


class FakeCrew:
    """Says whether it was closed whole."""

    is_closed = False

    def __init__(self, *_: Any, **__: Any) -> None:
        self.pools: dict[str, Any] = {}

    def attach(self, *_: Any) -> None:
        pass

    async def close(self) -> None:
        await asyncio.sleep(0)
        FakeCrew.is_closed = True

    def abort(self) -> None:
        pass


@pytest.mark.parametrize("when", ["working", "closing"])
async def test_a_signal_ends_the_crew_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    monkeypatch.setattr("actors.crew.LocalCrew", FakeCrew)
    monkeypatch.setattr(FakeCrew, "is_closed", False)
    (tmp_path / "c.toml").write_text(CONFIG)
    plan = plan_serving(tmp_path / "c.toml", [], "")
    (tmp_path / "scratch").mkdir()
    rundir = RunDirectory(tmp_path / "scratch")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if when == "working":
            with pytest.raises(Stopped) as stopped:
                async with open_crew(plan, tmp_path, rundir):
                    os.kill(os.getpid(), signal.SIGTERM)
                    await asyncio.Event().wait()
            assert stopped.value.code == 128 + signal.SIGTERM
        else:
            async with open_crew(plan, tmp_path, rundir):
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        assert FakeCrew.is_closed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
