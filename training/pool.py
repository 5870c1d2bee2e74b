"""The pool of training workers: placed by Ray, watched, restarted from the last training state when one dies.

A failure that would come again (bad input, a loss that is not finite, a fault in the code) ends the job with its
reason; a worker that is gone costs a restart of all, because none can go on without the others. What survives is on
disk alone: a driver that is killed goes on with the same call, and a job that is done does nothing.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.errors import InputError, RunError
from training.job import (
    STATE,
    TRAINED,
    Diverged,
    Ended,
    LoadRenderer,
    Progress,
    Trained,
    TrainJob,
    claim_directory,
    find_trained,
    write_json,
)
from training.state_file import States
from training.training_settings import TrainingSettings
from training.worker import Worker, worker_environment

__all__ = ["LoadRenderer", "TrainJob", "Trained", "train"]

Say = Callable[[str], None]

_SAY_EVERY_S: Final = 5.0
_PLACE_WITHIN_S: Final = 60.0
_OTHERS_WITHIN_S: Final = 5.0
"""How long after the first failure others are waited for: the cause may be another worker's."""

_POOLS_AT_ONCE: Final = 4  # on CPU a served model may stand beside the workers: leave room


class _WorkersLost(Exception):
    """Workers are gone; the text says how."""


async def train(job: TrainJob, load_renderer: LoadRenderer, say: Say) -> Trained:
    """Train, or go on training, or return at once what came of a job that is done; the caller has joined Ray.

    Raises InputError for a job that cannot be begun, Diverged when no model comes of it, RunError when it cannot go on.
    """
    if (done := find_trained(job)) is not None:
        return done
    _refuse(job)
    directory = claim_directory(job)
    result, num_restarts = await _train_through(job, load_renderer, say)
    trained = msgspec.structs.replace(result, restarts=num_restarts)
    write_json(directory / TRAINED, trained)
    States(directory / STATE).remove()
    return trained


async def _train_through(job: TrainJob, load_renderer: LoadRenderer, say: Say) -> tuple[Trained, int]:
    """Return what came of the job and how often workers were restarted."""
    limit = job.settings.max_restarts
    for num_restarts in range(limit + 1):
        try:
            return await _attempt(job, load_renderer, say), num_restarts
        except _WorkersLost as lost:
            last = States(Path(job.directory) / STATE).last()
            if num_restarts == limit:
                raise RunError(
                    f"training must not lose workers more than max_restarts={limit} times, got {lost}: look into Ray's"
                    " logs (memory?), then run it again to go on"
                ) from lost
            say(f"training: {lost}; restarting from {last.name if last else 'the beginning'}")
    raise AssertionError("unreachable")


def _refuse(job: TrainJob) -> None:
    problems = job.settings.problems()
    for name, path in (("model", job.model), ("adapter", job.adapter)):
        if path and not Path(path).is_dir():
            problems.append(f"training needs its {name} as a directory, got {path}: correct the path")
    if job.held_out and not Path(job.held_out).is_file():
        problems.append(f"held-out samples must be a sample log, got {job.held_out}: correct the path")
    if job.adapter and job.settings.method == "full":
        problems.append('training.method must be "lora" or "qlora" to go on with an adapter, got "full": change it')
    if problems:
        raise InputError(problems)


# ---------------------------------------------------------------- one life of the workers


async def _attempt(job: TrainJob, load_renderer: LoadRenderer, say: Say) -> Trained:
    async with _workers(job.settings, say) as workers:
        host, port = await _within_ray(workers[0].listen.remote())
        running = [
            asyncio.ensure_future(_ended(worker.train.remote(job, load_renderer, host, port))) for worker in workers
        ]
        try:
            return await _watch(running, workers[0], say)
        finally:
            for one in running:
                one.cancel()
            await asyncio.wait(running)


async def _within_ray(reference: Any) -> Any:
    """Return what a call gives. Raises _WorkersLost when its worker is gone."""
    import ray

    try:
        return await reference
    except ray.exceptions.RayError as error:
        raise _WorkersLost(f"a worker did not start ({_first_line(error)})") from error


async def _ended(reference: Any) -> Ended | None:
    """Return how a worker's part ended, None when its process is gone."""
    import ray

    try:
        ended: Ended = await reference
        return ended
    except ray.exceptions.RayError:
        return None


async def _watch(running: "Sequence[asyncio.Future[Ended | None]]", first: Any, say: Say) -> Trained:
    """Wait until all have ended, or one has failed; say every few seconds how far the first one is."""
    waiting = set(running)
    while waiting:
        done, waiting = await asyncio.wait(waiting, timeout=_SAY_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        if any(_has_failed(one.result()) for one in done):
            await _raise_failure(running)
        if waiting:
            await _say_progress(first, say)
    result = running[0].result()
    assert result is not None and result.result is not None
    return result.result


def _has_failed(ended: Ended | None) -> bool:
    return ended is None or ended.kind != "done"


async def _raise_failure(running: "Sequence[asyncio.Future[Ended | None]]") -> None:
    """Raise what all failures together mean: the others see a worker that is gone as a broken connection."""
    await asyncio.wait(running, timeout=_OTHERS_WITHIN_S)
    ended = {rank: one.result() for rank, one in enumerate(running) if one.done()}
    for end in ended.values():
        if end is not None and end.kind == "refused":
            raise RunError(f"training: {end.text}")
        if end is not None and end.kind == "diverged":
            raise Diverged(end.text)
    gone = [rank for rank, end in ended.items() if end is None]
    if gone:
        raise _WorkersLost(f"worker {', '.join(map(str, gone))} of {len(running)} died")
    for rank, end in ended.items():
        if end is not None and end.kind == "error":
            raise RunError(f"training failed in worker {rank}: {end.text}")
    texts = [end.text for end in ended.values() if end is not None and end.kind == "peer"]
    raise _WorkersLost(f"workers lost each other ({texts[0].splitlines()[0]})")


async def _say_progress(worker: Any, say: Say) -> None:
    with contextlib.suppress(Exception):  # one that is gone, or busy, is judged by its training call
        async with asyncio.timeout(_SAY_EVERY_S):
            say(progress_line(await worker.status.remote()))


def progress_line(progress: Progress) -> str:
    """Return how far a worker is, in words."""
    if progress.phase != "training":
        return f"training: {progress.phase}"
    loss = "-" if progress.loss is None else f"{progress.loss:.3f}"
    return (
        f"training: step {progress.step}, loss {loss}, {progress.tokens_per_s:,.0f} tokens/s,"
        f" {progress.rows_waiting:,} rows waiting"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ---------------------------------------------------------------- places


@asynccontextmanager
async def _workers(settings: TrainingSettings, say: Say) -> AsyncIterator[list[Any]]:
    """Give a worker actor for each rank, placed together; all are gone at the end."""
    import ray

    share = resolve_share(settings, ray.cluster_resources())
    _refuse_on_cpu(settings, share)
    place = ray.util.placement_group([share] * settings.workers, strategy="PACK")
    actors: list[Any] = []
    try:
        await _until_placed(ray, place, settings, share, say)
        actors += [_start_worker(ray, place, rank, settings, share) for rank in range(settings.workers)]
        yield actors
    finally:
        for actor in actors:
            with contextlib.suppress(Exception):  # it may be gone, and Ray too
                await asyncio.to_thread(ray.kill, actor)
        with contextlib.suppress(Exception):
            await asyncio.to_thread(ray.util.remove_placement_group, place)


def resolve_share(settings: TrainingSettings, cluster: Mapping[str, float]) -> dict[str, float]:
    """Return what a worker takes, in Ray's units: what is configured, or what suits a cluster with these resources."""
    gpus = settings.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if cluster.get("GPU", 0) else 0.0
    if gpus:
        return {"CPU": 1.0, "GPU": gpus}
    share = cluster.get("CPU", 1.0) / settings.workers / _POOLS_AT_ONCE
    return {"CPU": max(0.01, min(1.0, round(share, 2)))}


def _refuse_on_cpu(settings: TrainingSettings, share: Mapping[str, float]) -> None:
    if "GPU" in share:
        return
    problems = []
    if settings.bf16 is True:
        problems.append('training.bf16 must be "auto" or false where workers have no GPU, got true: change it')
    if settings.method == "qlora":
        problems.append('training.method must be "lora" or "full" where workers have no GPU, got "qlora": change it')
    if problems:
        raise InputError(problems)


def _start_worker(ray: Any, place: Any, rank: int, settings: TrainingSettings, share: Mapping[str, float]) -> Any:
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    environment = worker_environment(rank, settings.workers, threads, is_cpu="GPU" not in share)
    options = {
        "num_cpus": share["CPU"],
        "num_gpus": share.get("GPU", 0),
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": 2,  # the training, and whoever asks how far it is
        "runtime_env": {"env_vars": {**environment, "PYTHONPATH": _import_path()}},
        "scheduling_strategy": ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            place, placement_group_bundle_index=rank
        ),
    }
    return ray.remote(Worker).options(**options).remote(rank, settings.workers)


def _import_path() -> str:
    root = str(Path(__file__).resolve().parent.parent)
    more = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.pathsep.join(dict.fromkeys([root, *more]))


async def _until_placed(ray: Any, place: Any, settings: TrainingSettings, share: Mapping[str, float], say: Say) -> None:
    deadline = time.monotonic() + _PLACE_WITHIN_S
    while not await asyncio.to_thread(place.wait, _SAY_EVERY_S):
        free = ", ".join(f"{kind} {ray.available_resources().get(kind, 0):g}" for kind in share)
        asked = ", ".join(f"{kind} {amount:g}" for kind, amount in share.items())
        shortage = f"{settings.workers} workers ask {asked} each, free are {free}"
        if time.monotonic() > deadline:
            raise RunError(f"training found no place: {shortage}: lower training.workers or training.gpus_per_worker")
        say(f"training: waiting for a place, {shortage}")
