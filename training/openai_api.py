"""The calls of the OpenAI API that fine-tuning takes: typed, and repeated while the API is busy.

Invariant: a call that makes something (an upload, a job) is never repeated here: its trouble is returned, because the
thing may have been made all the same. What the API answers is hostile: ids are checked before they become part of a
path, texts are for `quote`.
"""

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any, Final, Generic, TypeVar
from urllib.parse import quote

import msgspec

from engine.errors import RunError
from engine.openai_endpoint import OpenAIEndpoint
from engine.openai_errors import cause_of, failure_of, is_timeout, said_by
from engine.transcript import one_line
from training.patience import Patience, Trouble

PURPOSE: Final = "fine-tune"
CALL_S: Final = 60.0
UPLOAD_S: Final = 1800.0
PAGE: Final = 100
MAX_PAGES: Final = 1000
MAX_MALFORMED: Final = 3
"""Malformed answers to one call before the API counts as none."""

_BUSY: Final = frozenset({"rate_limited", "server_error", "timeout", "connection"})
_NOT_READY: Final = re.compile(r"not (?:yet )?ready|still (?:being )?process|being processed", re.IGNORECASE)
# Waiting does not bring credit; the API says so with the status of a rate limit.
_NO_CREDIT: Final = "insufficient_quota"

Id = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.:=-]{0,127}\Z")]
T = TypeVar("T")
S = TypeVar("S", bound="_Known")


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What lists hold: things with an id; `created_at` is Unix time."""

    id: Id
    created_at: float = 0.0


class FileObject(_Known, frozen=True, kw_only=True):
    """An uploaded file. The API calls `status` deprecated: it may be missing, or stand still."""

    filename: str = ""
    purpose: str = ""
    num_bytes: int | None = msgspec.field(name="bytes", default=None)
    status: str | None = None
    status_details: str | None = None


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed."""

    code: str | None = None
    message: str | None = None
    param: str | None = None


class JobObject(_Known, frozen=True, kw_only=True):
    """A fine-tuning job."""

    status: str
    model: str = ""
    training_file: str = ""
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    error: JobError | None = None
    metadata: dict[str, Any] | None = None


class EventObject(_Known, frozen=True, kw_only=True):
    """What a job says of itself; `data` holds figures where `type` is `metrics`."""

    message: str = ""
    level: str = "info"
    type: str | None = None
    data: Any = None


class _Page(msgspec.Struct, Generic[S], frozen=True):
    data: list[S]
    has_more: bool | None = None


class OpenAIApi:
    """The calls over one open endpoint. All of them raise RunError when trying again cannot help, or time is up."""

    def __init__(self, endpoint: OpenAIEndpoint, patience: Patience) -> None:
        self._endpoint = endpoint
        self._patience = patience

    @property
    def label(self) -> str:
        """What to call the endpoint."""
        return self._endpoint.about.label

    def quote(self, text: str | None) -> str:
        """Return text from the API as one short line that is safe to show, without the key."""
        return one_line(self._endpoint.about.quote(text or ""), 300)

    async def upload(self, name: str, data: bytes) -> FileObject | Trouble:
        """Upload a file for fine-tuning, once."""
        return await self._attempt(self._endpoint.upload(name, data, PURPOSE, timeout_s=UPLOAD_S), FileObject)

    async def create_job(self, body: dict[str, Any]) -> JobObject | Trouble:
        """Make a job, once."""
        return await self._attempt(self._endpoint.post("/fine_tuning/jobs", body, timeout_s=CALL_S), JobObject)

    async def file(self, id: str) -> FileObject | None:
        """Return a file, None when there is none."""
        return await self._get(f"/files/{id}", FileObject)

    async def job(self, id: str) -> JobObject | None:
        """Return a job, None when there is none."""
        return await self._get(f"/fine_tuning/jobs/{id}", JobObject)

    async def has_model(self, name: str) -> bool:
        """Whether the account may use a model."""
        return await self._get(f"/models/{quote(name, safe=':')}", msgspec.Raw) is not None

    async def files(self) -> AsyncGenerator[FileObject, None]:
        """Yield all files for fine-tuning."""
        async for page in self._pages("/files", _Page[FileObject], purpose=PURPOSE):
            for one in page:
                yield one

    async def jobs(self) -> AsyncGenerator[JobObject, None]:
        """Yield all jobs."""
        async for page in self._pages("/fine_tuning/jobs", _Page[JobObject]):
            for one in page:
                yield one

    def event_pages(self, job: str) -> AsyncGenerator[list[EventObject], None]:
        """Yield the events of a job page by page, the latest first; none where the endpoint keeps none."""
        return self._pages(f"/fine_tuning/jobs/{job}/events", _Page[EventObject], is_optional=True)

    async def _pages(
        self, path: str, kind: type[_Page[S]], *, is_optional: bool = False, **query: str
    ) -> AsyncGenerator[list[S], None]:
        """Yield the pages of a list; it ends with one that has nothing new, whatever the API says of more."""
        seen: set[str] = set()
        after: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = await self._get(path, kind, limit=str(PAGE), **query, **after)
            if page is None and not is_optional:
                # Without a list nobody could tell what a killed process has made.
                raise RunError(f"{self.label} must list {path}, got 404: check base_url, or use an endpoint that does")
            fresh = [one for one in page.data if one.id not in seen] if page is not None else []
            if page is None or not fresh:
                return
            yield fresh
            if page.has_more is False:
                return
            seen |= {one.id for one in fresh}
            after = {"after": page.data[-1].id}
        raise RunError(f"{self.label}{path} must end within {MAX_PAGES} pages, got more: check base_url")

    async def _get(self, path: str, kind: type[T], **query: str) -> T | None:
        """Return what is asked for, None when it does not exist; tries again while that may help."""
        troubles: list[Trouble] = []
        while True:
            found = await self._attempt(self._endpoint.get(path, query, timeout_s=CALL_S), kind)
            if not isinstance(found, Trouble):
                return found
            if found.is_missing:
                return None
            troubles.append(found)
            await self._patience.after(troubles)

    async def _attempt(self, call: Awaitable[bytes], kind: type[T]) -> T | Trouble:
        try:
            return msgspec.json.decode(await call, type=kind)
        except Exception as error:  # noqa: BLE001 - failure_of re-raises whatever is not the endpoint's doing
            return self._trouble(error)

    def _trouble(self, error: Exception) -> Trouble:
        about = self._endpoint.about
        failure = failure_of(error, about, time.time())
        if isinstance(error, msgspec.DecodeError | UnicodeDecodeError):
            return Trouble(message=failure.message, max_tries=MAX_MALFORMED)
        said, status = said_by(error), getattr(error, "status_code", 0)
        is_busy = failure.kind in _BUSY and _NO_CREDIT not in said
        if is_busy or (status == 400 and _NOT_READY.search(said)):
            late = "no answer in time" if is_timeout(error) else about.quote(cause_of(error))
            what = f"{status}: {about.quote(said)}" if status else late
            return Trouble(message=f"{self.label} must take the call, got {what}", retry_after_s=failure.retry_after_s)
        return Trouble(message=failure.message, max_tries=1, is_missing=status == 404)


async def found_or_made(
    find: Callable[[], Awaitable[T | None]], make: Callable[[], Awaitable[T | Trouble]], patience: Patience
) -> T:
    """Return what exists, or make it: looks before every try, so that what one try made unseen is not made again."""
    troubles: list[Trouble] = []
    while True:
        found = await find()
        if found is not None:
            return found
        made = await make()
        if not isinstance(made, Trouble):
            return made
        troubles.append(made)
        await patience.after(troubles)
