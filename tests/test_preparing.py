"""What comes before a run: models made ready at the commits that it began with, engine tables checked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.commands.preparing import (
    COMMITS,
    commit_files,
    engine_problems,
    kept_commits,
    prepare_models,
)
from engine.config import load
from engine.errors import InputError
from engine.planning import Plan, absolute_paths, located, make_plan
from tests import hub_stub
from tests.hub_stub import COMMIT, OLDER, Hub, serve_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub() as served:
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        values = {"ENDPOINT": served.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}
        for name, value in {**values, "HF_HUB_CACHE": str(tmp_path)}.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield served


def make(**models: dict[str, Any]) -> Plan:
    first, *_ = models
    full = {name: {"max_model_len": 2048, **model} for name, model in models.items()}
    roles = {"patient": first, "therapist": first, "judge": [*models][-1]}
    return make_plan({"models": full, "roles": roles}, Path())


def test_a_run_goes_on_with_the_commit_it_began_with(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make(a={"model": "org/tiny"}, b={"model": "smollm2-135m"})
    paths = prepare_models(plan)
    (name, data), *others = commit_files(paths).items()
    assert (name, json.loads(data), others) == (COMMITS, {"a": COMMIT}, [])
    (tmp_path / "run" / "inputs").mkdir(parents=True)
    (tmp_path / "run" / name).write_bytes(data)
    monkeypatch.setitem(hub_stub.REVISIONS, "main", OLDER)
    assert prepare_models(plan, kept_commits(tmp_path / "run")) == paths
    assert prepare_models(plan)["a"].name == OLDER


def test_a_run_without_models_of_the_hub_notes_none(tmp_path: Path) -> None:
    assert commit_files({"a": tmp_path}) == {} and kept_commits(tmp_path) == {}


def test_every_problem_of_every_model_comes_at_once(hub: Hub) -> None:
    plan = make(
        a={"model": "org/gated", "engine": {"quantisation": "fp8", "enforce_eager": True}},
        b={"model": "org/tiny", "revision": "v2", "engine": {"kv_cache_dtyp": "fp8"}},
    )
    with pytest.raises(InputError) as refused:
        prepare_models(plan)
    starts = ("models.a.engine.quantisation", "models.b.engine.kv_cache_dtyp", "models.a: org/gated", "models.b: revi")
    assert len(refused.value.problems) == len(starts)
    for problem, start in zip(refused.value.problems, starts, strict=True):
        assert problem.startswith(start)


def test_without_vllm_here_engine_tables_are_left_to_the_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load({"models": {"a": {"engine": {"quantisation": "fp8"}}}})
    assert len(engine_problems(config)) == 1
    monkeypatch.setattr("actors.engine_names.known_arguments", lambda: None)
    assert engine_problems(config) == []


def test_paths_hold_from_the_configuration_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located("./mine", Path("/x")) == "/x/mine" and located("org/name", Path("/x")) == "org/name"
    assert located("/mine", Path("/x")) == "/mine" and located("n" * 1000, Path("/x")) == "n" * 1000
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "smollm2-135m").mkdir()
    assert located("org/name", Path("/x")) == str(tmp_path / "org" / "name")
    assert located("smollm2-135m", Path("/x")) == "smollm2-135m"


def test_a_directory_stays_the_same_one_wherever_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    table: dict[str, Any] = {"models": {"a": {"model": "mine"}, "b": {"kind": "openai", "model": "mine"}}}
    monkeypatch.chdir(tmp_path)
    found = absolute_paths(table, Path("/x"))
    assert [model["model"] for model in found["models"].values()] == [str(tmp_path / "mine"), "mine"]
