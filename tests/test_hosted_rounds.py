"""Rounds of a hosted model, by the command, against a stub endpoint that answers and tunes."""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from engine.checkpoints import Checkpoint, Registry, hosted_model, publish
from engine.commands.rounds import create
from engine.commands.stages import LocalStages
from engine.openai_backend import OpenAIBackend
from engine.panel import make_panel
from engine.swap import SwapFailure, SwapReport
from tests.running import CONFIG, run, run_json
from tests.stub import Stub, answer_by_purpose, embed_equal
from tests.test_real_run import records_of
from tests.tuning_stub import TuningStub, serve_tuning
from training.round_log import Decided, Examined, Played, RoundLog, Trained
from training.round_planning import plan_rounds

ROUNDS = """
[rounds]
held_out = 2
[samples]
near = 1
[tuning]
poll_s = 0.0
[exam]
num_items = 4
[cases]
source = "bundled"
limit = 8
"""


@dataclass
class HostedStub(TuningStub):
    """Answers chats as well; `chat.calls` are those that came."""

    chat: Stub = field(default_factory=lambda: Stub(answer_by_purpose(), embed_equal))

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_post("/v1/chat/completions", self.chat._chat)
        app.router.add_post("/v1/embeddings", self.chat._embeddings)
        return app


def models_asked(stub: HostedStub, purpose: str) -> list[str]:
    """Return the models asked for a purpose, in order, repeats left out."""
    return list(dict.fromkeys(call.body["model"] for call in stub.chat.chats if call.purpose == purpose))


def lines_of(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


def test_each_round_asks_the_model_that_the_last_one_tuned(tmp_path: Path) -> None:
    directory = tmp_path / "out"
    with serve_tuning(HostedStub) as stub:
        config = tmp_path / "rounds.toml"
        config.write_text(CONFIG.format(url=stub.base_url) + ROUNDS, "utf-8")
        summary = run_json("rounds", config, "--out", directory)
        finished = len(stub.calls)
        assert run_json("resume", directory)["current"] == summary["current"] == "r1"
        assert len(stub.calls) == finished, "a run that has ended asks nothing"
    first, second = (hosted_model(Registry(directory / "checkpoints").place(name)) for name in ("r0", "r1"))
    assert [job["model"].removesuffix("-2024-07-18") for job in stub.jobs] == ["stub", first]
    assert models_asked(stub, "patient_turn") == ["stub", first]
    assert models_asked(stub, "answer") == ["stub", first, second]
    uploads = [lines_of(data) for data in stub.contents.values()]
    assert all({"messages"} == set(row) for rows in uploads for row in rows)
    log = RoundLog.open(directory / "rounds.jsonl")
    assert [(one.action, one.serves) for one in log.all(Decided)] == [("keep", "r0"), ("keep", "r1")]
    assert [one.version for one in log.all(Trained)] == ["r0", "r1"]
    assert len(list(log.all(Examined))) == 3
    played = log.find(Played, 1)
    assert played is not None and played.weights == (first,)
    assert all(record.weights == (first,) for record in records_of(directory / "round-1"))


def test_a_tuning_job_that_fails_ends_the_run_and_is_named(tmp_path: Path) -> None:
    error = {"code": "bad", "message": "the rows are of no use", "param": None}
    with serve_tuning(HostedStub, job_statuses=("running", "failed"), error=error) as stub:
        config = tmp_path / "rounds.toml"
        config.write_text(CONFIG.format(url=stub.base_url) + ROUNDS, "utf-8")
        said = run("rounds", config, "--out", tmp_path / "out", expect=1)
        assert "the rows are of no use" in said and "sandplay resume" in said
        assert len(stub.jobs) == 1


async def test_a_swap_that_fails_leaves_the_version_that_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_tuning(HostedStub) as stub:
        table = tomllib.loads(CONFIG.format(url=stub.base_url) + ROUNDS)
        plan = plan_rounds(table, tmp_path)
        create(tmp_path / "out", plan)
        stages = LocalStages(plan, tmp_path / "out", {}, make_panel(False))
        publish_hosted(stages.registry, "r0", "ft:stub:0")
        await stages.serve(-1, "")
        swap = OpenAIBackend.swap

        async def fail(pool: OpenAIBackend, *asked: Any) -> SwapReport:
            report = await swap(pool, *asked)
            await swap(pool, None, "mix", lambda _: None)
            return replace(report, failure=SwapFailure("canary", "made no token"))

        monkeypatch.setattr(OpenAIBackend, "swap", fail)
        refused = await stages.serve(0, "r0")
        assert refused is not None and "canary: made no token" in refused.refused
        assert (refused.before, refused.version) == ("", "r0")
        assert await stages.serve(0, "") is None, "the base is served on"
        monkeypatch.undo()
        served = await stages.serve(0, "r0")
        assert served is not None and not served.refused
        await stages.close()


def publish_hosted(registry: Registry, version: str, model: str) -> None:
    registry.path.mkdir()
    (draft := registry.path / "draft").mkdir()
    card = Checkpoint(version=version, kind="hosted", base="stub", files={}, model=model)
    publish(draft, registry.place(version), card)
