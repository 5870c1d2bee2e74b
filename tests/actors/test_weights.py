"""What an engine holds, on an engine that only notes what it is told: claims, salts, loads, adapters that go last."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.weights import Weights, adapter_version, combine_checksums

pytestmark = [
    pytest.mark.timeout(200),  # importing vLLM alone takes a while
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # and warns about itself
]


class NotedLLM:
    """Has the checksum of the directory that was loaded last; notes adapters by id."""

    def __init__(self, path: Path, *, is_empty: bool = False) -> None:
        self.path = str(path)
        self.is_empty = is_empty
        self.adapters: dict[int, str] = {}
        self.version = ""

    async def compute_weight_checksums(self) -> list[dict[str, str]]:
        content = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        if not self.is_empty:
            content = (Path(self.path) / "model.safetensors").read_text()
        return [{"tp0:layer.base_layer.weight": content}]

    async def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        assert method == "reload_weights"
        self.adapters.clear()
        self.path = kwargs["weights_path"]

    async def update_weight_version(self, version: str) -> None:
        self.version = version

    async def add_lora(self, request: Any) -> bool:
        self.adapters[request.lora_int_id] = request.lora_path
        return True

    async def remove_lora(self, number: int) -> bool:
        del self.adapters[number]
        return True


def make_directory(path: Path, text: str, config: str = "{}") -> Path:
    path.mkdir()
    (path / "model.safetensors").write_text(text)
    (path / "adapter_config.json").write_text(config)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_directory(tmp_path / "base", "base weights")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make_directory(tmp_path / "adapter", "adapter weights")


async def make_weights(path: Path, adapter: Path | None = None, *, is_empty: bool = False) -> tuple[Weights, NotedLLM]:
    llm = NotedLLM(path, is_empty=is_empty)
    weights = Weights(llm, str(path))
    await weights.open("" if adapter is None else str(adapter))
    return weights, llm


async def test_a_swapped_engine_has_the_versions_of_one_started_fresh(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    other = make_directory(tmp_path / "other", "other weights")
    for is_empty in (False, True):
        swapped, llm = await make_weights(base, is_empty=is_empty)
        before = swapped.newest
        assert await swapped.add(str(adapter)) == (await make_weights(base, adapter, is_empty=is_empty))[0].newest
        after = await swapped.reload(str(other))
        assert after == (await make_weights(other, is_empty=is_empty))[0].newest == llm.version != before
        upon = await swapped.reload(str(other), str(adapter))
        assert upon == (await make_weights(other, adapter, is_empty=is_empty))[0].newest != after
        assert await swapped.reload(str(base)) == before


async def test_an_adapters_scale_counts(base: Path, adapter: Path, tmp_path: Path) -> None:
    louder = make_directory(tmp_path / "louder", "adapter weights", '{"lora_alpha": 64}')
    assert adapter_version("base", adapter) != adapter_version("base", louder) != adapter_version("other", louder)


async def test_a_request_gets_the_version_it_wants_while_that_is_held(base: Path, adapter: Path) -> None:
    weights, _ = await make_weights(base)
    old = weights.newest
    new = await weights.add(str(adapter))
    assert weights.begin().version == weights.begin("unknown").version == old
    weights.serve("unknown")
    weights.serve(new)
    assert weights.begin().version == new and weights.begin(old).version == old
    assert weights.begin(old).adapter is None and weights.begin(new).adapter.lora_path == str(adapter)
    assert weights.begin(old).salt != weights.begin(new).salt


async def test_a_load_while_a_request_runs_joins_its_versions(base: Path, tmp_path: Path) -> None:
    weights, _ = await make_weights(base)
    early, old = weights.begin(), weights.newest
    new = await weights.reload(str(make_directory(tmp_path / "other", "other weights")))
    late = weights.begin()
    assert weights.end(late) == new
    assert weights.end(early) == f"{old}+{new}"


async def test_the_same_weights_loaded_again_find_none_of_the_old_prefixes(base: Path, tmp_path: Path) -> None:
    weights, _ = await make_weights(base)
    first = weights.begin()
    await weights.reload(str(make_directory(tmp_path / "other", "other weights")))
    await weights.reload(str(base))
    again = weights.begin()
    assert again.version == first.version and again.salt != first.salt


async def test_an_adapter_goes_with_its_last_request(base: Path, adapter: Path) -> None:
    weights, llm = await make_weights(base, adapter)
    old, whole = weights.newest, await weights.add("")
    first, second = weights.begin(), weights.begin()
    weights.serve(whole)
    removing = asyncio.ensure_future(weights.remove(old))
    await asyncio.sleep(0)
    weights.end(first)
    await asyncio.sleep(0)
    assert not removing.done() and llm.adapters
    assert weights.end(second) == old
    await removing
    assert llm.adapters == {} and weights.versions == (whole,)


async def test_what_is_served_is_never_removed(base: Path, adapter: Path) -> None:
    weights, llm = await make_weights(base, adapter)
    await weights.remove(weights.newest)
    await weights.remove("unknown")
    assert llm.adapters


def test_the_weight_version_ignores_order_and_minds_content() -> None:
    assert combine_checksums({"a": "1", "b": "2"}) == combine_checksums({"b": "2", "a": "1"})
    assert combine_checksums({"a": "1"}) != combine_checksums({"a": "2"})
