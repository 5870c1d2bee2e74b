"""The words of a swap of served weights: policies, targets, reports, and what a pool must be able to do for one.

Policies for live episodes: `finish_on_old` lets them end where they are, or go on with another replica of their
version; `drain` starts no episode anywhere until all have ended; `mix` lets them go on under the new weights. The steps
themselves are in `engine.swapping`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from engine.checkpoints import CheckpointError

SwapPolicy = Literal["finish_on_old", "drain", "mix"]
Hold = Literal["", "cordoned", "swapping"]
FailureKind = Literal[
    "refused",  # the replica could not load it; what its engine holds is not known
    "mismatch",  # it was loaded, and is not what the other replicas hold
    "canary",  # it was loaded, and makes no token
    "timeout",  # the replica did not answer in time
    "lost",  # the replica died
]


class SwapFailure(msgspec.Struct, frozen=True):
    """Why a swap came to nothing."""

    kind: FailureKind
    message: str
    replica: str = ""


class ReplicaFailed(Exception):
    """A step of a swap failed on one replica; carries the failure."""

    def __init__(self, failure: SwapFailure) -> None:
        self.failure = failure
        super().__init__(f"{failure.kind}: {failure.message}")


class Target(msgspec.Struct, frozen=True):
    """What a replica is to serve: a directory of whole weights, and an adapter upon them ("" for none)."""

    weights: str
    adapter: str = ""


class ReplicaSwap(msgspec.Struct):
    """What one replica went through; seconds. `waited_s` is from the cordon until nobody was in the way, `stalled_s`
    the time without generation, `loaded_s` of it the reading and checking of files. `after` is "" if it never served
    the new version.
    """

    replica: str
    before: str = ""
    after: str = ""
    waited_s: float = 0.0
    stalled_s: float = 0.0
    loaded_s: float = 0.0
    failure: SwapFailure | None = None


class SwapReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a swap came to; seconds. `paused_s` is how long no replica took new episodes. `after` is what is served."""

    policy: SwapPolicy
    target: Target
    before: str
    after: str
    elapsed_s: float
    paused_s: float = 0.0
    replicas: tuple[ReplicaSwap, ...] = ()
    failure: SwapFailure | None = None

    @property
    def is_done(self) -> bool:
        """Whether the new version is served."""
        return self.failure is None

    @property
    def stalled_s(self) -> float:
        """The longest that one replica stood still."""
        return max((row.stalled_s for row in self.replicas), default=0.0)


class SwapFailed(CheckpointError):
    """A checkpoint that the replicas would not serve: the old one is served on. Carries the report."""

    def __init__(self, report: SwapReport) -> None:
        self.report = report
        failure = report.failure
        assert failure is not None
        where = f"{failure.replica}: " if failure.replica else ""
        super().__init__(f"{where}{failure.kind}: {failure.message}; version {report.before[:12]} is served on")


@runtime_checkable
class SwapPool(Protocol):
    """A pool whose weights can be swapped."""

    async def swap(self, checkpoint: Path | None, policy: SwapPolicy, say: Callable[[str], None]) -> SwapReport:
        """Serve a checkpoint, None for the model itself. Raises InputError before anything is touched."""


class Swappable(Protocol):
    """A pool's replicas, as a swap handles them. Steps raise `ReplicaFailed`; `version` is the newest a replica has."""

    def names(self) -> Sequence[str]:
        """Return the replicas that take part: all but those given up."""

    def version(self, name: str) -> str:
        """Return the version that new episodes get on a replica, "" while it is down."""

    def versions(self, name: str) -> Sequence[str]:
        """Return all versions that a replica holds, () while it is down."""

    def hold(self, name: str, hold: Hold, *, is_mixing: bool = False) -> None:
        """Keep new episodes (`cordoned`) or all turns (`swapping`) away from a replica, or no longer ("")."""

    async def until_up(self, name: str) -> bool:
        """Return true once a replica is up, false when it never will be."""

    async def until_free(self, name: str) -> bool:
        """Return true once a replica is up and no episode lives on it, false when it never will be up."""

    async def pause(self, name: str) -> None:
        """Stop generation; what is being generated is kept."""

    async def load(self, name: str, target: Target) -> str:
        """Put weights in place of what a paused replica holds; return their version."""

    async def resume(self, name: str) -> None:
        """Go on generating."""

    async def add(self, name: str, target: Target) -> str:
        """Put an adapter beside what a replica holds; return the version."""

    async def canary(self, name: str, version: str) -> None:
        """Make one token under a version."""

    def serve(self, name: str, target: Target, version: str) -> None:
        """Give new episodes this version; a replica that is started again comes up on it, or not at all."""

    def retire(self, name: str, version: str) -> None:
        """Let go of a version once nothing is sampled under it any more; returns at once."""

    async def restart(self, name: str, target: Target, version: str, reason: str) -> None:
        """End a replica and start it again on this target; returns once it is up or given up."""
