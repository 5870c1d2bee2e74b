"""Data sets of the hub, on a stub of it: what is brought, every way of saying no, and the same without a network."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.fetching import Wanted, fetch_all
from actors.hub import NotCached, commit_of, fetch_dataset
from engine.cases.datasets import parse_dataset
from engine.errors import InputError
from tests.hub_stub import COMMIT, OLDER, Hub, serve_hub

SUFFIXES = (".json", ".jsonl", ".parquet")


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


def fetch(source: str, revision: str | None = None, *, is_local_only: bool = False) -> Path:
    return fetch_dataset(parse_dataset(source), SUFFIXES, revision, is_local_only=is_local_only)


def test_the_only_file_that_fits_is_brought_and_nothing_else(hub: Hub) -> None:
    path = fetch("hf:org/cases")
    assert (path.name, path.suffix, commit_of(path)) == ("train.jsonl", ".jsonl", COMMIT)
    assert hub.downloads() == ["data/train.jsonl"]
    assert fetch("hf:org/experts").name == "experts.json"


def test_a_file_may_be_named_and_a_revision_pinned(hub: Hub) -> None:
    path = fetch("hf:org/both:more.jsonl", "v1")
    assert (path.name, commit_of(path)) == ("more.jsonl", OLDER)
    assert hub.downloads() == ["more.jsonl"]
    hub.requests.clear()
    assert fetch("hf:org/both:more.jsonl", OLDER) == path == fetch("hf:org/both:more.jsonl", "v1", is_local_only=True)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("source", "revision", "said"),
    [
        ("hf:org/both", None, ["got 2, such as cases.jsonl: name one, as hf:org/both:cases.jsonl"]),
        ("hf:org/both:experts.csv", None, ["must end in .json, .jsonl, .parquet, got hf:org/both:experts.csv"]),
        ("hf:org/cases:nope.jsonl", None, ["got hf:org/cases:nope.jsonl", "huggingface.co/datasets/org/cases/tree"]),
        ("hf:org/none", None, ["got hf:org/none: no such data set at https://huggingface.co/datasets/org/none"]),
        ("hf:org/gated", None, ["org/gated is gated", "https://huggingface.co/datasets/org/gated", "set HF_TOKEN"]),
        ("hf:org/gated:data/train.jsonl", None, ["org/gated is gated", "set HF_TOKEN"]),
        ("hf:org/private", None, ["status 401", "https://huggingface.co/datasets/org/private", "HF_TOKEN"]),
        ("hf:org/forbidden", None, ["status 403", "HF_TOKEN"]),
        ("hf:org/broken", None, ["hf:org/broken is not in the local cache and the hub cannot be reached"]),
        ("hf:org/cases", "nope", ["revision must be a branch, tag or commit of org/cases, got 'nope'"]),
        ("hf:org/cases:data/train.jsonl", "nope", ["revision must be a branch, tag or commit of org/cases"]),
    ],
)
def test_every_no_says_what_to_do(hub: Hub, source: str, revision: str | None, said: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        fetch(source, revision)
    assert len(refused.value.problems) == 1
    assert [text for text in said if text not in str(refused.value)] == []


def test_without_a_network_what_is_cached_is_found_and_the_rest_says_how_to_bring_it(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch("hf:org/cases")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch("hf:org/cases") == path == fetch("hf:org/cases:data/train.jsonl")
    with pytest.raises(
        NotCached, match="HF_HUB_OFFLINE is set: unset it, or run `sandplay fetch hf:org/x --revision v1`"
    ):
        fetch("hf:org/x", "v1")
    with pytest.raises(NotCached, match="sandplay fetch hf:org/x:a.json brings it"):
        fetch("hf:org/x:a.json", is_local_only=True)
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_like_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch("hf:org/cases")
    nobody = "http://127.0.0.1:1"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nobody)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nobody + "/{repo_id}/resolve/{revision}/{filename}"
    )
    assert fetch("hf:org/cases") == path
    with pytest.raises(NotCached, match=r"hf:org/x is not in .* and the hub cannot be reached .*: give a local file"):
        fetch("hf:org/x")


def test_they_are_fetched_beside_models(hub: Hub) -> None:
    wanted = [Wanted("hf:org/cases", "dataset", "v1", suffixes=SUFFIXES), Wanted("hf:org/none", "dataset")]
    answer = fetch_all(wanted)
    (found,) = answer.fetched
    assert (found.name, found.commit, found.num_files) == ("hf:org/cases", OLDER, 1)
    assert found.num_bytes == Path(found.path).stat().st_size
    assert len(answer.problems) == 1
