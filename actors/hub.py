"""Models and data sets from the Hugging Face hub into the local cache: weights and files of data, never code.

Every way in which the hub says no becomes an `InputError` that says what to do.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.cases.datasets import DatasetName
from engine.errors import InputError

KINDS: Final = "smollm2-135m, a directory or a Hugging Face id"
_FILES: Final = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.jinja", "*.model"]
_COPIES: Final = ["original/*", "consolidated*", "onnx/*", "openvino/*"]
"""The same weights in other forms, which some repositories hold beside their own."""
_DESCRIPTIONS: Final = ("dataset_infos.json",)
"""Files beside the data that look like data."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class NotCached(InputError):
    """A model or data set is not in the local cache, and the hub was not, or could not be, asked."""


class _Asked(NamedTuple):
    """What the hub was asked for: `id` on the hub, `name` as users write it."""

    id: str
    name: str
    revision: str | None
    is_local_only: bool
    is_dataset: bool = False

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{'datasets/' if self.is_dataset else ''}{self.id}"

    @property
    def rule(self) -> str:
        what = "a data set must be one of the hub" if self.is_dataset else f"model must be {KINDS}"
        return f"{what}, got {self.name}: no such {'data set' if self.is_dataset else 'model'}"


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
        raise _refusal(_Asked(name, name, revision, is_local_only), error) from error


def fetch_dataset(
    name: DatasetName, suffixes: Sequence[str], revision: str | None = None, *, is_local_only: bool = False
) -> Path:
    """Return the local path of a data set's file, downloaded if need be: the one named, or the only one that fits.

    A file fits whose ending is one of `suffixes`. Raises `InputError` and `NotCached` as `fetch_from_hub` does, and
    InputError for a file that is not there, does not fit, or is not the only one.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    asked = _Asked(name.id, str(name), revision, is_local_only, is_dataset=True)
    if name.file and not name.file.lower().endswith(tuple(suffixes)):
        raise InputError(f"a file of data must end in {', '.join(suffixes)}, got {name}: name another")
    try:
        file = name.file or _only_file(name, suffixes, asked)
        return Path(
            hf_hub_download(name.id, file, repo_type="dataset", revision=revision, local_files_only=is_local_only)
        )
    except HFValidationError as error:
        raise InputError(asked.rule) from error
    except OSError as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise InputError(f"a file must be one of the data set, got {name}: see {asked.page}/tree/main") from error
        raise _refusal(asked, error) from error


def _only_file(name: DatasetName, suffixes: Sequence[str], asked: _Asked) -> str:
    """Return the file of a data set that fits. Raises InputError when there is none or several, and as the hub does."""
    found = [
        file
        for file in _files_of(asked)
        if file.lower().endswith(tuple(suffixes)) and not file.startswith(".") and file not in _DESCRIPTIONS
    ]
    if len(found) != 1:
        several = f"{len(found)}, such as {found[0]}: name one, as {name}:{found[0]}" if found else "none: see its page"
        ends = ", ".join(suffixes)
        raise InputError(f"a data set without a file named must have one that ends in {ends}, got {several}")
    return found[0]


def _files_of(asked: _Asked) -> list[str]:
    """Return the files of a data set: as the hub lists them, or without it as far as they are in the cache."""
    import httpx2
    from huggingface_hub import HfApi, constants, snapshot_download

    if not asked.is_local_only and not constants.HF_HUB_OFFLINE:
        api = HfApi()
        with contextlib.suppress(httpx2.TransportError):  # without a network: what is in the cache
            # Asked first since it is tried once: a hub that cannot be reached keeps the listing for half a minute.
            commit = api.repo_info(asked.id, revision=asked.revision, repo_type="dataset").sha
            return sorted(api.list_repo_files(asked.id, revision=commit, repo_type="dataset"))
    root = Path(snapshot_download(asked.id, repo_type="dataset", revision=asked.revision, local_files_only=True))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def commit_of(path: Path) -> str | None:
    """Return the commit that a directory or file of the hub's cache is of, None for any other."""
    places = (place for place in (path, *path.parents) if place.parent.name == "snapshots")
    return next((place.name for place in places if _COMMIT.fullmatch(place.name)), None)


def _refusal(asked: _Asked, error: OSError) -> InputError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    name, page, token = asked.id, asked.page, "set HF_TOKEN to a token of that account"
    causes = list(_causes(error))
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return InputError(f"{name} is gated: accept its licence at {page} and {token}")
    if any(isinstance(cause, RevisionNotFoundError) for cause in causes):
        rule = f"revision must be a branch, tag or commit of {name}, got {asked.revision!r}"
        return InputError(f"{rule}: see {page}/commits")
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        advice = "one that is private or gated needs the variable HF_TOKEN"
        return InputError(f"{asked.rule} at {page} ({advice})")
    statuses = [getattr(getattr(cause, "response", None), "status_code", None) for cause in causes]
    if refused := [status for status in statuses if status in (401, 403)]:
        rule = f"{name} is refused by the hub (status {refused[0]})"
        return InputError(f"{rule}: accept its licence at {page}, and {token} that may read it")
    return _unreachable(asked, error)


def _unreachable(asked: _Asked, error: OSError) -> NotCached:
    from huggingface_hub import constants

    name, revision = asked.name, asked.revision
    what = name if revision is None else f"{name} at {revision}"
    option = "" if revision is None else f" --revision {revision}"
    if asked.is_local_only:
        return NotCached(f"{what} is not in the local cache: sandplay fetch {name}{option} brings it")
    if constants.HF_HUB_OFFLINE:
        where = f"unset it, or run `sandplay fetch {name}{option}` with a network and the same HF_HOME first"
        return NotCached(f"{what} is not in the local cache and HF_HUB_OFFLINE is set: {where}")
    instead = (
        "give a local file"
        if asked.is_dataset
        else ("give a local directory, or use smollm2-135m, which needs no network")
    )
    reason = type(error).__name__
    return NotCached(f"{what} is not in the local cache and the hub cannot be reached ({reason}): {instead}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from: a hub's answer hides behind the missing file that it leads to."""
    while error is not None:
        yield error
        error = error.__cause__
