"""From a configuration to what is wanted of a cluster, and what is said or refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.placement import Node, Share, Wanted, assign
from engine.commands.placing import Placement, plan_placement, settle, wanted_by
from engine.config import Config, load
from engine.errors import InputError
from training.training_settings import TrainingSettings

CLUSTER = [Node("n", "n", Share(16, 4), Share(16, 4))]
EIGHT_CPUS = [Node(name, name, Share(4, 0), Share(4, 0)) for name in "ab"]


@pytest.fixture(autouse=True)
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.launch._is_cpu_build", lambda: False)


def make(ray: dict[str, Any] | None = None, shards: int = 1, **models: dict[str, Any]) -> Config:
    return load({"models": models, "ray": ray or {}, "shards": shards})


def have(monkeypatch: pytest.MonkeyPatch, gpus: float) -> None:
    share = Share(8, gpus)
    monkeypatch.setattr("actors.nodes.this_machine", lambda: [Node("", "here", share, share)])


def test_only_pools_in_use_that_are_served_here_take_room() -> None:
    config = make(
        a={"replicas": 2, "tensor_parallel": 2},
        b={"gpus": 0.5, "gpu_memory_utilization": 0.4},
        idle={},
        far={"kind": "openai", "model": "gpt"},
    )
    assert wanted_by(config, {"a", "b", "far"}, CLUSTER) == [
        Wanted("a", 2, Share(1, 2)),
        Wanted("b", 1, Share(1, 0.5)),
    ]


def test_the_models_gpus_stand_before_those_of_all_replicas() -> None:
    config = make({"gpus_per_replica": 1, "cpus_per_replica": 2}, a={}, b={"gpus": 2})
    assert wanted_by(config, {"a", "b"}, CLUSTER) == [Wanted("a", 1, Share(2, 1)), Wanted("b", 1, Share(2, 2))]


def test_on_cpu_replicas_share_the_cluster_and_those_of_a_shard_its_node() -> None:
    # A quarter of the CPUs is one pool's: of 8 for 4 replicas, with shards of 4 for 2 of them.
    assert wanted_by(make(a={"replicas": 4}), {"a"}, EIGHT_CPUS) == [Wanted("a", 4, Share(0.5, 0))]
    assert wanted_by(make(shards=2, a={"replicas": 4}), {"a"}, EIGHT_CPUS) == [Wanted("a", 4, Share(0.5, 0))]
    # Two shards on one node do not know of one another.
    assert wanted_by(make(shards=2, a={"replicas": 4}), {"a"}, EIGHT_CPUS[:1]) == [Wanted("a", 4, Share(0.5, 0))]
    assert wanted_by(make(a={"replicas": 4}), {"a"}, EIGHT_CPUS[:1]) == [Wanted("a", 4, Share(0.25, 0))]


def test_training_takes_room_beside_them() -> None:
    settings = TrainingSettings(workers=2)
    assert wanted_by(make(a={}), {"a"}, CLUSTER, settings)[1] == Wanted("training", 2, Share(1, 1))


async def test_what_has_room_is_shown_with_the_nodes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    have(monkeypatch, 4)
    placement = await settle(make(a={"replicas": 4}), {"a"})
    assert placement.node_ids == {"a": ("",) * 4} and placement.problems == []
    assert capsys.readouterr().err.splitlines() == [
        "placement on this machine",
        "  a: 4 x (1 GPU, 1 CPU), each on one node: 4 on here",
        "  wanted 4 GPUs, 4 CPUs; free 4 of 4 GPUs, 8 of 8 CPUs",
    ]


async def test_what_has_no_room_is_refused_unless_the_cluster_may_grow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    have(monkeypatch, 2)
    with pytest.raises(InputError, match="a: each of 2 must find 2 GPUs, 1 CPU on one node, got no room for 1"):
        await settle(make(a={"replicas": 2, "gpus": 2}), {"a"})
    assert "  a: 2 x (2 GPUs, 1 CPU), each on one node: here, no room for 1" in capsys.readouterr().err
    placement = await settle(make({"autoscales": True}, a={"replicas": 2, "gpus": 2}), {"a"})
    assert placement.problems and "ray.autoscales" in capsys.readouterr().err


async def test_what_has_no_room_is_refused_without_waiting_for_what_nodes_run(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make({"address": "127.0.0.1:1"}, a={"replicas": 5})
    wanted = [Wanted("a", 5, Share(1, 1))]
    plan = Placement("here", CLUSTER, wanted, assign(wanted, CLUSTER))
    asked: list[Placement] = []

    @asynccontextmanager
    async def joined(_address: str) -> AsyncIterator[None]:
        yield

    async def planned(*_arguments: Any) -> Placement:
        return plan

    async def ask(_ray: Any, placement: Placement, _models: Any) -> list[str]:
        asked.append(placement)
        return ["a node is silent"]

    for name, stand_in in (("_joined", joined), ("plan_placement", planned), ("_version_problems", ask)):
        monkeypatch.setattr(f"engine.commands.placing.{name}", stand_in)
    with pytest.raises(InputError, match="got no room for 1"):
        await settle(config, {"a"})
    assert asked == []
    with pytest.raises(InputError, match="a node is silent"):
        await settle(make({"address": "127.0.0.1:1", "autoscales": True}, a={}), {"a"})
    assert asked == [plan]


async def test_nothing_to_place_asks_no_cluster_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    config = make({"address": "127.0.0.1:1"}, far={"kind": "openai", "model": "gpt"})
    placement = await plan_placement(config, {"far"})
    assert placement.lines == [] and placement.figures()["problems"] == [] and capsys.readouterr() == ("", "")
