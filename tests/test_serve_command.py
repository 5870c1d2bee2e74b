"""`sandplay serve`: what it chooses to serve, the key, and what it refuses before anything starts."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from engine.checkpoints import CheckpointError
from engine.commands.serve import Serving, plan_serving, read_key
from engine.endpoint.server import bind, url_of
from engine.errors import InputError
from tests.running import run
from tests.small_checkpoints import make_adapter, make_base, make_full

MODELS = {
    "small": {"kind": "vllm", "model": "smollm2-135m", "replicas": 2},
    "hosted": {"kind": "openai", "model": "gpt"},
}


def write(path: Path, **tables: Any) -> Path:
    path.write_text(tomli_w.dumps(tables))
    return path


def test_the_only_local_model_of_a_configuration_is_served(tmp_path: Path) -> None:
    config = write(tmp_path / "c.toml", models=MODELS, protocol={"name": "none such"}, training={"rank": 8})
    plan = plan_serving(config, ["models.small.replicas=3"], "")
    assert (plan.pool, plan.names, plan.checkpoint) == ("small", ("smollm2-135m", "small"), None)
    assert plan.model.replicas == 3 and list(plan.config.models) == ["small"]


def test_a_directory_is_named_without_its_path(tmp_path: Path) -> None:
    models = {"a": {"kind": "vllm", "model": "./weights/mine"}, "b": {"kind": "vllm", "model": "org/name"}}
    config = write(tmp_path / "c.toml", models=models)
    plan = plan_serving(config, [], "a")
    assert plan.names == ("mine", "a") and plan.model.model == str(tmp_path / "weights/mine")
    assert plan_serving(config, [], "b").names == ("org/name", "b")


@pytest.mark.parametrize(
    "wanted, models, said",
    [
        ("hosted", MODELS, "--model must name a model of kind vllm, got 'hosted': there are small"),
        ("", {"hosted": MODELS["hosted"]}, "one model of kind vllm must be served, got none"),
        ("", {"a": MODELS["small"], "b": MODELS["small"]}, "got a, b: give --model NAME"),
        ("", {}, "no model is configured"),
    ],
)
def test_a_choice_that_is_none_is_refused(tmp_path: Path, wanted: str, models: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan_serving(write(tmp_path / "c.toml", models=models), [], wanted)


def test_a_full_checkpoint_is_served_in_place_of_the_model_of_its_rounds(tmp_path: Path) -> None:
    make_full(make_base(tmp_path / "base"), tmp_path / "checkpoints" / "r1")
    write(tmp_path / "rounds.toml", models=MODELS, rounds={"num_rounds": 2})
    plan = plan_serving(tmp_path / "checkpoints" / "r1", [], "")
    assert (plan.pool, plan.names) == ("small", ("r1", "small"))
    assert plan.checkpoint == tmp_path / "checkpoints" / "r1" and plan.model.max_lora_rank == 0


def test_an_adapter_gets_the_room_it_needs(tmp_path: Path) -> None:
    make_adapter(make_base(tmp_path / "base"), tmp_path / "lone" / "a1")
    plan = plan_serving(tmp_path / "lone" / "a1", [f"models.base.model={tmp_path / 'base'}"], "")
    assert (plan.names, plan.model.model) == (("a1", "base"), str(tmp_path / "base"))
    assert plan.model.max_lora_rank == 8  # the adapter's rank is 2: the next size that vLLM serves
    roomy = plan_serving(tmp_path / "lone" / "a1", ["models.base.max_lora_rank=16"], "")
    assert roomy.model.max_lora_rank == 16


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosted").mkdir()
    with pytest.raises(CheckpointError, match="must hold checkpoint.json"):
        plan_serving(tmp_path / "hosted", [], "")
    card = '{"version": "h1", "kind": "hosted", "base": "", "model": "tuned", "files": {}}'
    (tmp_path / "hosted" / "checkpoint.json").write_text(card)
    with pytest.raises(CheckpointError, match="must have weights to be served, got a hosted model"):
        plan_serving(tmp_path / "hosted", [], "")


def test_a_key_is_made_or_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made, where = read_key("")
    assert len(made) > 30 and where == "" and made != read_key("")[0]
    monkeypatch.setenv("MY_KEY", " sk-mine ")
    assert read_key("MY_KEY") == ("sk-mine", "MY_KEY")
    for bad in ("", " ", "a b", "schlüssel", "a\nb"):
        monkeypatch.setenv("MY_KEY", bad)
        with pytest.raises(InputError, match="MY_KEY must hold the API key") as refused:
            read_key("MY_KEY")
        assert not bad.strip() or bad not in str(refused.value)


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as bound:
        assert url_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        bound.listen()
        with pytest.raises(InputError, match="must be bound to a free address"):
            bind("127.0.0.1", bound.getsockname()[1])
    with pytest.raises(InputError, match="choose another --port or --host"):
        bind("no.such.host.invalid", 0)


def test_the_command_refuses_before_anything_starts(tmp_path: Path) -> None:
    said = run("serve", tmp_path / "none.toml", expect=2)
    assert "the configuration file must exist" in said
    config = write(tmp_path / "c.toml", models={"hosted": MODELS["hosted"]})
    assert "one model of kind vllm must be served" in run("serve", config, expect=2)
    config = write(tmp_path / "c.toml", models=MODELS)
    assert "NO_SUCH_KEY must hold the API key of the endpoint, got nothing" in run(
        "serve", config, "--key-env", "NO_SUCH_KEY", expect=2
    )


def test_servings_are_plain_values(tmp_path: Path) -> None:
    plan = plan_serving(write(tmp_path / "c.toml", models=MODELS, scheduler={"max_attempts": 2}), [], "small")
    assert (
        isinstance(plan, Serving) and plan.scheduler.max_attempts == 2 and plan.config.roles == {"assistant": "small"}
    )
