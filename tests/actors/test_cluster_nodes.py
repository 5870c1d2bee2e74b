"""Placement on Ray nodes with declared GPUs: what is read, planned, refused, and where Ray then puts it.

A process is in one cluster at a time: these come, by name, before the tests that share one fleet for all of a run.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.cluster import join_cluster, leave_cluster
from actors.embedder import LocalEmbedder
from actors.launch import NoRoom, _find_place, resolve_share
from actors.nodes import find_room, read_nodes
from actors.placement import Node, Share, Wanted
from actors.processes import ProcessTable
from actors.spec import ModelSpec, RaySpec
from actors.wire import ReplicaStatus, encode
from tests.hub_stub import COMMIT, Hub, serve_hub
from tests.ray_nodes import ray_nodes
from tests.running import run

pytestmark = pytest.mark.timeout(300)

NODES: list[dict[str, float]] = [{"num_cpus": 8, "num_gpus": 4}, {"num_cpus": 8, "num_gpus": 4}, {"num_cpus": 8}]
DEMO = Path(__file__).parents[2] / "examples" / "demo.toml"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve_hub() as served:
        yield served


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ray_nodes(NODES, {"HF_HOME": str(tmp_path_factory.mktemp("hub"))}) as found:
        yield found


async def room(address: str, path: Path, *wanted: Wanted, wait_s: float = 0.0) -> Any:
    def wants(_nodes: Sequence[Node]) -> Sequence[Wanted]:
        return wanted

    return await find_room(address, wants, ProcessTable(path / "processes.json"), lambda _text: None, wait_s)


@pytest.mark.parametrize(
    ("counts", "missing"),
    [
        ([(1, 1.0)], 0),
        ([(2, 4.0)], 0),
        ([(4, 1.0)], 0),
        ([(4, 1.0), (1, 4.0)], 0),
        ([(2, 4.0), (1, 0.5)], 1),
        ([(3, 4.0)], 1),
        ([(1, 8.0)], 1),
    ],
)
async def test_plans_on_declared_gpus(
    address: str, tmp_path: Path, counts: list[tuple[int, float]], missing: int
) -> None:
    wanted = [Wanted(f"p{i}", count, Share(1, gpus)) for i, (count, gpus) in enumerate(counts)]
    nodes, _, found = await room(address, tmp_path, *wanted)
    assert sorted((node.total.gpus, node.total.cpus) for node in nodes) == [(0, 8), (4, 8), (4, 8)]
    assert all(node.free == node.total for node in nodes) and len({node.name for node in nodes}) == 3
    assert sum(found.missing.values()) == missing


async def test_ray_puts_replicas_where_they_were_planned_and_what_they_hold_is_not_free(
    address: str, tmp_path: Path
) -> None:
    small, large = Wanted("small", 4, Share(1, 1)), Wanted("large", 1, Share(1, 4))
    table = ProcessTable(tmp_path / "processes.json")
    ray = await join_cluster(address, table, lambda _text: None)
    held = []
    try:
        _, _, found = await room(address, tmp_path, small, large)
        for pool, spread in found.nodes.items():
            ids = tuple(node.id for node in spread)
            spec = ModelSpec(name=pool, path="/m", replicas=len(ids), gpus=4.0 if pool == "large" else 1.0, nodes=ids)
            share = resolve_share(spec, RaySpec(), {"CPU": 24, "GPU": 8})
            # One by one and the small ones first: without the plan they could have split both nodes.
            for index, planned in enumerate(ids):
                place = await _find_place(ray, spec, RaySpec(address=address), share, index, lambda _text: None)
                held.append(place)
                assert ray.util.placement_group_table(place)["bundles_to_node_id"] == {0: planned}
        assert list(found.nodes) == ["small", "large"]
        nodes = read_nodes(ray)
        async with asyncio.timeout(30):  # Ray tells what is free with a delay
            while {node.free.gpus for node in nodes} != {0}:
                nodes, _, _ = await room(address, tmp_path, Wanted("never", 1, Share(0, 99)), wait_s=0.5)
        _, _, none = await room(address, tmp_path, Wanted("more", 1, Share(0, 0.1)), wait_s=1)
        assert none.missing == {"more": 1}
    finally:
        for place in held:
            ray.util.remove_placement_group(place)
        nodes, _, again = await room(address, tmp_path, small, large, wait_s=20)
        await leave_cluster(table)
    assert not again.missing and {node.free.gpus for node in nodes} == {0, 4}


async def test_a_place_that_nobody_has_is_waited_for_and_then_said(address: str, tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "processes.json")
    ray = await join_cluster(address, table, lambda _text: None)
    spec = ModelSpec(name="large", path="/m", start_timeout_s=7, gpus=5.0)
    said: list[str] = []
    try:
        with pytest.raises(NoRoom, match=r"large/0 must find a place within 7 s, got none \(asked CPU 1, GPU 5, free"):
            await _find_place(ray, spec, RaySpec(address=address), Share(1, 5), 0, said.append)
    finally:
        await leave_cluster(table)
    assert len(said) == 1 and "large/0: waiting for a place" in said[0]  # once, as long as nothing changes


class EmbedderThere:
    """Stands for the process of an embedding model, and says on which node it is."""

    def __init__(self, _path: str, _name: str) -> None:
        pass

    def status(self) -> bytes:
        return encode(ReplicaStatus("ready", ()))

    def node(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())


async def test_the_embedder_runs_where_its_directory_was_looked_up(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.embedder.EmbedderActor", EmbedderThere)
    table = ProcessTable(tmp_path / "processes.json")
    ray = await join_cluster(address, table, lambda _text: None)
    made = [LocalEmbedder("minilm", RaySpec(address=address), table, lambda _text: None) for _ in range(4)]
    try:
        for one in made:
            await one.start()
        found = {await one._actor.node.remote() for one in made}
        assert found == {ray.get_runtime_context().get_node_id()}
    finally:
        for one in made:
            await one.close()
        await leave_cluster(table)


def test_the_command_shows_the_plan_and_refuses_in_time(address: str, tmp_path: Path) -> None:
    where = f'ray.address="{address}"'
    shown = run("generate", DEMO, "--dry-run", where, "models.base.gpus=4", "models.base.replicas=2")
    assert f"# placement on the cluster at {address}" in shown
    assert "#   base: 2 x (4 GPUs, 1 CPU), each on one node: 127.0.0.1 " in shown
    assert "#   wanted 8 GPUs, 2 CPUs; free 8 of 8 GPUs, 24 of 24 CPUs" in shown and "cannot" not in shown
    begun = time.monotonic()
    out = tmp_path / "run"
    refused = run("generate", DEMO, where, "models.base.gpus=4", "models.base.replicas=3", "--out", out, expect=2)
    assert time.monotonic() - begun < 30  # ten of them from joining on; the rest is Python starting
    assert "base: each of 3 must find 4 GPUs, 1 CPU on one node, got no room for 1 (wanted in all 12 GPUs" in refused
    assert refused.count("4 of 4 GPUs, 8 of 8 CPUs on 127.0.0.1 ") == 2 and not out.exists()


def test_models_are_fetched_once_per_node(address: str, tmp_path: Path, hub: Hub) -> None:
    config = tmp_path / "c.toml"
    models = '[models.a]\nmodel = "org/tiny"\nmax_model_len = 2048\n[models.b]\nmodel = "org/gated"\n'
    config.write_text(f'[ray]\naddress = "{address}"\n{models}')
    said = run("fetch", config, expect=2, env={"HF_ENDPOINT": hub.url, "HF_TOKEN": ""})
    assert said.count("org/gated is gated: accept its licence at https://huggingface.co/org/gated") == len(NODES)
    config.write_text(f'[ray]\naddress = "{address}"\n[models.a]\nmodel = "org/tiny"\nmax_model_len = 2048\n')
    done = run("fetch", config, env={"HF_ENDPOINT": hub.url})
    lines = done.splitlines()
    assert len(lines) == len(NODES)
    assert all(f"org/tiny at {COMMIT[:12]}: 4 files" in line for line in lines)
    # The nodes of this test share one cache: what one has brought, the others find.
    assert len([name for name in hub.downloads() if name == "model.safetensors"]) <= len(NODES)
