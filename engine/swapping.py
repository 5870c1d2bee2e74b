"""A swap of served weights, step by step, whatever the pool is made of.

    whole weights, one replica after another:  cordon -> wait or freeze, by policy -> pause -> load -> compare versions
                                               -> resume -> canary, still cordoned -> open
    an adapter, on all replicas at once:       add beside the old one -> compare versions -> canary -> new episodes
                                               get it -> the old one goes with its last episode

Invariant: a swap ends with the new version on every replica that is up, or with the old one and a reason. A replica
whose engine cannot be trusted to load in place is started again. Knows no Ray, no engine and no file.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from engine.swap import Hold, ReplicaFailed, ReplicaSwap, SwapFailure, Swappable, SwapPolicy, SwapReport, Target

WAVE: Final = 8
"""One of so many replicas is swapped at a time, at least one: the others take its episodes or new ones."""


class Swap:
    """One swap of one pool. `old` is what it serves; `run` once."""

    def __init__(
        self, pool: Swappable, old: Target, new: Target, policy: SwapPolicy, say: Callable[[str], None]
    ) -> None:
        self._pool = pool
        self._old = old
        self._new = new
        self._policy = policy
        self._say = say
        self._names = list(pool.names())
        self._rows = {name: ReplicaSwap(name) for name in self._names}
        self._before = next(filter(None, map(pool.version, self._names)), "")
        self._after = ""
        self._held: set[str] = set()
        self._held_since: float | None = None
        self._paused_s = 0.0

    async def run(self) -> SwapReport:
        """Swap, or put the old version back everywhere; a failure is in the report."""
        begun = _now()
        try:
            failure = await self._swap()
        finally:
            for name in self._held.copy():
                self._hold(name, "")
        return SwapReport(
            policy=self._policy,
            target=self._new,
            before=self._before,
            after=self._before if failure is not None else self._after,
            elapsed_s=_now() - begun,
            paused_s=self._paused_s,
            replicas=tuple(self._rows.values()),
            failure=failure,
        )

    async def _swap(self) -> SwapFailure | None:
        if self._old == self._new:
            self._after = self._before
            return None
        is_beside = self._old.weights == self._new.weights
        failure = await (self._swap_beside() if is_beside else self._swap_in_place())
        return failure or (None if self._after else SwapFailure("lost", "at least one replica must be up, got none"))

    # ------------------------------------------------------------ whole weights

    async def _swap_in_place(self) -> SwapFailure | None:
        if self._policy == "drain":
            await self._drain()
        size = len(self._names) if self._policy == "drain" else max(1, len(self._names) // WAVE)
        for start in range(0, len(self._names), size):
            await _all(self._replace(name) for name in self._names[start : start + size])
            if self._failure() is not None:
                break
        failure = self._failure() or self._disagreement()
        if failure is not None:
            self._say(f"{failure.replica}: {failure.kind}: {failure.message}; going back to {self._before[:12]}")
            await self._go_back()
        for name in self._names:
            self._hold(name, "", is_mixing=self._is_mixing)
        return failure

    async def _drain(self) -> None:
        """Return once no episode is live on any replica."""
        for name in self._names:
            self._hold(name, "cordoned")
        begun = _now()
        await _all(self._pool.until_free(name) for name in self._names)
        for row in self._rows.values():
            row.waited_s = _now() - begun

    async def _replace(self, name: str) -> None:
        """Bring one replica to the new weights; a failure goes into its row."""
        row = self._rows[name]
        try:
            if not await self._make_way(name):
                return
            self._note_before(name)
            row.after = await self._load(name, self._new, self._after)
            self._hold(name, "", is_mixing=self._is_mixing)
            self._say(f"{name}: serves {row.after[:12]}, stalled {row.stalled_s:.2f} s, waited {row.waited_s:.0f} s")
        except ReplicaFailed as failed:
            row.failure = failed.failure

    async def _make_way(self, name: str) -> bool:
        """Keep turns away from a replica as the policy says; return whether it is up."""
        begun = _now()
        if not self._is_mixing:
            self._hold(name, "cordoned")
        is_up = await (self._pool.until_up(name) if self._is_mixing else self._pool.until_free(name))
        self._hold(name, "swapping" if is_up else "")
        self._rows[name].waited_s += _now() - begun
        return is_up

    async def _load(self, name: str, target: Target, expected: str) -> str:
        """Load weights and serve them; return their version. `expected` is what it must be, "" when not known."""
        pool, row = self._pool, self._rows[name]
        stalled_at = _now()
        await pool.pause(name)
        loading_at = _now()
        version = await pool.load(name, target)
        row.loaded_s += _now() - loading_at
        if target == self._new:
            expected = self._after = self._after or version
        self._require_equal(name, version, expected)
        await pool.resume(name)
        row.stalled_s += _now() - stalled_at
        await pool.canary(name, version)
        pool.serve(name, target, version)
        return version

    async def _go_back(self) -> None:
        """Bring every replica back to the old weights, those that failed first."""
        failed = [name for name, row in self._rows.items() if row.failure is not None]
        swapped = [name for name, row in self._rows.items() if row.after]
        await _all(self._recover(name) for name in failed)
        for name in swapped:
            self._rows[name].after = ""
            if await self._make_way(name):
                await self._recover(name)
            else:
                self._pool.serve(name, self._old, self._before)

    async def _recover(self, name: str) -> None:
        """Load the old weights, or start the replica again where its engine cannot be trusted."""
        failure = self._rows[name].failure
        reason = f"{name}: {failure.message}" if failure is not None else ""
        try:
            # What a load that failed leaves behind cannot be told: the next one might complete it silently.
            if failure is not None and failure.kind not in ("mismatch", "canary"):
                raise ReplicaFailed(failure)
            self._hold(name, "swapping")
            await self._load(name, self._old, self._before)
        except ReplicaFailed as failed:
            await self._pool.restart(name, self._old, self._before, reason or str(failed))
        self._hold(name, "", is_mixing=self._is_mixing)
        self._say(f"{name}: is back on {self._before[:12]}")

    def _disagreement(self) -> SwapFailure | None:
        """Return a replica that is up and serves something else after all."""
        for name in self._names:
            version = self._pool.version(name)
            if version and version != self._after:
                row = self._rows[name]
                row.after = row.after or version
                return SwapFailure("mismatch", f"must serve {self._after[:12]}, got {version[:12]}", name)
        return None

    # ------------------------------------------------------------ adapters

    async def _swap_beside(self) -> SwapFailure | None:
        if self._policy == "drain":
            await self._drain()
        await _all(self._add(name) for name in self._names)
        failure = self._failure() or self._absence()
        for name in self._names:
            row, pool = self._rows[name], self._pool
            version = self._after if failure is None else self._before
            if failure is None and row.after:
                pool.serve(name, self._new, version)
            elif failure is not None and row.after:
                row.after = ""
                self._retire(name, self._after)
            self._hold(name, "", is_mixing=self._is_mixing and failure is None)
            if row.after:
                self._retire(name, self._before)
        return failure

    async def _add(self, name: str) -> None:
        pool, row = self._pool, self._rows[name]
        try:
            if not await pool.until_up(name):
                return
            self._note_before(name)
            begun = _now()
            version = await pool.add(name, self._new)
            row.loaded_s = _now() - begun
            self._after = self._after or version
            row.after = version
            self._require_equal(name, version, self._after)
            await pool.canary(name, version)
            self._say(f"{name}: has {version[:12]} beside {row.before[:12]}")
        except ReplicaFailed as failed:
            row.failure = failed.failure

    def _absence(self) -> SwapFailure | None:
        """Return a replica that lost the new version meanwhile."""
        for name, row in self._rows.items():
            if row.after and self._after not in self._pool.versions(name):
                return SwapFailure("lost", "was lost while the others took the new version", name)
        return None

    def _retire(self, name: str, version: str) -> None:
        if version != self._pool.version(name):
            self._pool.retire(name, version)

    # ------------------------------------------------------------ both

    @property
    def _is_mixing(self) -> bool:
        return self._policy == "mix"

    def _note_before(self, name: str) -> None:
        """Note what a replica serves that is up; while all were down, nobody could tell."""
        row = self._rows[name]
        row.before = self._pool.version(name)
        self._before = self._before or row.before

    def _failure(self) -> SwapFailure | None:
        return next((row.failure for row in self._rows.values() if row.failure is not None), None)

    def _require_equal(self, name: str, version: str, expected: str) -> None:
        if expected and version != expected:
            message = f"its weights must be {expected[:12]}, got {version[:12]} after loading"
            raise ReplicaFailed(SwapFailure("mismatch", message, name))

    def _hold(self, name: str, hold: Hold, *, is_mixing: bool = False) -> None:
        """Hold a replica, and count the time in which all are held."""
        self._pool.hold(name, hold, is_mixing=is_mixing)
        (self._held.add if hold else self._held.discard)(name)
        is_all = len(self._held) == len(self._names)
        if is_all and self._held_since is None:
            self._held_since = _now()
        elif not is_all and self._held_since is not None:
            self._paused_s += _now() - self._held_since
            self._held_since = None


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _all(steps: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Run steps side by side to their ends."""
    async with asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(step)
