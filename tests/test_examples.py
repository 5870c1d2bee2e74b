"""The configurations that ship: each is loaded, forecast and placed as far as that goes without a network or models."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.cli import generate
from engine.commands.preparing import forecast_plan, prepare_models
from engine.config import Config, apply_overrides, load, read_table
from engine.config_sections import OpenAIConfig
from engine.planning import make_plan
from engine.protocols.mental_arena.spec import PROTOCOL
from eval.exam.planning import plan_exam
from tests.running import ROOT
from training.round_planning import plan_rounds

EXAMPLES = ROOT / "examples"
SHIPPED = sorted(str(path.relative_to(EXAMPLES).with_suffix("")) for path in EXAMPLES.rglob("*.toml"))
OTHERS = ("exam", "rounds")
"""Examples of other commands than `generate`."""
NAMES = [name for name in SHIPPED if name not in OTHERS]


@pytest.fixture
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the hub is in the cache, and nothing may be asked of it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def dry_run(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    generate(EXAMPLES / f"{name}.toml", [], None, True, True)
    out, err = capsys.readouterr()
    found: dict[str, Any] = json.loads(out)
    return found, err


def config_of(name: str) -> Config:
    return load(read_table(EXAMPLES / f"{name}.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_planned_without_a_network(no_models: None, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, said = dry_run(name, capsys)
    hubs = [model.model for model in config_of(name).models.values() if model.model.count("/") == 1]
    assert all(f"{model} is not in the local cache: sandplay fetch {model} brings it" in said for model in hubs)
    assert found["config"]["name"] == name
    assert found["forecast"]["episodes"] >= 16 and found["forecast"]["least"]["calls"] >= 22
    guess = found["forecast"]["most"]["max_context"]
    assert ("by that guess, models." in said) is (bool(hubs) and guess > 8192)


def test_each_of_another_command_is_planned_as_that_command_does(no_models: None) -> None:
    exam = plan_exam(read_table(EXAMPLES / "exam.toml"), EXAMPLES)
    assert exam.num_episodes == 20
    rounds = plan_rounds(read_table(EXAMPLES / "rounds.toml"), EXAMPLES)
    assert rounds.settings.rounds.num_rounds == 2
    assert (len(rounds.played), len(rounds.held_out)) == (4, 2)
    assert forecast_plan(exam, prepare_models(exam, is_dry=True), is_dry=True).episodes == 20


def test_no_example_is_forgotten() -> None:
    """Each configuration is planned above; each protocol of one's own is quoted by a page, and run there."""
    assert set(OTHERS) < set(SHIPPED) and len(NAMES) >= 5
    pages = "".join(path.read_text("utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    code = {path.name for path in EXAMPLES.rglob("*.py")}
    assert {name for name in code if name not in pages} == set()
    for folder, tests in (("lm_eval", "tests/actors/test_lm_eval.py"), ("cluster", "tests/test_cluster_examples.py")):
        text = (ROOT / tests).read_text("utf-8")
        assert {path.stem for path in (EXAMPLES / folder).iterdir() if path.stem not in text} == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo", {"base": (1, 0)}),
        ("llama3-8b", {"base": (4, 1)}),
        ("openai", {}),
        ("paper", {"base": (1, 1)}),
        ("two-models", {"therapist": (1, 1), "patient": (1, 0.5), "judge": (1, 0.5)}),
    ],
)
def test_each_says_what_it_takes(
    no_models: None, name: str, expected: dict[str, tuple[int, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    placement = dry_run(name, capsys)[0]["placement"]
    assert {one["pool"]: (one["count"], one["share"]["gpus"]) for one in placement["wanted"]} == expected


def test_what_this_machine_has_no_room_for_is_said_and_not_refused_in_a_dry_run(
    no_models: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from actors.placement import Node, Share

    for gpus, problems in ((0.0, 3), (1.0, 2), (2.0, 0)):
        share = Share(8, gpus)
        monkeypatch.setattr("actors.nodes.this_machine", lambda share=share: [Node("", "here", share, share)])
        assert len(dry_run("two-models", capsys)[0]["placement"]["problems"]) == problems


def test_the_papers_settings_fit_its_models_window_by_a_real_tokenizer() -> None:
    table = apply_overrides(read_table(EXAMPLES / "paper.toml"), ["models.base.model=smollm2-135m"])
    plan = make_plan(table, EXAMPLES)
    figures = forecast_plan(plan, prepare_models(plan))
    assert 6000 < figures.most.max_context < 8192


def test_the_papers_settings_are_those_that_the_protocol_knows_as_published() -> None:
    rules = make_plan(read_table(EXAMPLES / "paper.toml"), EXAMPLES).rules
    assert {name: getattr(rules, name) for name in PROTOCOL.paper} == PROTOCOL.paper
    config = config_of("paper")
    judge = config.models["judge"]
    assert isinstance(judge, OpenAIConfig) and judge.model == "gpt-4-turbo-2024-04-09"
    assert config.roles["patient"] == config.roles["therapist"] == "base" and config.cases.limit == 106


def test_no_example_holds_a_key_or_a_path_of_its_own() -> None:
    for path in EXAMPLES.glob("*.toml"):
        text = path.read_text("utf-8")
        assert "sk-" not in text and "/home" not in text
