"""The thread that copies a journal's sealed parts to the run's target while it is played.

Invariant: it holds up nobody and ends nothing: what a target does wrong is counted, said and tried again with the next
part; nothing is queued, for the manifest says what there is. Knows nothing of dialogues.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Final

from engine.config_sections import CorpusConfig
from engine.run_copy import JournalCopy, claim, copy_problem, place_of
from engine.rundir import RunDirectory
from engine.signals import STORE_THREAD
from engine.targets import retried

HASTE_S: Final = 2.0
"""How long an interrupted run waits for the part that is under way."""


class Uploader:
    """Copies what is sealed whenever it is woken. `say` gets a line when the target fails, and when it is back."""

    def __init__(self, rundir: RunDirectory, config: CorpusConfig, index: int, say: Callable[[str], None]) -> None:
        self.num_failures = 0
        self._rundir, self._config, self._index, self._say = rundir, config, index, say
        self._copy: JournalCopy | None = None
        self._changed = threading.Condition()
        self._is_woken = False
        self._is_failing = self._is_closing = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Copy what is sealed and the target lacks; never blocks."""
        with self._changed:
            self._is_woken = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"{STORE_THREAD}{self._index}", daemon=True)
                self._thread.start()
            self._changed.notify()

    async def close(self, *, is_hasty: bool) -> None:
        """End after the part that is under way, or in haste without it; the rest is left to `run_copy.complete`."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, HASTE_S if is_hasty else None)

    def gauges(self) -> dict[str, float | None]:
        """Return how the copy stands: parts named at the target, parts it lacks, and failures so far."""
        num_named = 0 if self._copy is None else self._copy.num_named
        return {
            "target/parts": num_named,
            "target/missing": None if self._copy is None else self._copy.num_sealed - num_named,
            "target/failures": self.num_failures,
        }

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_woken or self._is_closing)
                self._is_woken = False
            if self._is_closing:
                return
            try:
                retried(self._bring, lambda: not self._is_closing)
            except Exception as error:  # noqa: BLE001  whatever a target does, the run goes on
                self._failed(error)
            else:
                self._succeeded()

    def _bring(self) -> None:
        if self._copy is None:
            target = place_of(self._rundir, self._config)
            claim(self._rundir, target)
            self._copy = JournalCopy(self._rundir, target, self._index)
        self._copy.bring(lambda: not self._is_closing)

    def _failed(self, error: Exception) -> None:
        self.num_failures += 1
        if not self._is_failing:
            self._is_failing = True
            self._say(f"warning: {copy_problem(error)}; it is tried again with the next part and at the end")

    def _succeeded(self) -> None:
        if self._is_failing:
            self._is_failing = False
            self._say("the target takes parts again")
