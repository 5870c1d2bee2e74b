"""Where the replicas of a configuration will run: shown before anything starts, refused where there is no room."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from engine.config import Config
from engine.config_sections import VllmConfig
from engine.errors import InputError
from engine.tables import say

if TYPE_CHECKING:
    from actors.placement import Assignment, Node, Wanted
    from training.training_settings import TrainingSettings

WAIT_S: Final = 5.0
"""How long what is held is waited for: Ray takes seconds to free what a driver that was just ended held."""


class Placement:
    """A plan of where replicas go: what is wanted, the nodes there are, and the node of each replica."""

    def __init__(self, where: str, nodes: "list[Node]", wanted: "Sequence[Wanted]", found: "Assignment") -> None:
        self._where, self._nodes, self._wanted, self._found = where, nodes, wanted, found

    @property
    def lines(self) -> list[str]:
        """The plan for people; empty when nothing is placed."""
        from actors.placement import plan_lines

        return plan_lines(self._where, self._wanted, self._nodes, self._found) if self._wanted else []

    @property
    def problems(self) -> list[str]:
        """One sentence for each pool that finds no room."""
        from actors.placement import shortages

        return shortages(self._wanted, self._nodes, self._found)

    @property
    def takers(self) -> "list[Node]":
        """The nodes that are large enough for some of what is wanted, free or not: a replacement may come there."""
        return [node for node in self._nodes if any(one.share.fits(node.total) for one in self._wanted)]

    @property
    def node_ids(self) -> dict[str, tuple[str, ...]]:
        """The id of each replica's node by pool, "" for this machine and where there was no room."""
        return {pool: tuple(node.id if node else "" for node in nodes) for pool, nodes in self._found.nodes.items()}

    def figures(self) -> dict[str, Any]:
        """The plan for machines."""
        import msgspec

        parts = {"where": self._where, "nodes": self._nodes, "wanted": self._wanted, "problems": self.problems}
        names = {pool: [node and node.name for node in nodes] for pool, nodes in self._found.nodes.items()}
        found: dict[str, Any] = msgspec.to_builtins({**parts, "assignment": names})
        return found


async def plan_placement(
    config: Config, pools: Collection[str], training: "TrainingSettings | None" = None, wait_s: float = 0.0
) -> Placement:
    """Plan where the named pools go, and training beside them: on the cluster, or on this machine as Ray counts it.

    What others hold is waited for so long (s), in case it becomes free. Raises `BackendDown` when the cluster cannot
    be reached.
    """
    from actors.nodes import find_room, this_machine
    from actors.placement import Assignment, assign
    from actors.processes import ProcessTable

    address = config.ray.address

    def wants(nodes: "Sequence[Node]") -> "list[Wanted]":
        return wanted_by(config, pools, nodes, training)

    if not wants([]):
        return Placement("", [], [], Assignment({}))
    if address is None:
        nodes = this_machine()
        wanted = wants(nodes)
        return Placement("this machine", nodes, wanted, assign(wanted, nodes))
    with TemporaryDirectory(prefix="sandplay-") as scratch:
        table = ProcessTable(Path(scratch) / "processes.json")
        return Placement(f"the cluster at {address}", *await find_room(address, wants, table, say, wait_s))


def wanted_by(
    config: Config, pools: Collection[str], nodes: "Sequence[Node]", training: "TrainingSettings | None" = None
) -> "list[Wanted]":
    """Return what pools, and training beside them, take of a cluster of these nodes."""
    from actors.crew import ray_spec, spec_of
    from actors.launch import resolve_share
    from actors.nodes import totals
    from actors.placement import TRAINING, Share, Wanted

    where = ray_spec(config.ray)
    # A shard shares out what its own node has: here the mean of all.
    parts = len(nodes) if config.shards > 1 and nodes else 1
    cluster = {kind: amount / parts for kind, amount in totals(nodes).items()}
    found = []
    for name, model in config.models.items():
        if isinstance(model, VllmConfig) and name in pools:
            spec = spec_of(name, model, Path(), 0, -(-model.replicas // config.shards))
            found.append(Wanted(name, model.replicas, resolve_share(spec, where, cluster)))
    if training is not None:
        from training.pool import resolve_share as resolve_training

        share = resolve_training(training, cluster)
        found.append(Wanted(TRAINING, training.workers, Share(share["CPU"], share.get("GPU", 0.0))))
    return found


async def settle(
    config: Config,
    pools: Collection[str],
    training: "TrainingSettings | None" = None,
    models: Mapping[str, Path] | None = None,
) -> Placement:
    """Plan, say the plan, and return it; `models` are directories that every node must have.

    Raises `InputError` where there is no room, unless the cluster may grow, and where nodes differ in what they run.
    """
    if config.ray.address is None or not wanted_by(config, pools, [], training):
        placement, problems = await plan_placement(config, pools, training, WAIT_S), []
    else:
        async with _joined(config.ray.address) as ray:
            placement = await plan_placement(config, pools, training, WAIT_S)
            # A silent node takes a minute to be given up: what has no room anyway is refused in seconds.
            is_refused = bool(placement.problems) and not config.ray.autoscales
            problems = [] if is_refused else await _version_problems(ray, placement, models or {})
    for line in placement.lines:
        say(line)
    if problems:
        raise InputError(problems)
    if problems := placement.problems:
        if not config.ray.autoscales:
            raise InputError(problems)
        say("  no room for all of it yet: the cluster is asked to grow (ray.autoscales)")
    return placement


@asynccontextmanager
async def _joined(address: str) -> AsyncIterator[Any]:
    """Give the `ray` module, connected to the cluster. Raises `BackendDown` when it cannot be reached."""
    from actors.cluster import join_cluster, leave_cluster
    from actors.processes import ProcessTable

    with TemporaryDirectory(prefix="sandplay-") as scratch:
        table = ProcessTable(Path(scratch) / "processes.json")
        ray = await join_cluster(address, table, say)
        try:
            yield ray
        finally:
            await leave_cluster(table)


async def _version_problems(ray: Any, placement: Placement, models: Mapping[str, Path]) -> list[str]:
    """Return what differs between this machine and the nodes that could take something; the table is said then."""
    from actors.versions import ask_nodes, read_here, version_problems, version_table

    here, nodes = read_here(models), await ask_nodes(ray, placement.takers, models)
    problems = version_problems(here, nodes)
    for line in version_table(here, nodes) if problems else ():
        say(line)
    return problems
