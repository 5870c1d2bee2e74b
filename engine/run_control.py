"""What a run's driver does when it is asked through the control socket: say how it fares, swap a pool's weights.

Invariant: at most one swap at a time, and every one that began has its end in the run's record, unless the driver dies.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine.backend import Backend
from engine.control import Control, Say
from engine.errors import InputError, RunError
from engine.rundir import RunDirectory
from engine.serving import SwapLog
from engine.swap import SwapFailed, SwapPolicy, SwapPool, SwapReport


class SwapRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A swap as asked for. `checkpoint` is an absolute path, "" for the model itself; `model` "" for the only one."""

    command: str
    checkpoint: str = ""
    policy: SwapPolicy = "finish_on_old"
    model: str = ""


class Controlled(Protocol):
    """What is asked of the run."""

    rundir: RunDirectory

    @property
    def pools(self) -> Mapping[str, Backend]:
        """Model name to backend."""

    @property
    def num_live(self) -> int | None:
        """Live episodes, None while nothing is played yet."""


class RunControl:
    """The commands of one run, from `open` to `close`. `say` tells people about what is done and refused."""

    def __init__(self, run: Controlled, say: Callable[[str], None]) -> None:
        self._run = run
        self._say = say
        self._log = SwapLog(run.rundir)
        self._swapping = ""
        self._control = Control(run.rundir.control, {"status": self.status, "swap": self.swap})

    async def open(self) -> None:
        """Listen; a directory that takes no sockets costs the commands, not the run."""
        try:
            for line in await asyncio.to_thread(self._log.abandoned):
                self._say(line)
            await self._control.open()
        except (RunError, OSError) as error:
            self._say(f"no swap and no status while this run is played: {error}")

    async def close(self) -> None:
        """Stop listening, and give up a swap that is going on."""
        await self._control.close()

    async def status(self, asked: dict[str, Any], say: Say) -> dict[str, Any]:
        """Return the live episodes and what every replica reports."""
        replicas = {name: msgspec.to_builtins(list(pool.replicas())) for name, pool in self._run.pools.items()}
        return {"live": self._run.num_live, "swapping": self._swapping, "models": replicas}

    async def swap(self, asked: dict[str, Any], say: Say) -> dict[str, Any]:
        """Swap a pool's weights; return the report. Raises InputError when refused, SwapFailed when it went back."""
        try:
            request = msgspec.convert(asked, SwapRequest)
        except msgspec.ValidationError as error:
            raise InputError(f"a swap must have a checkpoint, policy and model, got {error}") from None
        name, pool = self._pool(request.model)
        checkpoint = Path(request.checkpoint) if request.checkpoint else None
        if self._swapping:
            raise InputError(f"one swap at a time may go on, got a second while {self._swapping} is swapped: wait")

        def tell(text: str) -> None:
            say(text)
            self._say(text)

        self._swapping = name
        try:
            report = await self._recorded(name, pool, checkpoint, request.policy, tell)
        finally:
            self._swapping = ""
        if not report.is_done:
            raise SwapFailed(report)
        found: dict[str, Any] = msgspec.to_builtins(report)
        return found

    async def _recorded(
        self, name: str, pool: SwapPool, checkpoint: Path | None, policy: SwapPolicy, tell: Say
    ) -> SwapReport:
        number = await asyncio.to_thread(self._log.begin, name, checkpoint, policy)
        try:
            report = await pool.swap(checkpoint, policy, tell)
        except BaseException as error:
            with suppress(OSError):
                self._log.give_up(number, name, checkpoint, str(error) or type(error).__name__)
            raise
        await asyncio.to_thread(self._log.end, number, name, checkpoint, report)
        return report

    def _pool(self, model: str) -> tuple[str, SwapPool]:
        """Return the pool that is meant. Raises InputError."""
        if self._run.num_live is None:
            raise InputError("the replicas must be up before a swap, got a run that is starting: ask again soon")
        found = {name: pool for name, pool in self._run.pools.items() if isinstance(pool, SwapPool)}
        if not model and len(found) == 1:
            return next(iter(found.items()))
        if model not in found:
            known = ", ".join(found) or "none"
            asked = f"{model!r}" if model else "no name"
            raise InputError(f"--model must name one that can be swapped ({known}), got {asked}: choose one of these")
        return model, found[model]
