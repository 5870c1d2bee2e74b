"""The log of a run of rounds: `rounds.jsonl`, one line for each step that is done; the truth for how far it is.

Invariant: a line is there only when what it says is durable, and a step that has a line is never done again. What a
killed writer left of a line is cut off. Knows the steps, nothing of how they are done.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from engine.errors import JournalError
from engine.protocols.exam import Score
from training.monitors import Breach, RoundFigures

FILE: Final = "rounds.jsonl"
BEFORE: Final = -1
"""The round of what is done once, before the first: the held-out dialogues, and the base model's exam."""


class Step(msgspec.Struct, frozen=True, kw_only=True, tag=str.lower, tag_field="step"):
    """One step that is done. `at` is Unix time, `elapsed_s` what it took this time."""

    round: int
    at: float = 0.0
    elapsed_s: float = 0.0


class Played(Step, frozen=True, kw_only=True):
    """All dialogues of a round have ended. `weights` are all weight versions that they were sampled under.

    `cost` is in the unit of the models' prices, None without prices.
    """

    version: str
    episodes: dict[str, int]
    weights: tuple[str, ...] = ()
    cost: float | None = None


class Sampled(Step, frozen=True, kw_only=True):
    """The samples are written: rows by kind, drops by reason, and the figures that rules look at."""

    kept: dict[str, int]
    dropped: dict[str, int]
    figures: RoundFigures


class Trained(Step, frozen=True, kw_only=True):
    """A checkpoint is published. Losses are means over taught tokens; those on held-out rows may be missing.

    With a `failure` there is none: training came to something that is no model.
    """

    version: str
    num_steps: int
    num_tokens: int
    loss: float | None = None
    losses: tuple[float, ...] = ()
    held_out_before: float | None = None
    held_out_after: float | None = None
    failure: str = ""


class Swapped(Step, frozen=True, kw_only=True):
    """The replicas serve another version. `refused` says why a checkpoint was not taken: the old one goes on.

    `num_changed` of `num_probes` greedy replies differ from those of the version before.
    """

    version: str
    before: str
    weights: str = ""
    stalled_s: float = 0.0
    refused: str = ""
    num_probes: int = 0
    num_changed: int = 0


class ExamChange(msgspec.Struct, frozen=True, kw_only=True):
    """How much higher a score is than that of an earlier round over the same items, each paired with itself.

    `against` is that round, BEFORE the base model; `low` and `high` are the 95 % interval of `value`. `num_better`
    items are right only now, `num_worse` only then. `smallest` is the smallest fall that so many items, of which as
    many differ, show in 80 of 100 exams; None where they show none.
    """

    against: int
    value: float
    low: float
    high: float
    num_better: int
    num_worse: int
    p: float
    smallest: float | None = None

    @property
    def num_discordant(self) -> int:
        """Items that are right in one of the two exams only."""
        return self.num_better + self.num_worse


class Examined(Step, frozen=True, kw_only=True):
    """The served model has answered the exam. `change` compares items with those of the version last kept.

    Which items were right stands in the exam's own run. `cost` is in the unit of the models' prices.
    """

    version: str
    score: Score
    change: ExamChange | None = None
    cost: float | None = None


class Decided(Step, frozen=True, kw_only=True):
    """What becomes of a round, and why: `serves` is the version that the next one is played with."""

    action: str
    serves: str
    breaches: tuple[Breach, ...] = ()
    figures: RoundFigures | None = None


AnyStep: TypeAlias = Played | Sampled | Trained | Swapped | Examined | Decided
S = TypeVar("S", bound=Step)


class RoundLog:
    """The steps of one run of rounds; one writer at a time. `open` is the way to get one."""

    def __init__(self, path: Path, steps: list[AnyStep]) -> None:
        self.path = path
        self.steps = steps

    @classmethod
    def open(cls, path: Path) -> "RoundLog":
        """Read a log, an absent one as empty, and cut off what is no whole line. Raises JournalError."""
        steps, end = read_steps(path)
        if path.exists() and end < path.stat().st_size:
            os.truncate(path, end)
        return cls(path, steps)

    def add(self, step: AnyStep) -> None:
        """Append a step; durable when this returns."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(step) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.steps.append(step)

    def find(self, kind: type[S], number: int) -> S | None:
        """Return the last step of a kind that a round has, None when it has none."""
        return next((one for one in reversed(self.steps) if isinstance(one, kind) and one.round == number), None)

    def all(self, kind: type[S]) -> Iterator[S]:
        """Yield all steps of a kind, in order."""
        return (one for one in self.steps if isinstance(one, kind))

    @property
    def serves(self) -> str:
        """The version that decisions so far have left in service, "" for the base model."""
        return next((one.serves for one in reversed(list(self.all(Decided)))), "")

    @property
    def kept_figures(self) -> RoundFigures | None:
        """The figures of the last round that was kept."""
        kept = [one.figures for one in self.all(Decided) if one.action == "keep"]
        return kept[-1] if kept else None

    @property
    def kept_exam(self) -> Examined | None:
        """The exam of the last round that was kept, of the base model while none was."""
        kept = [one.round for one in self.all(Decided) if one.action == "keep"]
        return self.find(Examined, kept[-1] if kept else BEFORE)


def read_steps(path: Path) -> tuple[list[AnyStep], int]:
    """Return the steps of a log and where its last whole line ends. Raises JournalError for a line that is no step."""
    steps: list[AnyStep] = []
    end = 0
    if not path.exists():
        return steps, end
    kinds: Any = AnyStep
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            steps.append(msgspec.json.decode(line, type=kinds))
        except msgspec.MsgspecError as error:
            raise JournalError(f"{path} must hold steps, got line {len(steps) + 1}: {error}: restore it") from None
        end += len(line)
    return steps, end
