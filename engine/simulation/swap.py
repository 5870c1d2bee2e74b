"""Swapping the weights of simulated replicas: the steps take time, and any of them can be made to fail.

What a replica serves is a name; nothing is read. Loading takes `load_s`, during which the replica stands still as a
real one does; an adapter is added beside in `add_s` while it goes on.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from engine.backend import ReplicaGauges
from engine.residents import Residents
from engine.simulation.faults import Fault
from engine.simulation.jobs import Tokens
from engine.simulation.latency import PICOSECONDS
from engine.simulation.replica import Replica
from engine.swap import Hold, ReplicaFailed, SwapFailure, Target

CANARY_S: Final = 0.05
"""Time of one token on a replica that does nothing else."""

Inject: TypeAlias = Callable[[str, str], None]
"""Called with (step, replica) as each step of a swap begins; may raise `ReplicaFailed`, or kill the replica."""


class SwapTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: to read and check whole weights, to add an adapter, to start a replica again."""

    load_s: float = 5.0
    add_s: float = 0.1
    restart_s: float = 60.0


class Place:
    """What one replica holds. `loads` are the versions that were put in place, oldest first."""

    def __init__(self, version: str) -> None:
        self.hold: Hold = ""
        self.is_mixing = False
        self.weights = version
        self.versions: tuple[str, ...] = (version,)
        self.served = version
        self.loads = [version]
        self._first = (version,)

    @property
    def is_plain(self) -> bool:
        """Whether it is as it was at the start."""
        return not self.hold and not self.is_mixing and len(self.loads) == 1 and self.versions == self._first

    def put(self, version: str) -> None:
        """Replace all that it holds."""
        self.weights, self.versions = version, (version,)
        self.loads.append(version)

    def chosen(self, wanted: str) -> str:
        """Return the version that a request is sampled under."""
        return wanted if wanted in self.versions and not self.is_mixing else self.weights

    def shown(self, gauges: ReplicaGauges) -> ReplicaGauges:
        """Return a replica's gauges with what the pool knows of it."""
        state = self.hold if self.hold and gauges.state == "ready" else gauges.state
        return msgspec.structs.replace(
            gauges, state=state, weights=self.weights, versions=self.versions, is_mixing=self.is_mixing
        )


class Salted:
    """A prompt under one version: nothing of it is found under another."""

    def __init__(self, tokens: Tokens, salt: object) -> None:
        self._tokens = tokens
        self._salt = hash(salt)
        self.num_tokens = tokens.num_tokens
        self.hashes = self._salted(tokens.hashes)

    def grown(self, num_made: int) -> Sequence[int]:
        """Return the hashes of the full blocks of the prompt and `num_made` completion tokens."""
        return self._salted(self._tokens.grown(num_made))

    def _salted(self, hashes: Sequence[int]) -> Sequence[int]:
        return [hash((self._salt, one)) for one in hashes]


class Simulated(Protocol):
    """What a swap needs of a simulated pool."""

    engines: list[Replica]
    places: list[Place]
    residents: Residents

    def act(self, number: int, act: Callable[[int], None]) -> None:
        """Let time pass on a replica, do something there, and show what came of it."""

    def is_asked(self, number: int) -> bool:
        """Whether requests of a replica are open."""


class SimulatedSwap:
    """Implements `engine.swap.Swappable`."""

    def __init__(self, pool: Simulated, times: SwapTimes, inject: Inject | None = None) -> None:
        self._pool = pool
        self._times = times
        self._inject = inject
        self._index = {engine.name: number for number, engine in enumerate(pool.engines)}
        self._retiring: set[asyncio.Task[None]] = set()

    def names(self) -> Sequence[str]:
        """Return all replicas."""
        return list(self._index)

    def version(self, name: str) -> str:
        """Return the newest version, "" while the replica is down."""
        return self._place(name).weights if self._is_up(name) else ""

    def versions(self, name: str) -> Sequence[str]:
        """Return all versions held."""
        return self._place(name).versions if self._is_up(name) else ()

    def hold(self, name: str, hold: Hold, *, is_mixing: bool = False) -> None:
        """Change what the replica takes."""
        place = self._place(name)
        place.hold, place.is_mixing = hold, is_mixing
        self._show(name)

    async def until_up(self, name: str) -> bool:
        """Return true once the replica is up."""
        await self._pool.residents.until(lambda: self._is_up(name))
        return True

    async def until_free(self, name: str) -> bool:
        """Return true once it is up and nobody lives there."""
        number, residents = self._index[name], self._pool.residents
        await residents.until(
            lambda: self._is_up(name) and not residents.num_on(name) and not self._pool.is_asked(number)
        )
        return True

    async def pause(self, name: str) -> None:
        """Stop after the step at hand."""
        self._begin("pause", name)
        engine = self._engine(name)
        self._pool.act(self._index[name], engine.pause)
        while (at := engine.pauses_at) is not None:
            # A little late: a picosecond early would be no time at all to the loop.
            await asyncio.sleep(max(at / PICOSECONDS - asyncio.get_running_loop().time(), 0.0) + 1e-6)
            self._show(name)

    async def load(self, name: str, target: Target) -> str:
        """Read weights for a while."""
        self._begin("load", name)
        await asyncio.sleep(self._times.load_s)
        self._require_up(name)
        self._place(name).put(version_of(target))
        self._begin("loaded", name)
        return version_of(target)

    async def resume(self, name: str) -> None:
        """Go on with what was kept."""
        self._begin("resume", name)
        self._pool.act(self._index[name], self._engine(name).resume)

    async def add(self, name: str, target: Target) -> str:
        """Read an adapter for a while."""
        self._begin("add", name)
        await asyncio.sleep(self._times.add_s)
        self._require_up(name)
        place, version = self._place(name), version_of(target)
        if version not in place.versions:
            place.versions = (*place.versions, version)
        self._begin("added", name)
        return version

    async def canary(self, name: str, version: str) -> None:
        """Take the time of a token."""
        self._begin("canary", name)
        await asyncio.sleep(CANARY_S)
        self._require_up(name)

    def serve(self, name: str, target: Target, version: str) -> None:
        """Make a version the newest, and what a restart comes up on."""
        place = self._place(name)
        place.served = version
        if version in place.versions:
            place.weights = version
        self._show(name)

    def retire(self, name: str, version: str) -> None:
        """Drop a version with its last episode."""
        task = asyncio.ensure_future(self._retire(name, version))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, name: str, version: str) -> None:
        residents, place = self._pool.residents, self._place(name)
        await residents.until(lambda: not residents.num_on(name, version) or version not in place.versions)
        place.versions = tuple(one for one in place.versions if one != version or one == place.weights)
        self._show(name)

    async def restart(self, name: str, target: Target, version: str, reason: str) -> None:
        """Let the replica die and come back on this version."""
        self._place(name).served = version
        self.kill(name, self._times.restart_s)
        await self.until_up(name)

    def kill(self, name: str, duration_s: float) -> None:
        """Let a replica that is up die now, for so long."""
        engine, now = self._engine(name), asyncio.get_running_loop().time()
        if engine.state == "ready":
            fault = Fault(at_s=now, replica=self._index[name], kind="death", duration_s=duration_s)
            self._pool.act(self._index[name], lambda _: engine.schedule(fault))

    def _begin(self, step: str, name: str) -> None:
        if self._inject is not None:
            self._inject(step, name)
        self._require_up(name)

    def _require_up(self, name: str) -> None:
        if not self._is_up(name):
            raise ReplicaFailed(SwapFailure("lost", "died", name))

    def _is_up(self, name: str) -> bool:
        return self._engine(name).state == "ready"

    def _engine(self, name: str) -> Replica:
        return self._pool.engines[self._index[name]]

    def _place(self, name: str) -> Place:
        return self._pool.places[self._index[name]]

    def _show(self, name: str) -> None:
        self._pool.act(self._index[name], lambda _: None)


def version_of(target: Target) -> str:
    """Return the version that stands for a target."""
    return f"{target.weights}/{target.adapter}" if target.adapter else target.weights
