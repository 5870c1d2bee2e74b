"""One place in a pool: the replica that fills it now, its open requests, what it serves, and when it last moved.

Invariant: what the gauges say of state and versions is what the pool decided, whatever a replica reported last.
"""

from typing import Final, Literal

import msgspec

from actors import wire
from actors.launch import Launch
from engine.backend import Completion, ReplicaGauges, Request, RequestKey
from engine.swap import Hold, Target

Life = Literal["starting", "ready", "lost"]
TAKING: Final = ("ready", "cordoned", "swapping")
"""States in which requests may be sent: a replica that is being swapped keeps them until it goes on."""


class Slot:
    """`launch` is None while no replica fills it; each restart brings a new one, and answers of the old are dropped.

    `target` and `version` are what a replica that is started here must serve; the version is "", and open, until the
    first swap. `problem` ends the replica that fills it now.
    """

    def __init__(self, name: str, target: Target, now: float) -> None:
        self.name = name
        self.target = target
        self.version = ""
        self.launch: Launch | None = None
        self.open: set[RequestKey] = set()
        self.outbox: list[Request] = []
        self.is_sending = False
        self.moved_at = now
        self.asked_at = now
        self.num_steps = 0
        self.restarts = 0
        self.is_given_up = False
        self.problem = ""
        self.weights = ""
        self.versions: tuple[str, ...] = ()
        self._life: Life = "starting"
        self._hold: Hold = ""
        self._is_mixing = False
        self.gauges = ReplicaGauges(name, state="starting")

    @property
    def is_up(self) -> bool:
        """Whether a replica fills it and works."""
        return self._life == "ready"

    @property
    def is_swapping(self) -> bool:
        """Whether its replica stands still for a swap."""
        return self._hold == "swapping"

    @property
    def is_taking(self) -> bool:
        """Whether requests may be sent."""
        return self.gauges.state in TAKING

    def live(self, life: Life) -> None:
        """Enter another part of life; a replica that is not up holds nothing."""
        self._life = life
        if life != "ready":
            self.weights, self.versions = "", ()
        self._show(self.gauges)

    def hold(self, hold: Hold, *, is_mixing: bool) -> None:
        """Keep new episodes or all turns away, or no longer."""
        self._hold, self._is_mixing = hold, is_mixing
        self._show(self.gauges)

    def fill(self, info: wire.ReplicaInfo, now: float) -> None:
        """A replica is up here."""
        self.moved_at = self.asked_at = now
        self.problem = ""
        self.weights, self.versions = info.weights, (info.weights,)
        self._life = "ready"
        self._show(ReplicaGauges(self.name, slots=info.slots, kv_tokens=info.kv_tokens))

    def put(self, version: str) -> None:
        """Its replica holds this version instead of all others."""
        self.weights, self.versions = version, (version,)
        self._show(self.gauges)

    def add(self, version: str) -> None:
        """Its replica holds one version more."""
        if version not in self.versions:
            self.versions = (*self.versions, version)
            self._show(self.gauges)

    def drop(self, version: str) -> None:
        """Its replica holds one version less."""
        self.versions = tuple(one for one in self.versions if one != version)
        self._show(self.gauges)

    def serve(self, target: Target, version: str) -> None:
        """New episodes get this version, and so does a replica that is started here."""
        self.target, self.version = target, version
        if version in self.versions:
            self.weights = version
            self._show(self.gauges)

    def take(self, collected: wire.Collected, now: float) -> list[Completion]:
        """Note what a replica reports, and return the completions that are still open here.

        Engine steps and completions count as progress; requests that arrive do not.
        """
        mine = [completion for completion in collected.completions if completion.key in self.open]
        self.open.difference_update(completion.key for completion in mine)
        self._show(collected.gauges)
        if mine or collected.num_steps != self.num_steps or self.is_swapping:
            self.moved_at = now
        self.num_steps = collected.num_steps
        return mine

    def _show(self, gauges: ReplicaGauges) -> None:
        """Take over figures; state and versions are the pool's."""
        self.gauges = msgspec.structs.replace(
            gauges,
            state=self._hold if self._hold and self._life == "ready" else self._life,
            restarts=self.restarts,
            weights=self.weights or gauges.weights,
            versions=self.versions,
            is_mixing=self._is_mixing,
        )
