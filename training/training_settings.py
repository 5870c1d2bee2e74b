"""Settings of training: the `[training]` table. Pure; knows nothing of torch."""

import importlib.util
from collections.abc import Mapping
from typing import ClassVar, Final, Literal

import msgspec

Method = Literal["lora", "qlora", "full"]
Tracker = Literal["tensorboard", "wandb"]

_RATE_OF_ADAPTERS: Final = 2e-4
_RATE_OF_WEIGHTS: Final = 5e-5


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is trained. The defaults of the low-rank adapter are the paper's; its schedule is constant.

    `batch_size` counts rows of one worker at a time, `accumulate` such batches per step; `max_length` is in tokens of
    one row, longer ones are dropped and counted. `learning_rate` "auto" is the paper's 2e-4 for adapters, and 5e-5 for
    all weights, which learn by heart sooner. `packing` joins the rows of a batch without padding. `bf16` "auto" means
    bf16 on GPU and float32 on CPU. `zero_stage` is DeepSpeed's. Left out, `gpus_per_worker` is one where the cluster
    has GPUs, and `threads` shares the cores among the workers. A training state is kept every `save_every` steps,
    figures are logged every `log_every`, to the trackers of `report_to` as well. Workers that die are restarted from
    the last state at most `max_restarts` times.
    """

    method: Method = "lora"
    rank: int = 64
    alpha: int = 16
    dropout: float = 0.1
    learning_rate: float | Literal["auto"] = "auto"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    epochs: int = 1
    batch_size: int = 4
    accumulate: int = 1
    max_length: int = 2048
    packing: bool = True
    gradient_checkpointing: bool = False
    bf16: bool | Literal["auto"] = "auto"
    zero_stage: Literal[0, 1, 2, 3] = 2
    workers: int = 1
    gpus_per_worker: float | None = None
    threads: int | None = None
    save_every: int = 50
    log_every: int = 5
    seed: int = 0
    report_to: tuple[Tracker, ...] = ()
    max_restarts: int = 3

    minima: ClassVar[Mapping[str, float]] = {
        "rank": 1,
        "alpha": 1,
        "dropout": 0,
        "warmup_steps": 0,
        "weight_decay": 0,
        "max_grad_norm": 0,
        "epochs": 1,
        "batch_size": 1,
        "accumulate": 1,
        "max_length": 2,
        "workers": 1,
        "gpus_per_worker": 0,
        "threads": 1,
        "save_every": 1,
        "log_every": 1,
        "seed": 0,
        "max_restarts": 0,
    }

    @property
    def rate(self) -> float:
        """The learning rate in use."""
        if self.learning_rate != "auto":
            return self.learning_rate
        return _RATE_OF_WEIGHTS if self.method == "full" else _RATE_OF_ADAPTERS

    def problems(self, where: str = "training.") -> list[str]:
        """Return what is out of range or not installed, one sentence each."""
        values = {name: getattr(self, name) for name in self.minima}
        found = [
            f"{where}{name} must be at least {self.minima[name]}, got {value}"
            for name, value in values.items()
            if value is not None and not value >= self.minima[name]
        ]
        gpus = self.gpus_per_worker
        if gpus is not None and gpus > 1 and gpus % 1 != 0:
            rule = f"{where}gpus_per_worker must be a whole number or a part of one GPU, got {gpus:g}"
            found.append(f"{rule}: leave it out for one")
        if not self.dropout < 1:
            found.append(f"{where}dropout must be less than 1, got {self.dropout}: 0.1 is the paper's")
        if not 0 < self.rate < 1:
            found.append(f"{where}learning_rate must be between 0 and 1, got {self.rate}: 2e-4 is the paper's")
        found += [
            f"{where}report_to needs {tracker}, got none installed: pip install {tracker}"
            for tracker in self.report_to
            if importlib.util.find_spec(tracker) is None
        ]
        if self.method == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
            found.append(f'{where}method "qlora" needs bitsandbytes and a GPU, got none installed: use method = "lora"')
        return found
