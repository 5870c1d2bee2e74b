"""The served side of a run: what is served from the start, and swaps by the name of a model."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from actors.crew import LocalCrew
from actors.fleet import Fleet
from actors.launch import StartFailed
from actors.spec import ModelSpec
from engine.checkpoints import CARD, CheckpointError
from engine.config import load
from engine.errors import BackendDown, InputError
from engine.openai_backend import OpenAIBackend
from engine.rundir import RunDirectory
from engine.swap import Target
from tests.small_checkpoints import make_adapter, make_base, make_full

TABLE = {
    "models": {"base": {"kind": "vllm", "max_lora_rank": 8}, "remote": {"kind": "openai", "model": "configured"}},
    "roles": {"patient": "base", "judge": "remote"},
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


def make_crew(model: Path, /, **serving: Path) -> LocalCrew:
    crew = LocalCrew(load(TABLE), {"base": model}, needs_embedder=False, serving=serving)
    crew.attach(RunDirectory.create(model.parent / "run"), lambda _text: None)
    return crew


def target_of(crew: LocalCrew) -> Target:
    pool = crew.pools["base"]
    assert isinstance(pool, Fleet)
    return pool._spec.target


def test_without_checkpoints_the_configured_models_are_served(base: Path) -> None:
    crew = make_crew(base)
    assert target_of(crew) == Target(str(base))
    assert set(crew.pools) == {"base", "remote"}


def test_a_checkpoint_is_served_from_the_start(base: Path, tmp_path: Path) -> None:
    make_full(base, tmp_path / "r1")
    assert target_of(make_crew(base, base=tmp_path / "r1")) == Target(str(tmp_path / "r1"))


def test_an_adapter_is_served_from_the_start_upon_the_base(base: Path, tmp_path: Path) -> None:
    make_adapter(base, tmp_path / "r1")
    assert target_of(make_crew(base, base=tmp_path / "r1")) == Target(str(base), str(tmp_path / "r1"))


def test_a_checkpoint_that_was_changed_since_is_refused_before_anything_starts(base: Path, tmp_path: Path) -> None:
    make_full(base, tmp_path / "r1")
    (tmp_path / "r1" / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="config.json must have the SHA-256"):
        make_crew(base, base=tmp_path / "r1")
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "r1" / CARD).unlink()
    with pytest.raises(CheckpointError, match="must hold checkpoint.json"):
        make_crew(base, base=tmp_path / "r1")


def test_a_hosted_checkpoint_is_asked_of_its_endpoint_from_the_start(base: Path, tmp_path: Path) -> None:
    (tmp_path / "r1").mkdir()
    (tmp_path / "r1" / CARD).write_text(
        '{"version": "r1", "kind": "hosted", "base": "", "model": "tuned", "files": {}}'
    )
    remote = make_crew(base, remote=tmp_path / "r1").pools["remote"]
    assert isinstance(remote, OpenAIBackend) and remote.model == "tuned"


async def test_only_a_model_that_is_served_is_swapped(base: Path) -> None:
    with pytest.raises(InputError, match="a model must be served here to be swapped, got 'other'"):
        await make_crew(base).swap("other", None, "mix", lambda _text: None)


async def test_pools_with_parts_of_gpus_find_their_places_largest_first(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = {"gpu_memory_utilization": 0.3}
    models = {"small": {"gpus": 0.4, **part}, "large": {"gpus": 0.6, "replicas": 2, **part}, "whole": {"gpus": 1}}
    config = load({"models": models, "roles": {name: name for name in models}})
    asked: list[str] = []
    place, over = asyncio.Event(), asyncio.Event()

    async def launch(spec: ModelSpec, *arguments: Any) -> None:
        asked.append(spec.name)
        await place.wait()
        arguments[-1]()
        await over.wait()
        raise StartFailed("enough")

    async def none(*_arguments: Any) -> None:
        pass

    for name, stand_in in (("launch_replica", launch), ("join_cluster", none), ("leave_cluster", none)):
        monkeypatch.setattr(f"actors.fleet.{name}", stand_in)
    crew = LocalCrew(config, dict.fromkeys(models, base), needs_embedder=False)
    crew.attach(RunDirectory.create(base.parent / "run"), lambda _text: None)
    starting = asyncio.create_task(crew.start())
    for _ in range(20):
        await asyncio.sleep(0)
    assert sorted(asked) == ["large", "large", "whole"]
    place.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert sorted(asked) == ["large", "large", "small", "whole"]
    over.set()
    with pytest.raises(BackendDown, match="pool small did not start: enough"):
        await starting
