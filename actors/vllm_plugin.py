"""A vLLM plugin, loaded in each of its processes: wait for the worker without spinning, mend LoRA on CPU, log steps.

The engine core and its worker talk through shared memory, and the reader spins for a second after each message. On a
machine with few cores that takes cores from the very computation it waits for (here: 69 % of one of two). Where a
replica asks for it (`QUIET_WAIT`), the reader spins for a fraction of a step and then sleeps on the socket that vLLM
itself uses for longer waits.
"""

import os
from pathlib import Path
from typing import Any, Final

from actors.step_log import STEP_LOG, log_steps

QUIET_WAIT: Final = "SANDPLAY_QUIET_WAIT"
CPU_LORA: Final = "SANDPLAY_CPU_LORA"
SPIN_S: Final = 0.0002
MAX_POLL_MS: Final = 20
"""Upper bound of one sleep, so that a notification that got lost costs milliseconds and not the request."""


def register() -> None:
    """Do in this process what its environment asks for; called by vLLM."""
    if os.environ.get(QUIET_WAIT) == "1":
        _wait_quietly()
    if os.environ.get(CPU_LORA) == "1":
        from actors.cpu_lora import mend_lora

        mend_lora()
    if path := os.environ.get(STEP_LOG):
        log_steps(Path(path))


def _wait_quietly() -> None:
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    begin, wait = SpinCondition.__init__, SpinCondition.wait
    if getattr(begin, "is_quiet", False):
        return

    def quiet_begin(self: Any, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self.busy_loop_s = min(self.busy_loop_s, SPIN_S)

    def quiet_wait(self: Any, timeout_ms: int | None = None) -> None:
        wait(self, MAX_POLL_MS if timeout_ms is None else min(timeout_ms, MAX_POLL_MS))

    quiet_begin.is_quiet = True  # type: ignore[attr-defined]
    SpinCondition.__init__ = quiet_begin
    SpinCondition.wait = quiet_wait
