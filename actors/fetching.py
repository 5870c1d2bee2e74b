"""Models and data sets brought into the local cache beforehand: on this machine, or on every node of a cluster."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from actors.cluster import actor_environment, join_cluster, leave_cluster
from actors.hub import commit_of, fetch_dataset
from actors.on_nodes import NodeFailed, call_on_node
from actors.placement import node_names
from actors.processes import ProcessTable
from engine.cases.datasets import parse_dataset
from engine.errors import InputError

_PASSED: Final = ("HF_ENDPOINT", "HF_HUB_DISABLE_XET")
"""Variables that nodes get from this process; a token is never passed: each node has its own."""


class Wanted(msgspec.Struct, frozen=True):
    """One model, embedder or data set by name, and for one of the hub the revision. `max_model_len` counts tokens.

    A data set's file ends in one of `suffixes`.
    """

    name: str
    kind: Literal["model", "served", "embedder", "dataset"] = "model"
    revision: str | None = None
    max_model_len: int | None = None
    suffixes: tuple[str, ...] = ()


class Fetched(msgspec.Struct, frozen=True):
    """Where one lies now: its directory or file, its commit (None for a directory of one's own), files and bytes."""

    name: str
    path: str
    commit: str | None
    num_files: int
    num_bytes: int


class NodeAnswer(msgspec.Struct, frozen=True):
    """What came of it on one node."""

    fetched: list[Fetched]
    problems: list[str]


async def fetch_on_nodes(
    wanted: Sequence[Wanted], address: str, processes: ProcessTable, say: Callable[[str], None]
) -> dict[str, NodeAnswer]:
    """Bring all of them to each node of a cluster, at once on all nodes; return the answers by node address.

    Nodes need this code, and a token of their own for what is gated. Raises `BackendDown` when Ray is not there.
    """
    ray = await join_cluster(address, processes, say)
    try:
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        names = node_names(nodes)
        asked = (_ask(ray, node, name, wanted, say) for node, name in zip(nodes, names, strict=True))
        return dict(zip(names, await asyncio.gather(*asked), strict=True))
    finally:
        await leave_cluster(processes)


async def _ask(ray: Any, node: str, name: str, wanted: Sequence[Wanted], say: Callable[[str], None]) -> NodeAnswer:
    say(f"{name}: fetching {', '.join(one.name for one in wanted)}")
    data = msgspec.msgpack.encode(list(wanted))
    try:
        answer = await call_on_node(ray, node, _fetch_encoded, data, environment=fetch_environment())
    except NodeFailed as failed:
        return NodeAnswer([], [f"nothing was fetched: {failed}"])
    say(f"{name}: done")
    return msgspec.msgpack.decode(answer, type=NodeAnswer)


def fetch_environment() -> dict[str, str]:
    """Return what a fetching task finds in its environment: unlike replicas, it may ask the hub."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return actor_environment({"HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "0"), **passed})


def _fetch_encoded(wanted: bytes) -> bytes:
    return msgspec.msgpack.encode(fetch_all(msgspec.msgpack.decode(wanted, type=list[Wanted])))


def fetch_all(wanted: Sequence[Wanted]) -> NodeAnswer:
    """Bring all of them here; what one of them lacks keeps no other from coming."""
    fetched: list[Fetched] = []
    problems: list[str] = []
    for one in wanted:
        try:
            fetched.append(_measured(one.name, _prepare(one)))
        except InputError as refused:
            problems += refused.problems
    return NodeAnswer(fetched, problems)


def _prepare(one: Wanted) -> Path:
    from actors.embedder import prepare_embedder
    from actors.models import prepare_model

    if one.kind == "embedder":
        return prepare_embedder(one.name)
    if one.kind == "dataset":
        return fetch_dataset(parse_dataset(one.name), one.suffixes, one.revision)
    return prepare_model(one.name, one.max_model_len, needs_template=one.kind == "served", revision=one.revision)


def _measured(name: str, path: Path) -> Fetched:
    files = [path] if path.is_file() else path.rglob("*")
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return Fetched(name, str(path), commit_of(path), len(sizes), sum(sizes))
