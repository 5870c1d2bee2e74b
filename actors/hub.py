"""Models from the Hugging Face hub: safetensors, configuration and tokenizer into the local cache, never code.

Every way in which the hub says no becomes an `InputError` that says what to do.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.errors import InputError

KINDS: Final = "smollm2-135m, a directory or a Hugging Face id"
_FILES: Final = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.jinja", "*.model"]
_COPIES: Final = ["original/*", "consolidated*", "onnx/*", "openvino/*"]
"""The same weights in other forms, which some repositories hold beside their own."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class NotCached(InputError):
    """A model is not in the local cache, and the hub was not, or could not be, asked."""


def fetch_from_hub(name: str, revision: str | None = None, *, is_local_only: bool = False) -> Path:
    """Return the local directory of a Hugging Face id, downloaded if need be.

    `revision` is a branch, tag or commit (default: the newest). Raises `InputError` when it cannot be had: no such
    model or revision, gated, no right to it; `NotCached` without a network or with `is_local_only`.
    """
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"model must be {KINDS}, got {name}: no such directory")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=_FILES,
                ignore_patterns=_COPIES,
                local_files_only=is_local_only,
            )
        )
    except HFValidationError as error:
        raise InputError(f"model must be {KINDS}, got {name}: no such model") from error
    except OSError as error:  # also every answer of the hub, and what is not in the cache
        raise _refusal(name, revision, error, is_local_only) from error


def commit_of(path: Path) -> str | None:
    """Return the commit that a directory of the hub's cache holds, None for any other directory."""
    is_snapshot = path.parent.name == "snapshots" and _COMMIT.fullmatch(path.name) is not None
    return path.name if is_snapshot else None


def _refusal(name: str, revision: str | None, error: OSError, is_local_only: bool) -> InputError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page, token = f"https://huggingface.co/{name}", "set HF_TOKEN to a token of that account"
    causes = list(_causes(error))
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return InputError(f"{name} is gated: accept its licence at {page} and {token}")
    if any(isinstance(cause, RevisionNotFoundError) for cause in causes):
        return InputError(f"revision must be a branch, tag or commit of {name}, got {revision!r}: see {page}/commits")
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        advice = "one that is private or gated needs the variable HF_TOKEN"
        return InputError(f"model must be {KINDS}, got {name}: no such model at {page} ({advice})")
    statuses = [getattr(getattr(cause, "response", None), "status_code", None) for cause in causes]
    if refused := [status for status in statuses if status in (401, 403)]:
        rule = f"{name} is refused by the hub (status {refused[0]})"
        return InputError(f"{rule}: accept its licence at {page}, and {token} that may read it")
    return _unreachable(name, revision, error, is_local_only)


def _unreachable(name: str, revision: str | None, error: OSError, is_local_only: bool) -> NotCached:
    from huggingface_hub import constants

    asked = name if revision is None else f"{name} at {revision}"
    option = "" if revision is None else f" --revision {revision}"
    if is_local_only:
        return NotCached(f"{asked} is not in the local cache: sandplay fetch {name}{option} brings it")
    if constants.HF_HUB_OFFLINE:
        where = f"unset it, or run `sandplay fetch {name}{option}` with a network and the same HF_HOME first"
        return NotCached(f"{asked} is not in the local cache and HF_HUB_OFFLINE is set: {where}")
    return NotCached(
        f"{asked} is not in the local cache and the hub cannot be reached ({type(error).__name__}): "
        "give a local directory, or use smollm2-135m, which needs no network"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from: a hub's answer hides behind the missing file that it leads to."""
    while error is not None:
        yield error
        error = error.__cause__
