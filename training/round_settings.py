"""Settings of a run of rounds: its own tables of the configuration file; the other tables are those of a run.

[rounds]  how many, what is held out, where training runs, what ends or undoes a round
[samples] what is taught      [training] how      [exam] what each checkpoint answers
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec

from engine.config import without_none
from engine.config_decode import decode
from engine.errors import ConfigError
from engine.swap import SwapPolicy
from training.monitors import DEFAULT_RULES, Rule
from training.settings import SampleSettings
from training.training_settings import TrainingSettings
from training.tuning_job import TuningSettings

MIN_ITEMS: Final = 2
EXAM_SEED: Final = 1_000_003
"""Added to the run's seed: the people of the exam are none of those who are played."""


class RoundsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rounds go on.

    `model` names the pool that is trained, "" where there is only one that can be. The last `held_out` cases are never
    trained: the base model plays them once, and each checkpoint's loss on that is measured. With `overlap` training
    begins while dialogues are still played. `placement` says where workers run: beside the replicas (`dedicated`), or
    in their place while these are stopped (`colocated`). `continues` goes on training the checkpoint that is served
    instead of beginning again from the base. `policy` is how live dialogues meet a swap.
    """

    num_rounds: int = 2
    model: str = ""
    held_out: int = 4
    overlap: bool = False
    placement: Literal["dedicated", "colocated"] = "dedicated"
    continues: bool = True
    policy: SwapPolicy = "finish_on_old"
    rules: tuple[Rule, ...] = DEFAULT_RULES

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each."""
        found = [
            f"rounds.{name} must be at least {least}, got {getattr(self, name)}: set a number from there on"
            for name, least in (("num_rounds", 1), ("held_out", 0))
            if getattr(self, name) < least
        ]
        if self.overlap and self.placement == "colocated":
            found.append('rounds.overlap needs placement = "dedicated", got "colocated": replicas would be stopped')
        for number, rule in enumerate(self.rules):
            found += rule.problems(f"rounds.rules[{number}]")
        return found


class ExamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The exam: `num_items` cases of a source (`sampled`, or a file whose cases have a `condition`); 0 is none.

    With `tasks`, which are those of an exam of items, their items are put instead, as `protocol` says. `discordant` is
    the share of items expected to be right in one of two exams and wrong in the other: 0.5 is that of two models with
    nothing in common, and asks for most items.
    """

    source: str = "sampled"
    num_items: int = 100
    num_options: int = 4
    tasks: dict[str, dict[str, Any]] = {}
    protocol: dict[str, Any] = {}
    discordant: float = 0.5

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each."""
        found = []
        if self.num_items != 0 and self.num_items < MIN_ITEMS:
            rule = f"exam.num_items must be 0 or at least {MIN_ITEMS}"
            found.append(f"{rule}, got {self.num_items}: 0 leaves the exam out")
        if not 0 < self.discordant <= 1:
            rule = "exam.discordant must be a share above 0 and at most 1"
            found.append(f"{rule}, got {self.discordant}: rounds.html says what was measured")
        if self.protocol and not self.tasks:
            found.append("exam.protocol says how items are put, got no [exam.tasks.NAME]: add one, or leave it out")
        return found


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All tables that a run of rounds adds."""

    rounds: RoundsSettings = RoundsSettings()
    samples: SampleSettings = SampleSettings()
    training: TrainingSettings = TrainingSettings()
    tuning: TuningSettings = TuningSettings()
    exam: ExamSettings = ExamSettings()


TABLES: Final = tuple(Settings.__struct_fields__)


def split(table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (the tables of rounds, the tables of a run)."""
    own = {name: inner for name, inner in table.items() if name in TABLES}
    return own, {name: inner for name, inner in table.items() if name not in TABLES}


def read_settings(table: Mapping[str, Any]) -> Settings:
    """Decode the tables of rounds. Raises ConfigError with every problem."""
    problems: list[str] = []
    rounds = _read(RoundsSettings, table, "rounds", problems)
    samples = _read(SampleSettings, table, "samples", problems)
    training = _read(TrainingSettings, table, "training", problems)
    tuning = _read(TuningSettings, table, "tuning", problems)
    exam = _read(ExamSettings, table, "exam", problems)
    if rounds is None or samples is None or training is None or tuning is None or exam is None or problems:
        raise ConfigError(problems)
    return Settings(rounds=rounds, samples=samples, training=training, tuning=tuning, exam=exam)


S = TypeVar("S", RoundsSettings, SampleSettings, TrainingSettings, TuningSettings, ExamSettings)


def _read(kind: type[S], table: Mapping[str, Any], name: str, problems: list[str]) -> S | None:
    found, faults = decode(kind, table.get(name, {}), f"{name}.")
    problems += faults or (found.problems() if found is not None else [])
    return found


def to_table(settings: Settings) -> dict[str, Any]:
    """Return the tables with every default written out, absent values left away."""
    return {name: without_none(msgspec.to_builtins(getattr(settings, name))) for name in TABLES}
