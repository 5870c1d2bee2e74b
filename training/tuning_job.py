"""A fine-tuning job at a hosted API: what is asked, what came of it, and how far it is. Pure, but for one file.

    directory/
        sandplay-DIGEST.jsonl   the rows as they are uploaded, named after what they hold
        tuning.json             how far the job is; written before each call that costs, and after it

Invariant: `tuning.json` never says less than was asked of the API, so that whoever comes again knows what to look for.
"""

import hashlib
import re
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from engine.errors import InputError, RunError
from engine.files import write_atomic

STATE: Final = "tuning.json"

MAX_EPOCHS: Final = 50
MAX_BATCH: Final = 256
"""What the API takes at most."""

_SUFFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


class TuningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a hosted model is fine-tuned; "auto" leaves a choice to the API.

    `learning_rate_multiplier` scales the API's own rate. `suffix` becomes part of the resulting model's name. The job
    is looked at every `poll_s` seconds, for at most `max_wait_s`: then whoever waits gives up, and the job goes on.
    """

    epochs: int | Literal["auto"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"
    suffix: str = "sandplay"
    seed: int | None = None
    poll_s: float = 10.0
    max_wait_s: float = 86400.0

    def problems(self, where: str = "tuning.") -> list[str]:
        """Return what is out of range, one sentence each."""
        found = [
            f'{where}{name} must be "auto" or 1..{most}, got {value}: "auto" lets the API choose'
            for name, most in (("epochs", MAX_EPOCHS), ("batch_size", MAX_BATCH))
            if (value := getattr(self, name)) != "auto" and not 1 <= value <= most
        ]
        rate = self.learning_rate_multiplier
        if rate != "auto" and not 0 < rate < 1000:
            found.append(
                f'{where}learning_rate_multiplier must be "auto" or between 0 and 1000, got {rate}: 1 is plain'
            )
        if not _SUFFIX.fullmatch(self.suffix):
            found.append(f"{where}suffix must be 1..64 letters, digits and hyphens, got {self.suffix!r}: shorten it")
        if self.seed is not None and not 0 <= self.seed < 2**31:
            found.append(f"{where}seed must be 0..{2**31 - 1}, got {self.seed}: leave it out to let the API draw one")
        if not 0 <= self.poll_s <= 3600:
            found.append(f"{where}poll_s must be 0..3600, got {self.poll_s:g}: 10 is polite")
        if not 0 < self.max_wait_s < float("inf"):
            found.append(f"{where}max_wait_s must be more than 0, got {self.max_wait_s:g}: a day is 86400")
        return found

    def hyperparameters(self) -> dict[str, Any]:
        """Return what the API calls so."""
        return {
            "n_epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }


class TuningJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is fine-tuned on what.

    `model` is the hosted model's id; `samples` a closed sample log of `messages` rows, `held_out` another one, whose
    loss the API measures, or "". `api_key_env` names the environment variable that holds the key.
    """

    model: str
    samples: str
    directory: str
    base_url: str
    api_key_env: str | None
    settings: TuningSettings = TuningSettings()
    held_out: str = ""

    def problems(self) -> list[str]:
        """Return what is wrong with the job before its samples are read, one sentence each."""
        found = self.settings.problems()
        if not self.model:
            found.append("the model to fine-tune must have an id, got nothing: name it as the API does")
        return found


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job: `model` is the resulting model's id, `job` and `file` what the API calls them.

    `losses` are those of the training steps that the API reports, `loss` the last of them; `held_out_loss` is the last
    one on the held-out rows. `elapsed_s` is wall time since the directory was begun.
    """

    model: str
    job: str
    file: str
    num_rows: int
    trained_tokens: int | None
    elapsed_s: float
    loss: float | None = None
    losses: tuple[float, ...] = ()
    held_out_loss: float | None = None


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """One file: what is to be uploaded, whether that was begun, and the API's id once it is known."""

    num_rows: int
    num_bytes: int
    is_begun: bool = False
    file: str = ""


class TuningState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is.

    `asked` identifies it. `is_creating` from before the job is made until its id is known; `known_jobs` are then the
    API's jobs on these rows that are not this one. `failure` is why the last job of this directory ended badly: nothing
    is then under way. `begun_at` is Unix time.
    """

    asked: dict[str, str] = {}
    begun_at: float = 0.0
    uploads: dict[str, Upload] = {}
    is_creating: bool = False
    known_jobs: tuple[str, ...] = ()
    job: str = ""
    failure: str = ""
    result: Tuned | None = None

    @property
    def key(self) -> str:
        """What a job is recognised by: equal rows, model and settings have one key."""
        table = {name: value for name, value in self.asked.items() if name != "base_url"}
        return hashlib.sha256(msgspec.json.encode(table, order="sorted")).hexdigest()[:32]

    def changes(self, asked: dict[str, str], where: str) -> list[str]:
        """Return how another job differs, one sentence each; names that are not asked for are left out.

        A directory with nothing under way takes any job.
        """
        if not (self.job or self.is_creating or self.result):
            return []
        return [
            f"{where} holds another fine-tuning job: {name} was {self.asked.get(name)!r}, got {value!r}:"
            " use a new directory"
            for name, value in asked.items()
            if self.asked.get(name) != value
        ]


def asked_of(job: TuningJob) -> dict[str, str]:
    """Return what identifies a job, all but its rows."""
    settings = job.settings
    return {
        "model": job.model,
        "base_url": job.base_url.rstrip("/"),
        "suffix": settings.suffix,
        "seed": "" if settings.seed is None else str(settings.seed),
        **{name: str(value) for name, value in settings.hyperparameters().items()},
    }


def read_state(directory: Path) -> TuningState:
    """Return how far the job in a directory is. Raises RunError when its file says nothing."""
    path = directory / STATE
    try:
        return msgspec.json.decode(path.read_bytes(), type=TuningState)
    except FileNotFoundError:
        return TuningState()
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{path} must say how far the fine-tuning is, got {error}: restore it") from error


def write_state(directory: Path, state: TuningState) -> None:
    """Keep how far a job is; durable when this returns."""
    write_atomic(directory / STATE, msgspec.json.format(msgspec.json.encode(state)))


def require_same(state: TuningState, asked: dict[str, str], directory: Path) -> None:
    """Raise InputError when a directory holds another job than the one asked for."""
    if changed := state.changes(asked, str(directory)):
        raise InputError(changed)
