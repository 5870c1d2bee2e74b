"""What a run serves beside its configured models, and every swap that led there, kept in the run directory.

    serving.json   model name -> checkpoint and weight version; no entry: the model itself
    swaps.jsonl    one line when a swap begins, one when it has ended

A checkpoint is entered in `serving.json` once every replica serves it, so a driver that dies in the middle of a swap
comes up on the old one; what was sampled under the new one meanwhile carries its version, and its episodes both.
Invariant: the file names one checkpoint per model, whole or not at all.
"""

import os
import time
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import InputError
from engine.files import write_atomic
from engine.rundir import RunDirectory
from engine.swap import SwapPolicy, SwapReport


class Served(msgspec.Struct, frozen=True):
    """A checkpoint directory, and the weight version that its replicas reported."""

    checkpoint: str
    version: str


def read_serving(rundir: RunDirectory) -> dict[str, Path]:
    """Return the checkpoint that each swapped model is served from. Raises InputError when the file is damaged."""
    return {model: Path(served.checkpoint) for model, served in _read(rundir).items()}


def _read(rundir: RunDirectory) -> dict[str, Served]:
    try:
        return msgspec.json.decode(rundir.serving.read_bytes(), type=dict[str, Served])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        problem = f"{rundir.serving} must name the checkpoints that are served, got {error}: restore it"
        raise InputError(problem) from None


class SwapLog:
    """The swaps of one run. The caller holds the directory's lock."""

    def __init__(self, rundir: RunDirectory) -> None:
        self._rundir = rundir

    def abandoned(self) -> list[str]:
        """Close what a former driver began and never ended; return a sentence for each."""
        begun = [line for line in self.lines() if line.get("event") == "begin"]
        ended = {line.get("number") for line in self.lines() if line.get("event") != "begin"}
        open_ones = [line for line in begun if line.get("number") not in ended]
        for line in open_ones:
            self._append({"event": "abandoned", "number": line.get("number"), "model": line.get("model")})
        return [
            f"the swap of {line.get('model')} to {line.get('checkpoint') or 'the model itself'} was cut short:"
            " the version before it is served"
            for line in open_ones
        ]

    def begin(self, model: str, checkpoint: Path | None, policy: SwapPolicy) -> int:
        """Note that a swap begins; durable when this returns. Returns its number."""
        number = 1 + max((int(line.get("number", 0)) for line in self.lines()), default=0)
        self._append({**self._what(number, model, checkpoint), "event": "begin", "policy": policy})
        return number

    def end(self, number: int, model: str, checkpoint: Path | None, report: SwapReport) -> None:
        """Note what came of a swap; what is served from now on is durable first."""
        if report.is_done:
            serving = _read(self._rundir)
            if checkpoint is None:
                serving.pop(model, None)
            else:
                serving[model] = Served(str(checkpoint), report.after)
            write_atomic(self._rundir.serving, msgspec.json.format(msgspec.json.encode(serving)) + b"\n")
        self._append({**self._what(number, model, checkpoint), "event": "end", "report": msgspec.to_builtins(report)})

    def give_up(self, number: int, model: str, checkpoint: Path | None, reason: str) -> None:
        """Note that a swap never came to its end."""
        self._append({**self._what(number, model, checkpoint), "event": "given up", "reason": reason})

    def lines(self) -> list[dict[str, Any]]:
        """Return all lines; one that a dying driver left half written is passed over."""
        try:
            rows = self._rundir.swaps.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found: list[dict[str, Any]] = []
        for row in rows:
            try:
                found.append(msgspec.json.decode(row, type=dict[str, Any]))
            except msgspec.MsgspecError:
                continue
        return found

    def _what(self, number: int, model: str, checkpoint: Path | None) -> dict[str, Any]:
        return {"number": number, "model": model, "checkpoint": "" if checkpoint is None else str(checkpoint)}

    def _append(self, line: dict[str, Any]) -> None:
        row = msgspec.json.encode({"time": time.time(), **line}) + b"\n"
        descriptor = os.open(self._rundir.swaps, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, b"\n" + row if is_torn else row)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
