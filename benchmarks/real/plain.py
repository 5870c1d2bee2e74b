"""Plain `transformers` generation, one call at a time: what a script without a serving engine does."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.engine import cpu_dtype
from benchmarks.real.outcome import Finish, Outcome, finish_of
from benchmarks.trace import Call


class PlainModel:
    """One model held by transformers in this process."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    async def load(cls, path: Path) -> "PlainModel":
        """Load with the data type that the engines use."""
        from transformers import AutoModelForCausalLM

        def load() -> Any:
            return AutoModelForCausalLM.from_pretrained(path, dtype=cpu_dtype(), local_files_only=True).eval()

        return cls(await asyncio.to_thread(load))

    async def measure(self, calls: Sequence[Call]) -> Outcome:
        """Generate as many tokens as each call has, one call after the other.

        The model's own tokens differ from the recorded ones; the recorded ones stand in the finish, whose lengths are
        what was generated. Raises RuntimeError when a length differs.
        """
        return await asyncio.to_thread(self._measure, calls)

    def _measure(self, calls: Sequence[Call]) -> Outcome:
        begun = time.perf_counter()
        finishes = [self._finish(call, begun) for call in calls]
        return Outcome(time.perf_counter() - begun, tuple(finishes))

    def _finish(self, call: Call, begun: float) -> Finish:
        import torch

        wanted = len(call.completion_ids)
        prompt = torch.tensor([call.prompt_ids])
        with torch.inference_mode():
            made = self._model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                min_new_tokens=wanted,
                max_new_tokens=wanted,
                do_sample=False,
                pad_token_id=0,
            )
        if made.shape[1] - prompt.shape[1] != wanted:
            raise RuntimeError(f"transformers must make {wanted} tokens, got {made.shape[1] - prompt.shape[1]}")
        return finish_of(call, time.perf_counter() - begun, call.completion_ids, 0)
