"""Where replicas find room: free nodes and what is wanted in, an assignment or what is short out; pure.

First-fit decreasing: the largest first, each onto the first node that has room. Where GPUs are what is short, it finds
room for all whenever there is some as long as every size divides the next larger one (1, 2, 4, 8); with other sizes it
may overlook it. A part of a GPU lies within one GPU.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

TRAINING: Final = "training"
"""What is wanted for training workers is called so."""

_UNITS: Final = 10_000
"""Ray counts resources in ten-thousandths."""
_MAX_NODES: Final = 8


class Share(msgspec.Struct, frozen=True):
    """An amount of a cluster, in Ray's units: what one replica takes, or what a node has."""

    cpus: float
    gpus: float

    def fits(self, room: "Share") -> bool:
        """Whether there is at least as much of everything."""
        return self.cpus <= room.cpus and self.gpus <= room.gpus


class Node(msgspec.Struct, frozen=True):
    """One node: Ray's id ("" for this machine), what people call it, what is free there, and what it has at all."""

    id: str
    name: str
    free: Share
    total: Share


class Wanted(msgspec.Struct, frozen=True):
    """A pool's replicas: how many, and what each takes on one node."""

    pool: str
    count: int
    share: Share


class Assignment(msgspec.Struct, frozen=True):
    """The node of each replica by pool, in their order; None for one that finds no room."""

    nodes: dict[str, list[Node | None]]

    @property
    def missing(self) -> dict[str, int]:
        """How many replicas of a pool find no room; pools without such are left out."""
        return {pool: count for pool, nodes in self.nodes.items() if (count := nodes.count(None))}


def assign(wanted: Sequence[Wanted], nodes: Sequence[Node]) -> Assignment:
    """Return where everything goes, as far as there is room. Nodes are tried in their order."""
    rooms = [(node, _Room(node.free)) for node in nodes]
    found: dict[str, list[Node | None]] = {one.pool: [] for one in wanted}
    for one in sorted(wanted, key=lambda one: (-one.share.gpus, -one.share.cpus)):
        places = (next((node for node, room in rooms if room.take(one.share)), None) for _ in range(one.count))
        found[one.pool] += places
    return Assignment(found)


class _Room:
    """What is left of a node, each GPU by itself: Ray tells only the sum, so at most one is taken to be in part use."""

    def __init__(self, free: Share) -> None:
        whole, part = divmod(_units(free.gpus), _UNITS)
        self._cpus = _units(free.cpus)
        self._gpus = [part, *[_UNITS] * whole]

    def take(self, share: Share) -> bool:
        """Take a share if all of it is there; return whether it was."""
        cpus, gpus = _units(share.cpus), _units(share.gpus)
        places = self._whole(gpus // _UNITS) if gpus >= _UNITS else self._part(gpus)
        if cpus > self._cpus or places is None:
            return False
        self._cpus -= cpus
        for place in places:
            self._gpus[place] -= min(gpus, _UNITS)
        return True

    def _whole(self, count: int) -> list[int] | None:
        free = [place for place, left in enumerate(self._gpus) if left == _UNITS]
        return free[:count] if len(free) >= count else None

    def _part(self, gpus: int) -> list[int] | None:
        if not gpus:
            return []
        # The fullest first, so that whole ones stay whole.
        fitting = [place for place, left in enumerate(self._gpus) if left >= gpus]
        return [min(fitting, key=self._gpus.__getitem__)] if fitting else None


def _units(amount: float) -> int:
    return round(amount * _UNITS)


# ---------------------------------------------------------------- in words


def total_of(wanted: Sequence[Wanted]) -> Share:
    """Return what all of it takes together."""
    return sum_shares([one.share for one in wanted for _ in range(one.count)])


def sum_shares(shares: Sequence[Share]) -> Share:
    """Return several shares as one, in the ten-thousandths that Ray counts in."""
    cpus, gpus = (sum(_units(getattr(share, kind)) for share in shares) / _UNITS for kind in ("cpus", "gpus"))
    return Share(cpus, gpus)


def plan_lines(where: str, wanted: Sequence[Wanted], nodes: Sequence[Node], assignment: Assignment) -> list[str]:
    """Return the plan for people: one line per pool, then what is wanted and what is free."""
    lines = [
        f"  {one.pool}: {one.count} x ({amounts(one.share)}), each on one node: {_places(assignment.nodes[one.pool])}"
        for one in wanted
    ]
    free, total = (sum_shares(shares) for shares in ([node.free for node in nodes], [node.total for node in nodes]))
    return [f"placement on {where}", *lines, f"  wanted {amounts(total_of(wanted))}; free {_of(free, total)}"]


def shortages(wanted: Sequence[Wanted], nodes: Sequence[Node], assignment: Assignment) -> list[str]:
    """Return one sentence for each pool that finds no room for all its replicas, with what is free on each node."""
    found = []
    for one in wanted:
        if missing := assignment.missing.get(one.pool, 0):
            rule = (
                f"{one.pool}: each of {one.count} must find {amounts(one.share)} on one node, got no room for {missing}"
            )
            sums = f"wanted in all {amounts(total_of(wanted))}; free {_free(nodes)}"
            found.append(f"{rule} ({sums}): {_remedy(one, nodes)}")
    return found


def _free(nodes: Sequence[Node]) -> str:
    """Name the nodes that have most, with what is free on each."""
    ordered = sorted(nodes, key=lambda node: (-node.free.gpus, -node.free.cpus))
    named = [f"{_of(node.free, node.total)} on {node.name}" for node in ordered[:_MAX_NODES]]
    more = len(nodes) - len(named)
    return "; ".join([*named, *([f"no more on {more} others"] if more else [])]) or "nowhere: there is no node"


def _remedy(one: Wanted, nodes: Sequence[Node]) -> str:
    if not any(one.share.fits(node.total) for node in nodes):
        keys = "training.gpus_per_worker" if one.pool == TRAINING else "tensor_parallel, gpus, cpus_per_replica"
        return f"no node is as large as one of them: lower what each takes ({keys})"
    return "lower their number or what each takes, or free what others hold"


def amounts(share: Share) -> str:
    """Return a share in words."""
    kinds = ((share.gpus, "GPU"), (share.cpus, "CPU"))
    return ", ".join(f"{amount:g} {kind}{'' if amount == 1 else 's'}" for amount, kind in kinds)


def _of(free: Share, total: Share) -> str:
    return f"{free.gpus:g} of {total.gpus:g} GPUs, {free.cpus:g} of {total.cpus:g} CPUs"


def _places(nodes: Sequence[Node | None]) -> str:
    counts = Counter(node.name for node in nodes if node is not None)
    found = [name if count == 1 else f"{count} on {name}" for name, count in counts.items()]
    missing = len(nodes) - counts.total()
    return ", ".join([*found, *([f"no room for {missing}"] if missing else [])])


def node_names(addresses: Mapping[str, str]) -> list[str]:
    """Return what nodes are called, given their addresses by id: two on one machine are told apart by their ids."""
    shared = Counter(addresses.values())
    return [address if shared[address] == 1 else f"{address} {node[:8]}" for node, address in addresses.items()]
