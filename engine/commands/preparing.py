"""What comes before a run: local models made ready, and what the run will ask for."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from engine.config import Config
from engine.config_sections import VllmConfig
from engine.dryrun import Forecast, forecast, refuse_overflow
from engine.egress import Outlet, outlets, refusals
from engine.planning import Plan
from engine.privacy.screening import Screened
from engine.tables import say

COMMITS: Final = "inputs/commits.json"
"""Which commit of the hub each model and data set of a run is, where it comes from there."""


def default_directory(name: str) -> Path:
    """Return where a run of this name goes when nobody says: runs/NAME-TIME, made safe for a file name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "run"
    return Path("runs") / f"{plain}-{time.strftime('%Y%m%d-%H%M%S')}"


def prepare_models(
    plan: Plan, kept: Mapping[str, str] | None = None, *, is_dry: bool = False, more: Sequence[Outlet] = ()
) -> dict[str, Path]:
    """Make the local models of a plan ready; return their directories by name. Raises InputError with all problems.

    The door that every run comes through: one whose texts, or `more` that goes with it, would leave without leave is
    refused. `kept` holds the commits that a run began with: it goes on with these. A dry run refuses nothing for where
    its texts go; neither it nor a run that is refused for that downloads anything, and what is not there is left out.
    """
    from actors.hub import NotCached
    from engine.errors import InputError

    say_personal(plan.personal)
    paths: dict[str, Path] = {}
    leaving = [] if is_dry else refusals([*outlets(plan.config, plan.spec), *more], plan.config.privacy.egress)
    problems = [*leaving, *engine_problems(plan.config)]
    for name, model in plan.config.models.items():
        if isinstance(model, VllmConfig) and name in plan.config.roles.values():
            try:
                is_local_only = is_dry or bool(leaving)
                paths[name] = prepare_one(name, model, (kept or {}).get(name), is_local_only=is_local_only)
            except NotCached as missing:
                if leaving:
                    continue
                if not is_dry:
                    problems += [f"models.{name}: {missing}"]
                else:
                    say(f"{missing}; its tokens are guessed at 4 bytes each")
            except InputError as refused:
                problems += [f"models.{name}: {problem}" for problem in refused.problems]
    if problems:
        raise InputError(problems)
    return paths


def say_personal(personal: Screened) -> None:
    """Say what of data that was read in looks personal or secret, if anything does."""
    if sentence := personal.sentence:
        say(f"warning: {sentence}")


def prepare_one(name: str, model: VllmConfig, commit: str | None = None, *, is_local_only: bool = False) -> Path:
    """Make one model ready, of a commit if one is given; return its directory. Raises InputError."""
    from actors.models import prepare_model

    say(f"preparing models.{name}: {model.model}")
    revision = commit or model.revision
    return prepare_model(model.model, model.max_model_len, revision=revision, is_local_only=is_local_only)


def engine_problems(config: Config) -> list[str]:
    """Return one sentence for each name in an engine table that the installed vLLM does not take; none without vLLM."""
    from actors.engine_names import known_arguments, unknown_problems

    tables = {name: model.engine for name, model in config.models.items() if isinstance(model, VllmConfig)}
    known = known_arguments() if any(tables.values()) else None
    if known is None:
        return []
    return [problem for name, table in tables.items() for problem in unknown_problems(f"models.{name}", table, known)]


def commit_files(paths: Mapping[str, Path], datasets: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Return the file of a run directory that says which commits its models and data sets are, if any is of the hub."""
    from actors.hub import commit_of

    found = {name: commit for name, path in paths.items() if (commit := commit_of(path)) is not None}
    found |= datasets or {}
    return {COMMITS: json.dumps(found).encode()} if found else {}


def kept_commits(directory: Path) -> dict[str, str]:
    """Return the commits that a run began with, by model."""
    path = directory / COMMITS
    found: dict[str, str] = json.loads(path.read_bytes()) if path.is_file() else {}
    return found


def forecast_plan(plan: Plan, paths: dict[str, Path], *, is_dry: bool = False) -> Forecast:
    """Return what the plan will ask for, and note the expected context in it. Raises InputError when it cannot fit.

    A dry run that lacks a model guesses lengths: what does not fit by the guess is said and not refused.
    """
    from engine.errors import InputError

    figures = forecast(plan, token_counter(paths))
    local = {name for name, model in plan.config.models.items() if isinstance(model, VllmConfig)}
    try:
        refuse_overflow(plan, figures)
    except InputError as refused:
        if not is_dry or paths.keys() >= local & set(plan.config.roles.values()):
            raise
        say(f"by that guess, {refused}")
    plan.expected_context = figures.expected_context
    return figures


def token_counter(paths: dict[str, Path]) -> Callable[[str], int]:
    """Return a function that counts tokens: with the first local model's tokenizer, else bytes / 4 rounded up."""
    files = [path / "tokenizer.json" for path in paths.values() if (path / "tokenizer.json").is_file()]
    if not files:
        from engine.token_count import bytes_count

        return bytes_count
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(files[0]))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
