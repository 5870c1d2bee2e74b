"""The hub and its ways of saying no, on a stub of it; no real hub is asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.fetching import Wanted, fetch_all, fetch_environment
from actors.hub import NotCached, commit_of, fetch_from_hub
from actors.models import prepare_model
from engine.errors import InputError
from tests.hub_stub import COMMIT, OLDER, Hub, serve_hub


@pytest.fixture(scope="module")
def served() -> Iterator[Hub]:
    with serve_hub() as hub:
        yield hub


@pytest.fixture
def hub(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in (("ENDPOINT", served.url), ("HF_HUB_CACHE", str(tmp_path)), ("HF_HUB_OFFLINE", False)):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    served.requests.clear()
    return served


def test_what_is_brought_is_weights_configuration_and_tokenizer_and_neither_code_nor_pickles_nor_copies(
    hub: Hub,
) -> None:
    path = prepare_model("org/tiny", 2048)
    assert commit_of(path) == COMMIT
    brought = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    assert {file.name for file in path.rglob("*")} == brought == set(hub.downloads())
    assert len(hub.downloads()) == 4


def test_it_is_brought_once_and_a_commit_is_not_even_asked_about(hub: Hub) -> None:
    path = fetch_from_hub("org/tiny", "v1")
    assert commit_of(path) == OLDER
    hub.requests.clear()
    assert fetch_from_hub("org/tiny", OLDER) == path == fetch_from_hub("org/tiny", "v1", is_local_only=True)
    assert hub.requests == []
    assert fetch_from_hub("org/tiny", "v1") == path and hub.downloads() == []


@pytest.mark.parametrize(
    ("name", "revision", "said"),
    [
        ("org/gated", None, ["org/gated is gated", "https://huggingface.co/org/gated", "set HF_TOKEN"]),
        ("org/hidden-gate", None, ["is gated", "https://huggingface.co/org/hidden-gate", "set HF_TOKEN"]),
        ("org/private", None, ["status 401", "https://huggingface.co/org/private", "HF_TOKEN"]),
        ("org/forbidden", None, ["status 403", "https://huggingface.co/org/forbidden", "HF_TOKEN"]),
        ("org/missing", None, ["got org/missing: no such model", "HF_TOKEN"]),
        ("org/broken", None, ["org/broken is not in the local cache and the hub cannot be reached"]),
        ("org/tiny", "nope", ["revision must be a branch, tag or commit of org/tiny, got 'nope'"]),
        ("org/tiny", "c" * 40, ["revision must be", f"got '{'c' * 40}'"]),
        ("not a name", None, ["got not a name: no such model"]),
    ],
)
def test_every_no_says_what_to_do(hub: Hub, name: str, revision: str | None, said: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        fetch_from_hub(name, revision)
    assert len(refused.value.problems) == 1
    assert all(text in str(refused.value) for text in said)


def test_offline_it_says_how_to_bring_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotCached, match="HF_HUB_OFFLINE is set: unset it, or run `sandplay fetch org/x --revision v1`"):
        fetch_from_hub("org/x", "v1")
    with pytest.raises(NotCached, match="sandplay fetch org/x brings it"):
        fetch_from_hub("org/x", is_local_only=True)
    assert hub.requests == []


def test_a_cached_model_needs_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch_from_hub("org/tiny")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch_from_hub("org/tiny") == path
    (path / "model.safetensors").unlink()
    with pytest.raises(NotCached, match="is not in the local cache"):
        fetch_from_hub("org/tiny")


def test_only_a_hugging_face_id_has_revisions(tmp_path: Path) -> None:
    for name in ("smollm2-135m", str(tmp_path)):
        with pytest.raises(InputError, match=r"revision must be left out for .*, got 'v1'"):
            prepare_model(name, revision="v1")
    assert commit_of(tmp_path) is None


def test_what_one_lacks_keeps_no_other_from_coming(hub: Hub) -> None:
    answer = fetch_all(
        [Wanted("org/gated"), Wanted("org/tiny", "served", "v1", 4096), Wanted("org/tiny", revision="v1")]
    )
    assert [problem.split(":")[0] for problem in answer.problems] == [
        "org/gated is gated",
        "max_model_len must be at most the model's 2048 positions, got 4096",
    ]
    (tiny,) = answer.fetched
    assert (tiny.name, tiny.commit, tiny.num_files) == ("org/tiny", OLDER, 4)
    assert tiny.num_bytes == 7000 + 33 + 2 + 35


def test_nodes_get_the_hubs_address_and_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    environment = fetch_environment()
    assert environment["HF_ENDPOINT"] == "http://mirror" and environment["HF_HUB_OFFLINE"] == "0"
    assert "secret" not in environment.values()
