"""The training step of rounds: in workers of our own, or at the endpoint that serves the model; then published.

What comes of a step is a directory in the registry, under a name that says whose round it was. A step that comes again
finds it there. Knows nothing of serving.
"""

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from actors.cluster import join_cluster, leave_cluster
from actors.processes import ProcessTable
from actors.rendering import load_renderer
from engine.checkpoints import Checkpoint, Lineage, Registry, hosted_model, publish
from engine.commands.publishing import publish_trained
from engine.weights_file import file_digest
from training.job import Diverged, TrainJob
from training.openai_tuning import TuningJob, tune
from training.pool import train
from training.round_log import Trained
from training.round_planning import RoundsPlan

SAMPLES: Final = "samples.jsonl"


class Trainer:
    """Trains one model of a run of rounds. `paths` are the local models' directories by name."""

    def __init__(
        self,
        plan: RoundsPlan,
        directory: Path,
        paths: Mapping[str, Path],
        registry: Registry,
        processes: ProcessTable,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._paths = paths
        self._registry = registry
        self._processes = processes
        self._say = say

    async def train(self, number: int, version: str) -> Trained:
        """Train on a round's samples, from a version ("" the base), and publish what comes of it as `rNUMBER`."""
        directory = self._directory / f"round-{number}" / "training"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._registry.path.mkdir(mode=0o700, exist_ok=True)
        parent = version if self._plan.settings.rounds.continues else ""
        if self._plan.is_hosted:
            return await self._tune(number, parent, directory)
        return await self._train(number, parent, directory)

    async def _train(self, number: int, parent: str, directory: Path) -> Trained:
        settings, base = self._plan.settings, self._paths[self._plan.model]
        is_full = settings.training.method == "full"
        before = str(self._registry.place(parent)) if parent else ""
        held_out = self._directory / "held-out" / SAMPLES
        job = TrainJob(
            model=before if before and is_full else str(base),
            adapter="" if is_full else before,
            samples=str(self._samples(number)),
            held_out=str(held_out) if held_out.exists() else "",
            directory=str(directory),
            settings=settings.training,
        )
        await join_cluster(self._plan.run["ray"].get("address"), self._processes, self._say)
        try:
            done = await train(job, load_renderer, self._say)
        except Diverged as failed:
            return Trained(round=number, at=time.time(), version="", num_steps=0, num_tokens=0, failure=str(failed))
        finally:
            await leave_cluster(self._processes)
        version, lineage = f"r{number}", self._lineage(number, parent)
        weights = Path(done.weights)
        await asyncio.to_thread(publish_trained, self._registry, version, weights, base, lineage, is_full=is_full)
        return Trained(
            round=number,
            at=time.time(),
            elapsed_s=done.elapsed_s,
            version=version,
            num_steps=done.num_steps,
            num_tokens=done.num_tokens,
            loss=done.loss,
            losses=done.losses,
            held_out_before=done.held_out_before,
            held_out_after=done.held_out_after,
        )

    async def _tune(self, number: int, parent: str, directory: Path) -> Trained:
        """Have the endpoint train; its model has no files here, and no loss before that could be compared."""
        model = self._plan.run["models"][self._plan.model]
        held_out = self._directory / "held-out" / SAMPLES
        job = TuningJob(
            model=hosted_model(self._registry.place(parent)) if parent else model["model"],
            samples=str(self._samples(number)),
            held_out=str(held_out) if held_out.exists() else "",
            directory=str(directory),
            base_url=model["base_url"],
            api_key_env=model.get("api_key_env"),
            settings=self._plan.settings.tuning,
        )
        done = await tune(job, self._say)
        checkpoint = Checkpoint(
            version=f"r{number}",
            kind="hosted",
            base=model["model"],
            files={},
            model=done.model,
            lineage=self._lineage(number, parent),
            made_at=time.time(),
        )
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            empty = Path(scratch) / "weights"
            empty.mkdir(mode=0o700)
            if not (place := self._registry.place(checkpoint.version)).exists():
                publish(empty, place, checkpoint)
        return Trained(
            round=number,
            at=time.time(),
            elapsed_s=done.elapsed_s,
            version=checkpoint.version,
            num_steps=len(done.losses),
            num_tokens=done.trained_tokens or 0,
            loss=done.loss,
            losses=done.losses,
            held_out_after=done.held_out_loss,
        )

    def _lineage(self, number: int, parent: str) -> Lineage:
        return Lineage(
            round=number,
            parent=parent,
            corpus=file_digest(self._samples(number)),
            config=hashlib.sha256(msgspec.json.encode(self._plan.settings)).hexdigest(),
        )

    def _samples(self, number: int) -> Path:
        return self._directory / f"round-{number}" / SAMPLES
