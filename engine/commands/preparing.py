"""What comes before a run: local models made ready, and what the run will ask for."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine.dryrun import Forecast, forecast, refuse_overflow
from engine.planning import Plan


def default_directory(name: str) -> Path:
    """Return where a run of this name goes when nobody says: runs/NAME-TIME, made safe for a file name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "run"
    return Path("runs") / f"{plain}-{time.strftime('%Y%m%d-%H%M%S')}"


def prepare_models(plan: Plan) -> dict[str, Path]:
    """Make the local models of a plan ready; return their directories by name. Raises InputError with all problems."""
    from engine.config import VllmConfig
    from engine.errors import InputError

    paths: dict[str, Path] = {}
    problems: list[str] = []
    for name, model in plan.config.models.items():
        if isinstance(model, VllmConfig) and name in plan.config.roles.values():
            from actors.models import prepare_model

            print(f"preparing models.{name}: {model.model}", file=sys.stderr)
            try:
                paths[name] = prepare_model(model.model, model.max_model_len)
            except InputError as refused:
                problems += [f"models.{name}: {problem}" for problem in refused.problems]
    if problems:
        raise InputError(problems)
    return paths


def forecast_plan(plan: Plan, paths: dict[str, Path]) -> Forecast:
    """Return what the plan will ask for, and note the expected context in it. Raises InputError when it cannot fit."""
    figures = forecast(plan, token_counter(paths))
    refuse_overflow(plan, figures)
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
