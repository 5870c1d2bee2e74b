"""One worker's part of supervised fine-tuning: TRL's trainer under DeepSpeed, fed by a stream of rows.

    sample log -> share of this worker -> tokens -> batch -> loss over the taught tokens of all workers -> step
                                                     |
                                        training state every so many steps

What the trainer reads, counts, keeps and resumes is decided here; the step itself is TRL's, and the optimizer
DeepSpeed's. Every worker runs the same code at the same time: what is a collective is said so. Imports torch and
everything above it: nothing may import this file but a worker.
"""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTTrainer

from engine.errors import InputError
from engine.files import write_atomic
from training.batches import TokenBatch, TokenBatches
from training.chat import ChatEncoder
from training.engine_state import capture_engine, capture_random, restore_engine, restore_random
from training.held_out import add_up, held_out_loss
from training.job import METRICS, STATE, WEIGHTS, Diverged, LoadRenderer, Progress, Trained, TrainJob
from training.packing import pack, pad
from training.sample_log import SampleReader
from training.saving import require_same_names, round_as_written, save_adapter, save_full
from training.sft_model import (
    has_gpu,
    load_model,
    load_tokenizer,
    placeholder_rows,
    score_taught_alone,
    training_arguments,
)
from training.state_file import StateCard, States, read_values, write_values
from training.stream import Position, Stream

Report = Callable[[Progress], None]

_BEGINNING: Final = Position()


class Tally(msgspec.Struct, kw_only=True):
    """What a worker has done so far, over all its lives. Tokens are read ones; `num_taught` those of them taught."""

    num_rows: int = 0
    num_taught: int = 0
    num_tokens: int = 0
    dropped: dict[str, int] = {}
    waited_s: float = 0.0
    elapsed_s: float = 0.0
    losses: list[float] = []
    held_out_before: float | None = None

    def add(self, batch: TokenBatch) -> None:
        """Count a batch in."""
        self.num_rows += batch.num_rows
        self.num_taught += batch.num_taught
        self.num_tokens += batch.num_tokens
        self.waited_s += batch.waited_s
        for reason, number in batch.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + number


class Rows:
    """A sample log as one worker reads it."""

    def __init__(self, path: str, job: TrainJob, rank: int, world: int, encoder: ChatEncoder, eos_id: int) -> None:
        settings = job.settings
        self.reader = SampleReader(Path(path))
        self._read_at_once = settings.batch_size * world
        stream = Stream(self.reader, batch_size=settings.batch_size, rank=rank, world=world, seed=settings.seed)
        self.batches = TokenBatches(
            stream, encoder, max_length=settings.max_length, eos_id=eos_id, accumulate=settings.accumulate
        )

    def num_waiting(self, position: Position) -> int:
        """Samples in the log that nobody has read in this epoch."""
        return max(0, len(self.reader) - position.batch * self._read_at_once)


class _Loaded(IterableDataset):  # type: ignore[misc]  # torch is not typed here
    """The batches from where the trainer stands when it begins to read."""

    def __init__(self, trainer: "StreamTrainer") -> None:
        self._trainer = trainer

    def __iter__(self) -> Iterator[TokenBatch]:
        trainer = self._trainer
        return trainer.rows.batches.read(trainer.position, trainer.settings.epochs)


class StreamTrainer(SFTTrainer):  # type: ignore[misc]  # trl is not typed here
    """TRL's trainer on `Rows`; stops at their end, keeps and resumes states in files without pickles."""

    # The loss is divided by the taught tokens of the whole step, of all workers and accumulated batches.
    loss_is_scaled_for_ga = True

    def __init__(
        self, job: TrainJob, rank: int, world: int, rows: Rows, held_out: Rows | None, report: Report, **parts: Any
    ) -> None:
        self.job, self.settings = job, job.settings
        self.rank, self.world = rank, world
        self.rows, self.held_out = rows, held_out
        self.position = _BEGINNING
        self.tally = Tally()
        self.states = States(Path(job.directory) / STATE)
        self._report = report
        self._began = time.monotonic()
        self._logged = (self._began, 0.0)
        self._speed = 0.0
        super().__init__(**parts)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Keeper(self))

    @property
    def is_first(self) -> bool:
        """Whether this worker writes what is written once."""
        return self.rank == 0

    # ------------------------------------------------------------ reading

    def get_train_dataloader(self) -> Any:
        """Return a loader that nobody shares out again; it draws from a generator of its own."""
        return DataLoader(
            _Loaded(self), batch_size=None, num_workers=0, generator=torch.Generator(), collate_fn=lambda one: one
        )

    def get_batch_samples(self, epoch_iterator: Iterator[TokenBatch], num_batches: int, device: Any) -> tuple[Any, Any]:
        """Return the inputs of one step, and the tokens that all workers teach in it; a collective.

        At the end of the stream there are none, and training stops.
        """
        taken = list(itertools.islice(epoch_iterator, num_batches))
        if not taken:
            self.control.should_training_stop = True
            return [], None
        self.position = taken[-1].after
        for batch in taken:
            self.tally.add(batch)
        (num_taught,) = add_up([float(sum(batch.num_taught for batch in taken))], device)
        return [self.collate(batch) for batch in taken], torch.tensor(num_taught, device=device)

    def collate(self, batch: TokenBatch) -> dict[str, Any]:
        """Return a batch as the model takes it."""
        columns = pack(batch.rows) if self.settings.packing else pad(batch.rows, batch.rows[0].input_ids[0])
        return {name: torch.tensor(rows, device=self.args.device) for name, rows in columns.items()}

    # ------------------------------------------------------------ the step

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss. Raises Diverged when it is not finite."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._require_finite("loss", float(loss.detach()))
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None:
            self._require_finite("gradient's norm", float(norm))
        return norm

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            step = self.state.global_step + 1
            remedy = "lower training.learning_rate, or look for what is wrong with the rows"
            raise Diverged(f"the {what} must be finite, got {value} in step {step}: {remedy}")

    # ------------------------------------------------------------ figures

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Take note of the figures of an interval; a collective."""
        super().log(logs, start_time)
        if "loss" not in logs:
            return
        taught, tokens = add_up([float(self.tally.num_taught), float(self.tally.num_tokens)], self.args.device)
        now, (since, before) = time.monotonic(), self._logged
        self._logged = (now, tokens)
        self._speed = (tokens - before) / max(now - since, 1e-9)
        self.tally.losses.append(logs["loss"])
        if self.is_first:
            self._write_metrics(logs, int(taught), int(tokens))

    def _write_metrics(self, logs: dict[str, float], taught: int, tokens: int) -> None:
        line = {
            "step": self.state.global_step,
            "loss": logs["loss"],
            "learning_rate": logs.get("learning_rate"),
            "grad_norm": logs.get("grad_norm"),
            "tokens": tokens,
            "taught": taught,
            "tokens_per_s": self._speed,
            "waited_s": self.tally.waited_s,
        }
        path = Path(self.job.directory) / METRICS
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")

    def report(self, phase: str = "training") -> None:
        """Say how far this worker is."""
        self._report(
            Progress(
                phase=phase,
                step=self.state.global_step,
                loss=self.tally.losses[-1] if self.tally.losses else None,
                tokens_per_s=self._speed,
                rows_waiting=self.rows.num_waiting(self.position),
            )
        )

    # ------------------------------------------------------------ states

    def begin(self) -> None:
        """Go on from the last state, or begin; a collective. Raises InputError when other workers wrote it."""
        last = self.states.last()
        if last is None:
            self.report("measuring" if self.held_out else "training")
            self.tally.held_out_before = self.measure()
            return
        card = self.states.card(last)
        if card.workers != self.world:
            raise InputError(
                f"training.workers must be {card.workers} to go on with {last}, got {self.world}: set it back"
            )
        self._restore(read_values(last / f"rank-{self.rank}"), card.step)

    def _restore(self, kept: dict[str, Any], step: int) -> None:
        restore_engine(self.model_wrapped, kept["engine"], self.rank, self.world)
        self.lr_scheduler.load_state_dict(kept["scheduler"])
        self.position = Position(*kept["position"])
        self.tally = msgspec.convert(kept["tally"], Tally)
        self.state.global_step = step
        self._tr_loss += kept["loss"]
        self._globalstep_last_logged = kept["last_logged"]
        self._logged = (time.monotonic(), kept["tokens"])
        if self.is_first:
            _cut_metrics(Path(self.job.directory) / METRICS, step)
        restore_random(kept["random"])

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Keep a training state; a collective."""
        card = StateCard(step=self.state.global_step, workers=self.world)
        if self.is_first:
            self.states.begin(card.step)
        torch.distributed.barrier()
        write_values(self.states.place(card.step) / f"rank-{self.rank}", self._kept())
        torch.distributed.barrier()
        if self.is_first:
            self.states.commit(card)
        torch.distributed.barrier()

    def _kept(self) -> dict[str, Any]:
        tally = msgspec.structs.replace(self.tally, elapsed_s=self.elapsed_s)
        return {
            "engine": capture_engine(self.model_wrapped),
            "random": capture_random(),
            "scheduler": self.lr_scheduler.state_dict(),
            "position": (self.position.epoch, self.position.batch),
            "tally": msgspec.to_builtins(tally),
            "loss": float(self._tr_loss),
            "last_logged": self._globalstep_last_logged,
            "tokens": self._logged[1],
        }

    # ------------------------------------------------------------ the end

    @property
    def elapsed_s(self) -> float:
        """Seconds of this life and those before it, up to the state that it began from."""
        return self.tally.elapsed_s + time.monotonic() - self._began

    def measure(self) -> float | None:
        """Return the held-out loss, None when there is nothing held out; a collective."""
        if self.held_out is None:
            return None
        return held_out_loss(self.model_wrapped, self.held_out.batches.read(_BEGINNING, 1), self.collate)

    def finish(self) -> Trained:
        """Measure, write the weights and return what came of it; a collective."""
        self.report("writing weights")
        if self.settings.method == "full":
            round_as_written(self.model, Path(self.job.model))
        after = self.measure()
        target = Path(self.job.directory) / WEIGHTS
        if self.settings.method == "full":
            save_full(self.model, Path(self.job.model), target, is_first=self.is_first)
        else:
            save_adapter(self.model, target, is_first=self.is_first)
        names = ["num_rows", "num_taught"]
        rows, taught = add_up([float(getattr(self.tally, name)) for name in names], self.args.device)
        return Trained(
            num_steps=self.state.global_step,
            num_rows=int(rows),
            num_tokens=int(taught),
            loss=self.tally.losses[-1],
            losses=tuple(self.tally.losses),
            held_out_before=self.tally.held_out_before,
            held_out_after=after,
            elapsed_s=self.elapsed_s,
            waited_s=self.tally.waited_s,
            restarts=0,
            weights=str(target),
            dropped=self._all_dropped(),
            engine=type(self.model_wrapped).__name__,
        )

    def _all_dropped(self) -> dict[str, int]:
        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, self.tally.dropped)
        reasons = sorted({reason for one in found for reason in one})
        return {reason: sum(one.get(reason, 0) for one in found) for reason in reasons}


class _Keeper(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Calls the trainer back at the points where something is to be kept."""

    def __init__(self, trainer: StreamTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self._trainer.report()
        control.should_save = state.global_step % self._trainer.settings.save_every == 0
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        # The last interval may be shorter than the others.
        control.should_log = True
        return control


def _cut_metrics(path: Path, step: int) -> None:
    """Remove what was logged behind the state that is gone back to."""
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith(b"\n") and msgspec.json.decode(line)["step"] <= step]
        write_atomic(path, b"".join(kept))


def train_worker(job: TrainJob, rank: int, world: int, load_renderer: LoadRenderer, report: Report) -> Trained:
    """Train with the others and return what came of it; the process group must be there.

    Raises InputError or Diverged when the same would happen again.
    """
    report(Progress(phase="loading the model"))
    args = training_arguments(job)
    tokenizer = load_tokenizer(job.model)
    set_seed(job.settings.seed)  # a new adapter is random, and must be the same on all workers
    if not has_gpu():
        score_taught_alone()
    model = load_model(job, args)
    if job.settings.method == "full":
        require_same_names(model, Path(job.model))
    encoder = ChatEncoder(load_renderer(job.model), tokenizer.eos_token_id)
    rows = Rows(job.samples, job, rank, world, encoder, tokenizer.eos_token_id)
    held_out = Rows(job.held_out, job, rank, world, encoder, tokenizer.eos_token_id) if job.held_out else None
    trainer = StreamTrainer(
        job,
        rank,
        world,
        rows,
        held_out,
        report,
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=placeholder_rows(),
        data_collator=lambda one: one,
    )
    trainer.train()
    if not trainer.tally.losses:
        raise InputError(f"{job.samples} must hold at least one row, got none: make samples of more episodes")
    return trainer.finish()
