"""Swaps of two real replicas that meet what breaks them: files that go, a replica that dies, one that refuses."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from actors.fleet import Fleet
from actors.processes import ProcessTable
from actors.spec import RaySpec
from engine.views import View
from tests.actors.checkpoints import make_adapter, make_full
from tests.actors.conftest import make_request, make_spec, play
from tests.actors.test_fleet_faults import process_of

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]
VIEW = View.of("You are a patient called Sam. You feel sad. " * 4).hear("Tell a long story about your week.")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    processes = ProcessTable(tmp_path_factory.mktemp("pair") / "processes.json")
    spec = make_spec(model_path, "pair", replicas=2, max_lora_rank=8, max_restarts=20)
    fleet = Fleet(spec, RaySpec(), processes, lambda _text: None)
    await fleet.start()
    yield fleet
    await fleet.close()
    assert processes.records == ()


async def greedy(fleet: Fleet, path: str) -> dict[str, tuple[bytes, str]]:
    """Return what each replica samples greedily, and under which version."""
    requests = [
        make_request(VIEW, f"{path}/{n}", max_tokens=12, temperature=0.0, replica=f"pair/{n}") for n in range(2)
    ]
    done = await play(fleet, *requests)
    await fleet.forget("episode")
    replies = [one.reply for one in done if one.reply is not None]
    return {reply.replica: (reply.token_ids, reply.weights) for reply in replies}


def quiet(_text: str) -> None:
    pass


async def require_unchanged(fleet: Fleet, before: dict[str, tuple[bytes, str]], path: str) -> None:
    assert [gauges.state for gauges in fleet.replicas()] == ["ready", "ready"]
    assert await greedy(fleet, path) == before and len(before) == 2


async def test_two_replicas_take_a_checkpoint_one_after_the_other_and_go_back(
    pair: Fleet, model_path: Path, tmp_path: Path
) -> None:
    before = await greedy(pair, "start")
    full = make_full(model_path, tmp_path / "r1")
    states: set[tuple[str, ...]] = set()
    swapping = asyncio.ensure_future(pair.swap(full, "finish_on_old", quiet))
    while not swapping.done():
        states.add(tuple(gauges.state for gauges in pair.replicas()))
        collecting = asyncio.ensure_future(pair.collect())
        await asyncio.wait([swapping, collecting], return_when=asyncio.FIRST_COMPLETED)
        collecting.cancel()
    report = await swapping
    assert report.is_done and report.paused_s == 0
    assert all("ready" in state for state in states)
    after = await greedy(pair, "swapped")
    assert {version for _, version in after.values()} == {report.after}
    assert len({ids for ids, _ in after.values()}) == 1 and after != before
    assert (await pair.swap(None, "finish_on_old", quiet)).is_done
    await require_unchanged(pair, before, "back")


async def test_files_that_go_while_the_second_replica_loads_bring_the_old_weights_back(
    pair: Fleet, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await greedy(pair, "before deletion")
    full = make_full(model_path, tmp_path / "r1")
    pause: Any = pair._swapping.pause

    async def delete(name: str) -> None:
        await pause(name)
        if name == "pair/1":
            (full / "model.safetensors").unlink()

    monkeypatch.setattr(pair._swapping, "pause", delete)
    report = await pair.swap(full, "finish_on_old", quiet)
    assert report.failure is not None and (report.failure.kind, report.failure.replica) == ("refused", "pair/1")
    await require_unchanged(pair, before, "after deletion")


async def test_an_adapter_whose_files_go_is_refused_and_nothing_changes(
    pair: Fleet, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await greedy(pair, "before adapter")
    adapter = make_adapter(model_path, tmp_path / "r1")
    add: Any = pair._swapping.add

    async def delete(name: str, target: Any) -> str:
        if name == "pair/1":
            (adapter / "adapter_model.safetensors").write_bytes(b"")
        version: str = await add(name, target)
        return version

    monkeypatch.setattr(pair._swapping, "add", delete)
    report = await pair.swap(adapter, "mix", quiet)
    assert report.failure is not None
    await require_unchanged(pair, before, "after adapter")


async def test_a_replica_that_dies_while_it_loads_brings_the_old_weights_back(
    pair: Fleet, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await greedy(pair, "before death")
    full = make_full(model_path, tmp_path / "r1")
    pause: Any = pair._swapping.pause

    async def kill(name: str) -> None:
        await pause(name)
        if name == "pair/1":
            process_of(pair, name, "actor").kill()

    monkeypatch.setattr(pair._swapping, "pause", kill)
    report = await pair.swap(full, "finish_on_old", quiet)
    assert report.failure is not None and (report.failure.kind, report.failure.replica) == ("lost", "pair/1")
    await require_unchanged(pair, before, "after death")
