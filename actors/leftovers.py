"""Ending a replica's processes on whatever node they run, and remembering those that cannot be reached.

A node that is lost may only be cut off, and come back with engines that nobody owns. Their records stay in the run's
process table until a node of that host name is there again. A pid is only acted upon by its own host.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from actors.on_nodes import NodeFailed, call_on_node
from actors.processes import ProcessRecord, ProcessTable, end_processes

LOST: Final = "lost"
"""What records are kept under whose host no live node has."""
_WITHIN_S: Final = 20.0


async def end_everywhere(ray: Any, processes: ProcessTable, replica: str) -> None:
    """End what is recorded of a replica, here and on other nodes, and forget it; what cannot be reached is `LOST`."""
    await asyncio.to_thread(processes.end, replica)
    far = processes.of(replica)
    if not far:
        return
    lost = await _end_far(ray, far)
    processes.put(replica, [])
    if lost:
        kept = processes.of(LOST)
        processes.put(LOST, [*kept, *(record for record in map(_as_lost, lost) if record not in kept)])


async def end_before_start(ray: Any, processes: ProcessTable, replica: str) -> None:
    """End what an earlier replica of that name left, and what was lost with hosts that are there again."""
    await end_everywhere(ray, processes, replica)
    if lost := processes.of(LOST):
        still = await _end_far(ray, lost)
        # Others may have added some meanwhile.
        processes.put(LOST, [record for record in processes.of(LOST) if record not in lost or record in still])


def _as_lost(record: ProcessRecord) -> ProcessRecord:
    return msgspec.structs.replace(record, replica=LOST)


async def _end_far(ray: Any, records: Sequence[ProcessRecord]) -> list[ProcessRecord]:
    """End processes on the nodes of their hosts; return the records of those that could not be reached."""
    nodes = {node["NodeManagerHostname"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}
    by_host: dict[str, list[ProcessRecord]] = {}
    for record in records:
        by_host.setdefault(record.host, []).append(record)
    ended = await asyncio.gather(*(_end_on(ray, nodes.get(host), group) for host, group in by_host.items()))
    return [record for group, is_done in zip(by_host.values(), ended, strict=True) if not is_done for record in group]


async def _end_on(ray: Any, node: str | None, records: list[ProcessRecord]) -> bool:
    if node is None:
        return False
    try:
        await call_on_node(ray, node, end_processes, records, within_s=_WITHIN_S)
    except NodeFailed:  # it went just now
        return False
    return True
