"""Fine-tuning of a hosted model through the OpenAI API, on the samples that others are trained on.

    rows -> upload -> job -> follow to its end -> the resulting model's id

Invariants: an upload and a job are looked for before they are made, under names that follow from what they hold; what
is about to be made is written down before, what was made as soon as it is known. So a process that is killed at any
point, and started again, makes neither a second time. A job goes on at the API whoever watches.
"""

import asyncio
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from engine.clock import Clock, SystemClock
from engine.errors import InputError, RunError, RunHeld
from engine.openai_endpoint import OpenAIEndpoint
from training.openai_api import FileObject, JobObject, OpenAIApi, found_or_made
from training.patience import Patience, Trouble
from training.tuning_events import Events
from training.tuning_job import (
    Tuned,
    TuningJob,
    TuningSettings,
    TuningState,
    Upload,
    asked_of,
    read_state,
    require_same,
    write_state,
)
from training.tuning_rows import RowsFile, write_rows

__all__ = ["Tuned", "TuningJob", "TuningSettings", "tune"]

LOCK: Final = "tuning.lock"
KEY: Final = "sandplay"
"""The name in a job's metadata under which it is recognised."""

FILE_WAIT_S: Final = 1800.0
"""How long an uploaded file may be processed; then the job's creation tells whether it is ready."""

_FILE_PENDING: Final = frozenset({"uploaded", "pending", "running", "processing"})
_FILE_BROKEN: Final = frozenset({"error", "failed", "deleting", "deleted"})
_SUCCEEDED: Final = "succeeded"
_ENDED_BADLY: Final = frozenset({"failed", "cancelled"})
_MODEL: Final = re.compile(r"[!-~]{1,256}")


async def tune(job: TuningJob, say: Callable[[str], None] = lambda _: None, *, clock: Clock | None = None) -> Tuned:
    """Fine-tune a hosted model and return what came of it; a job that is done is not asked for again.

    May be called again after anything, a kill included, and goes on where it was. Cancelled, it leaves the job running.
    Raises InputError for samples and settings that the API would refuse, for a missing key, and for a directory that
    holds another job; RunError (BackendDown: unreachable, key refused) when the job fails or cannot be followed. After
    a job that failed, the next call makes a new one.
    """
    asked = asked_of(job)
    directory = Path(job.directory)
    endpoint = _checked(job)
    with _held(directory):
        state = read_state(directory)
        if state.result is not None:
            require_same(state, asked, directory)
            return state.result
        training, validation = await asyncio.to_thread(write_rows, job.samples, job.held_out, directory)
        asked |= {"samples": training.name, "held_out": validation.name if validation else ""}
        require_same(state, asked, directory)
        clock = clock or SystemClock()
        await endpoint.open()
        try:
            patience = Patience(job.settings.max_wait_s, clock, say)
            tuning = _Tuning(job, state, OpenAIApi(endpoint, patience), patience, clock, say)
            tuning.begin(asked, training, validation)
            return await tuning.run()
        finally:
            await endpoint.close()


def _checked(job: TuningJob) -> OpenAIEndpoint:
    """Return the endpoint of a job. Raises InputError with everything that is wrong before samples are read."""
    problems = job.problems()
    try:
        endpoint = OpenAIEndpoint(
            base_url=job.base_url, model=job.model, api_key_env=job.api_key_env, max_connections=1
        )
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    return endpoint


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Make a directory and hold it: two processes at once could both find nothing and both make a job."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(f"a directory for fine-tuning must be writable, got {error}: choose another") from error
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        problem = f"one process at a time may fine-tune in {directory}, got a second: wait for the first or stop it"
        raise RunHeld(problem) from None


class _Tuning:
    """One job in its directory, followed by one process."""

    def __init__(
        self,
        job: TuningJob,
        state: TuningState,
        api: OpenAIApi,
        patience: Patience,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._job = job
        self._directory = Path(job.directory)
        self._state = state
        self._api = api
        self._patience = patience
        self._clock = clock
        self._say = say
        self._events = Events(api, say)

    def begin(self, asked: dict[str, str], *files: RowsFile | None) -> None:
        """Write down what is asked for."""
        uploads = dict(self._state.uploads)
        for file in files:
            if file is not None and file.name not in uploads:
                uploads[file.name] = Upload(num_rows=file.num_rows, num_bytes=file.num_bytes)
        self._save(asked=asked, uploads=uploads, begun_at=self._state.begun_at or self._clock.time())

    async def run(self) -> Tuned:
        """Do what is not done yet."""
        try:
            if not self._state.job:
                asked = self._state.asked
                training = await self._file(asked["samples"])
                validation = await self._file(asked["held_out"]) if asked["held_out"] else ""
                await self._make_job(training, validation)
            return await self._follow(self._state.job)
        except asyncio.CancelledError:
            what = f"{self._state.job} goes on at {self._api.label}" if self._state.job else "no job is followed yet"
            self._say(f"fine-tuning is left: {what}; run again to go on where it is")
            raise

    def _save(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        write_state(self._directory, self._state)

    # ---------------------------------------------------------------- the files

    async def _file(self, name: str) -> str:
        """Return the id of a file that the API holds and has processed, uploading it when there is none."""
        upload = self._state.uploads[name]
        found = await self._api.file(upload.file) if upload.file else None
        if found is None or found.status in _FILE_BROKEN:
            if upload.is_begun and not upload.file and await self._find_file(name) is None:
                await self._settle()
            self._save_upload(name, is_begun=True, file="")
            found = await found_or_made(lambda: self._find_file(name), lambda: self._upload(name), self._patience)
            self._save_upload(name, file=found.id)
            self._say(f"{name} ({upload.num_rows} rows, {upload.num_bytes} bytes) is uploaded as {found.id}")
        await self._processed(name, found)
        return found.id

    def _save_upload(self, name: str, **changes: Any) -> None:
        self._save(uploads={**self._state.uploads, name: replace(self._state.uploads[name], **changes)})

    async def _find_file(self, name: str) -> FileObject | None:
        size = self._state.uploads[name].num_bytes
        async with aclosing(self._api.files()) as files:
            async for file in files:
                is_whole = file.num_bytes in (None, size) and file.status not in _FILE_BROKEN
                if file.filename == name and is_whole:
                    return file
        return None

    async def _upload(self, name: str) -> FileObject | Trouble:
        data = await asyncio.to_thread((self._directory / name).read_bytes)
        return await self._api.upload(name, data)

    async def _processed(self, name: str, file: FileObject) -> None:
        """Wait until the API has looked through a file. Raises RunError when it finds fault with it."""
        until = self._clock.now() + FILE_WAIT_S
        found: FileObject | None = file
        while found is not None and found.status in _FILE_PENDING and self._clock.now() < until:
            await self._patience.pause(self._job.settings.poll_s, f"{file.id} is being processed")
            found = await self._api.file(file.id)
        if found is None or found.status in _FILE_BROKEN:
            self._save_upload(name, is_begun=False, file="")
            why = self._api.quote(found.status_details or found.status) if found is not None else "it is gone"
            raise RunError(f"{self._api.label} must take {name}, got a refusal: {why}: correct it and run again")

    async def _settle(self) -> None:
        """Wait before looking again: a list may lag behind what was made just before this process began."""
        await self._patience.pause(self._job.settings.poll_s, "looking again for what may have been made")

    # ---------------------------------------------------------------- the job

    async def _make_job(self, training: str, validation: str) -> None:
        """Make the job, or find it made: by a killed process, or elsewhere from the same rows and settings."""
        found = None
        if not self._state.is_creating:
            found = await self._equal_job(training)
        elif await self._find_job(training) is None:
            await self._settle()
        if found is None:
            body = self._body(training, validation)
            found = await found_or_made(lambda: self._find_job(training), lambda: self._create(body), self._patience)
        self._save(job=found.id, is_creating=False, failure="")
        self._say(f"{found.id} fine-tunes {self._job.model}")

    async def _create(self, body: dict[str, Any]) -> JobObject | Trouble:
        made = await self._api.create_job(body)
        if isinstance(made, Trouble) and made.is_refusal:
            # What was asked may now be corrected: the directory holds nothing.
            self._save(is_creating=False)
        return made

    async def _equal_job(self, training: str) -> JobObject | None:
        """Return a job of the same key that has not ended badly; else write down that one is about to be made."""
        jobs = await self._jobs_on(training)
        for job in jobs:
            is_usable = job.status not in _ENDED_BADLY and job.id not in self._state.known_jobs
            if is_usable and self._key_of(job) == self._state.key and await self._has_result(job):
                return job
        known = dict.fromkeys((*self._state.known_jobs, *(job.id for job in jobs)))
        self._save(is_creating=True, known_jobs=tuple(known))
        return None

    async def _find_job(self, training: str) -> JobObject | None:
        """Return the job that this directory has made, if it has: the one that was not there when it began to."""
        # Endpoints without metadata give none back; the rows must do then.
        mine = [
            job
            for job in await self._jobs_on(training)
            if job.id not in self._state.known_jobs and (not job.metadata or self._key_of(job) == self._state.key)
        ]
        return min(mine, key=lambda job: not job.metadata, default=None)

    async def _jobs_on(self, training: str) -> list[JobObject]:
        """Return the jobs that have to do with this one: on its rows, or of its key."""
        return [
            job
            async for job in self._api.jobs()
            if job.training_file == training or self._key_of(job) == self._state.key
        ]

    def _key_of(self, job: JobObject) -> Any:
        return (job.metadata or {}).get(KEY)

    async def _has_result(self, job: JobObject) -> bool:
        """Whether a job's model can be used, or may still come."""
        if job.status != _SUCCEEDED:
            return True
        return job.fine_tuned_model is not None and await self._api.has_model(job.fine_tuned_model)

    def _body(self, training: str, validation: str) -> dict[str, Any]:
        settings = self._job.settings
        body: dict[str, Any] = {
            "model": self._job.model,
            "training_file": training,
            "suffix": settings.suffix,
            "metadata": {KEY: self._state.key},
            "method": {"type": "supervised", "supervised": {"hyperparameters": settings.hyperparameters()}},
        }
        optional = {"validation_file": validation or None, "seed": settings.seed}
        return body | {name: value for name, value in optional.items() if value is not None}

    # ---------------------------------------------------------------- its end

    async def _follow(self, id: str) -> Tuned:
        """Look at the job until it ends. Raises RunError when it ends badly."""
        status = ""
        while True:
            job = await self._api.job(id)
            if job is None:
                raise RunError(f"{self._api.label} must know {id}, got 404: use a new directory for a new job")
            await self._events.read(id)
            if job.status != status:
                status = job.status
                self._say(f"{id} is {self._api.quote(status)}")
            if status == _SUCCEEDED:
                return self._succeeded(job)
            if status in _ENDED_BADLY:
                raise self._failed(job)
            await self._patience.pause(self._job.settings.poll_s, f"{id} is {self._api.quote(status)}")

    def _succeeded(self, job: JobObject) -> Tuned:
        model = job.fine_tuned_model or ""
        if not _MODEL.fullmatch(model):
            raise RunError(f"{job.id} must name its model, got {self._api.quote(model)!r}: look at it at the API")
        losses = self._events.losses
        tuned = Tuned(
            model=model,
            job=job.id,
            file=job.training_file,
            num_rows=self._state.uploads[self._state.asked["samples"]].num_rows,
            trained_tokens=job.trained_tokens,
            elapsed_s=max(self._clock.time() - self._state.begun_at, 0.0),
            loss=losses[-1] if losses else None,
            losses=losses,
            held_out_loss=self._events.held_out_loss,
        )
        self._save(result=tuned)
        self._say(f"{model} is ready")
        return tuned

    def _failed(self, job: JobObject) -> RunError:
        """Return what to say of a job that ended badly, and leave the directory free for a new one."""
        error = job.error
        said = " ".join(part for part in (error.code, error.param, error.message) if part) if error is not None else ""
        why = self._api.quote(said) or "no reason given"
        self._save(job="", known_jobs=(*self._state.known_jobs, job.id), failure=f"{job.id} {job.status}: {why}")
        return RunError(
            f"{job.id} must succeed, got {job.status}: {why}: correct what it names and run again, for a new job"
        )
