"""Swapping the weights of a fleet: which targets it can serve, and each step of a swap done to a real replica.

The order of steps is `engine.swapping`'s. Invariant: a slot whose replica is started anew comes up on what `serve` said
last, or not at all.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from actors.slot import Slot
from actors.spec import ModelSpec
from engine.checkpoints import ADAPTER_CONFIG, CheckpointError, read_checkpoint, verify
from engine.config_sections import enough_lora_rank
from engine.residents import Residents
from engine.swap import FailureKind, Hold, ReplicaFailed, SwapFailure, Target

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None] | None]


class _AdapterConfig(msgspec.Struct):
    """What is read of PEFT's `adapter_config.json`."""

    r: int = 0
    rank_pattern: dict[str, int] | None = None


def prepare_target(spec: ModelSpec, checkpoint: Path | None) -> Target:
    """Return what a pool is to serve for a checkpoint, after reading all of it; None is the model itself.

    Raises CheckpointError for a bad checkpoint, or one that the pool's settings cannot serve.
    """
    home = spec.base or spec.path
    if checkpoint is None:
        return Target(home)
    place = checkpoint.absolute()
    verify(place, Path(home))
    target = find_target(home, place)
    if target.adapter and (rank := read_rank(place)) > spec.max_lora_rank:
        rule = f"an adapter of rank {rank} needs max_lora_rank >= {rank}, got {spec.max_lora_rank}"
        raise CheckpointError(f"{rule}: start with models.{spec.name}.max_lora_rank={enough_lora_rank(rank)}")
    return target


def find_target(home: str, checkpoint: Path) -> Target:
    """Return the target that a checkpoint describes. Raises CheckpointError."""
    is_full = read_checkpoint(checkpoint).kind == "full"
    return Target(str(checkpoint)) if is_full else Target(home, str(checkpoint))


def read_rank(adapter: Path) -> int:
    """Return the largest rank in an adapter's configuration. Raises CheckpointError."""
    try:
        found = msgspec.json.decode((adapter / ADAPTER_CONFIG).read_bytes(), type=_AdapterConfig)
    except (OSError, msgspec.MsgspecError) as error:
        raise CheckpointError(f"{adapter / ADAPTER_CONFIG} must be PEFT's, got {error}: save it again") from None
    return max([found.r, *(found.rank_pattern or {}).values()])


class FleetSwap:
    """Implements `engine.swap.Swappable` over a fleet's slots. `spawn` runs something as long as the fleet is up;
    `notify` says that the gauges changed.
    """

    def __init__(
        self,
        spec: ModelSpec,
        slots: Mapping[str, Slot],
        residents: Residents,
        spawn: Spawn,
        notify: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._slots = slots
        self._residents = residents
        self._spawn = spawn
        self._notify = notify
        self._retiring: set[asyncio.Task[None]] = set()

    async def retired(self) -> None:
        """Return once no version is held beside those that are served."""
        await asyncio.gather(*self._retiring)

    def names(self) -> Sequence[str]:
        """Return the slots that are not given up."""
        return [slot.name for slot in self._slots.values() if not slot.is_given_up]

    def version(self, name: str) -> str:
        """Return the version that new episodes get, "" while the slot is empty."""
        return self._slots[name].weights

    def versions(self, name: str) -> Sequence[str]:
        """Return all versions that the replica holds."""
        return self._slots[name].versions

    def hold(self, name: str, hold: Hold, *, is_mixing: bool = False) -> None:
        """Keep new episodes or all turns away, or no longer."""
        self._slots[name].hold(hold, is_mixing=is_mixing)
        self._notify()

    async def until_up(self, name: str) -> bool:
        """Return true once a replica fills the slot, false when it is given up."""
        slot = self._slots[name]
        await self._residents.until(lambda: slot.is_up or slot.is_given_up)
        return slot.is_up

    async def until_free(self, name: str) -> bool:
        """Return true once a replica fills the slot and no episode lives there, false when it is given up."""
        slot, residents = self._slots[name], self._residents
        await residents.until(lambda: slot.is_given_up or (slot.is_up and not slot.open and not residents.num_on(name)))
        return slot.is_up

    async def pause(self, name: str) -> None:
        """Stop generation."""
        await self._call(name, "pause")

    async def load(self, name: str, target: Target) -> str:
        """Load in place."""
        version: str = await self._call(name, "load", target.weights, target.adapter, is_long=True)
        self._slots[name].put(version)
        return version

    async def resume(self, name: str) -> None:
        """Go on generating."""
        await self._call(name, "resume")

    async def add(self, name: str, target: Target) -> str:
        """Load an adapter beside what is held."""
        version: str = await self._call(name, "add", target.adapter, is_long=True)
        self._slots[name].add(version)
        return version

    async def canary(self, name: str, version: str) -> None:
        """Make one token."""
        await self._call(name, "canary", version, kind="canary")

    def serve(self, name: str, target: Target, version: str) -> None:
        """Give new episodes this version, and whatever is started here."""
        slot = self._slots[name]
        slot.serve(target, version)
        if slot.launch is not None:
            self._spawn(_quietly(slot.launch.actor.serve, version))
        self._notify()

    def retire(self, name: str, version: str) -> None:
        """Drop a version with its last episode."""
        task = self._spawn(self._retire(name, version))
        if task is not None:
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _retire(self, name: str, version: str) -> None:
        slot, residents = self._slots[name], self._residents
        launch = slot.launch
        await residents.until(
            lambda: slot.launch is not launch or version == slot.weights or not residents.num_on(name, version)
        )
        if launch is None or slot.launch is not launch or version == slot.weights:
            return
        slot.drop(version)
        self._notify()
        await _quietly(launch.actor.remove, version)

    async def restart(self, name: str, target: Target, version: str, reason: str) -> None:
        """End the replica, if there is one; the fleet starts it again on this target."""
        slot = self._slots[name]
        slot.serve(target, version)
        launch = slot.launch
        if launch is not None:
            slot.problem = reason
            await launch.kill()
        await self._residents.until(lambda: slot.is_given_up or (slot.is_up and slot.launch is not launch))

    async def _call(
        self, name: str, method: str, *arguments: str, kind: FailureKind = "refused", is_long: bool = False
    ) -> Any:
        """Do one step; whatever goes wrong becomes a `ReplicaFailed`."""
        slot = self._slots[name]
        limit_s = self._spec.start_timeout_s if is_long else self._spec.stall_timeout_s
        if slot.launch is None or not slot.is_up:
            raise ReplicaFailed(SwapFailure("lost", "died before this step", name))
        try:
            async with asyncio.timeout(limit_s):
                return await getattr(slot.launch.actor, method).remote(*arguments)
        except TimeoutError:
            raise ReplicaFailed(SwapFailure("timeout", f"{method} took more than {limit_s:g} s", name)) from None
        except Exception as error:  # noqa: BLE001  Ray raises many kinds: the step's own error, or the actor is gone
            cause = getattr(error, "cause", None)
            found = SwapFailure(kind, f"{method}: {cause}", name) if cause else SwapFailure("lost", "died", name)
            raise ReplicaFailed(found) from None


async def _quietly(method: Any, version: str) -> None:
    with contextlib.suppress(Exception):  # a replica that is gone has no versions
        await method.remote(version)
