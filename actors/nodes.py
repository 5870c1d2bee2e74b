"""The nodes that replicas can be placed on, read off Ray or off this machine."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from actors.cluster import import_ray, join_cluster, leave_cluster
from actors.placement import Assignment, Node, Share, Wanted, assign, node_names
from actors.processes import ProcessTable

_ASK_EVERY_S: Final = 0.5

Wants = Callable[[Sequence[Node]], Sequence[Wanted]]
"""What is wanted of a cluster of these nodes."""


def this_machine() -> list[Node]:
    """Return this machine as a Ray that is started here would count it; nothing is started."""
    try:
        import_ray(None)
        from ray._private.resource_and_label_spec import ResourceAndLabelSpec

        found = ResourceAndLabelSpec().resolve(is_head=True)
        share = Share(float(found.num_cpus), float(found.num_gpus))
    except (ImportError, AttributeError, TypeError):  # no Ray here, or one that keeps this elsewhere
        share = Share(float(os.cpu_count() or 1), 0.0)
    return [Node("", "this machine", share, share)]


def read_nodes(ray: Any) -> list[Node]:
    """Return the live nodes of the Ray that this process is connected to."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    free = _free_resources()
    names = node_names({node["NodeID"]: node["NodeManagerAddress"] for node in alive})
    return [
        Node(node["NodeID"], name, _share(free.get(node["NodeID"], node["Resources"])), _share(node["Resources"]))
        for node, name in zip(alive, names, strict=True)
    ]


def totals(nodes: Sequence[Node]) -> dict[str, float]:
    """Return what nodes have in all, by Ray's names."""
    return {"CPU": sum(node.total.cpus for node in nodes), "GPU": sum(node.total.gpus for node in nodes)}


async def find_room(
    address: str, wants: Wants, processes: ProcessTable, say: Callable[[str], None], wait_s: float
) -> tuple[list[Node], Sequence[Wanted], Assignment]:
    """Join a cluster, look for room for what is wanted until there is some or the wait (s) is over, and leave it.

    What would have no room even if all of it were free is not waited for.
    Raises `BackendDown` when Ray cannot be reached.
    """
    ray = await join_cluster(address, processes, say)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            nodes = await asyncio.to_thread(read_nodes, ray)
            wanted = wants(nodes)
            found = assign(wanted, nodes)
            is_hopeless = bool(assign(wanted, [_emptied(node) for node in nodes]).missing)
            if not found.missing or is_hopeless or time.monotonic() > deadline:
                return nodes, wanted, found
            await asyncio.sleep(_ASK_EVERY_S)
    finally:
        await leave_cluster(processes)


def _emptied(node: Node) -> Node:
    return Node(node.id, node.name, node.total, node.total)


def _free_resources() -> Mapping[str, Mapping[str, float]]:
    """Return what is free by node, nothing where Ray does not tell (a client of a remote one): then all counts."""
    try:
        from ray._private.state import available_resources_per_node

        found: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    except Exception:  # noqa: BLE001  a private function: whatever goes wrong, what a node has at all is known
        return {}
    return found


def _share(resources: Mapping[str, float]) -> Share:
    return Share(resources.get("CPU", 0.0), resources.get("GPU", 0.0))
