"""Writes one line per engine step: what was decoded and prefilled, and how long it took. Off unless asked for.

Runs inside vLLM's engine process. The simulated fleet's step times are fitted from such a file.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.simulation.latency import StepRecord

STEP_LOG: Final = "SANDPLAY_STEP_LOG"
"""Environment variable naming the file; set it for one engine alone."""


def describe_step(scheduled: Any, prompt_left: dict[str, int], duration_s: float) -> StepRecord:
    """Return the record of one step from the scheduler's output.

    `prompt_left` keeps, per request, the tokens that its prompt (or what is computed again after a preemption) still
    lacks; it is brought up to date.
    """
    computed = {new.req_id: new.num_computed_tokens for new in scheduled.scheduled_new_reqs}
    for new in scheduled.scheduled_new_reqs:
        prompt_left[new.req_id] = len(new.prompt_token_ids or ()) - new.num_computed_tokens
    cached = scheduled.scheduled_cached_reqs
    computed |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
    decode_seqs = sum_context = prefill_tokens = prefill_pairs = 0
    for request, tokens in scheduled.num_scheduled_tokens.items():
        before = computed[request]
        if tokens == 1 and prompt_left.get(request, 0) <= 0:
            decode_seqs += 1
            sum_context += before + 1
        else:
            prefill_tokens += tokens
            prefill_pairs += tokens * before + tokens * (tokens + 1) // 2
        prompt_left[request] = prompt_left.get(request, 0) - tokens
    for request in scheduled.finished_req_ids:
        prompt_left.pop(request, None)
    return StepRecord(
        decode_seqs=decode_seqs,
        sum_context=sum_context,
        prefill_tokens=prefill_tokens,
        prefill_pairs=prefill_pairs,
        duration_s=duration_s,
    )


def log_steps(path: Path) -> None:
    """Make every step of this process's engine append to `path`."""
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.engine.core import EngineCore

    step, finish = EngineCore.step, Scheduler.update_from_output
    if getattr(step, "is_logged", False):
        return
    last: list[Any] = []
    begins: list[float] = []
    prompt_left: dict[str, int] = {}

    def noted_finish(self: Any, scheduled: Any, *rest: Any, **named: Any) -> Any:
        last[:] = [scheduled]
        return finish(self, scheduled, *rest, **named)

    def logged_step(self: Any) -> Any:
        last.clear()
        # While there is work a step begins when the one before it ends: what the engine does between them counts.
        begun = begins.pop() if begins else time.perf_counter()
        made = step(self)
        ended = time.perf_counter()
        duration_s = ended - begun
        if self.scheduler.has_unfinished_requests():
            begins.append(ended)
        if last and last[0].total_num_scheduled_tokens:
            _append(path, describe_step(last[0], prompt_left, duration_s))
        return made

    logged_step.is_logged = True  # type: ignore[attr-defined]
    EngineCore.step = logged_step
    Scheduler.update_from_output = noted_finish


_write: Callable[[StepRecord], bytes] = msgspec.json.Encoder().encode


def _append(path: Path, record: StepRecord) -> None:
    with path.open("ab") as file:
        file.write(_write(record) + b"\n")
