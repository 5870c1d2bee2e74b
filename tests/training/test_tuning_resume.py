"""Fine-tuning that is ended in the middle, by a kill, a crash or whoever waits: nothing that costs is made twice."""

import asyncio
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.errors import RunError, RunHeld
from tests.running import ROOT
from tests.training.tuning import make_job, make_log, play
from tests.tuning_stub import CREATE, JOB, LIST_FILES, LIST_JOBS, UPLOAD, Fault, serve_tuning
from training import openai_tuning
from training.tuning_job import TuningState

CHILD = """
import asyncio, msgspec, sys
from training.openai_tuning import TuningJob, tune
asyncio.run(tune(msgspec.json.decode(sys.argv[1], type=TuningJob)))
"""


@pytest.mark.parametrize("is_made", [False, True])
@pytest.mark.parametrize("call", [UPLOAD, CREATE])
def test_a_process_killed_in_the_middle_of_a_call_makes_nothing_twice(tmp_path: Path, call: str, is_made: bool) -> None:
    children: list[subprocess.Popen[bytes]] = []

    def kill() -> None:
        children[0].kill()
        children[0].wait()

    with serve_tuning() as stub:
        job = make_job(stub, tmp_path)
        stub.on[call, "stored" if is_made else "arrived"] = kill
        if not is_made:
            stub.fail(call, Fault(500))
        children.append(subprocess.Popen([sys.executable, "-c", CHILD, msgspec.json.encode(job)], cwd=ROOT))
        assert children[0].wait(60) == -signal.SIGKILL
        made = (len(stub.files), len(stub.jobs))
        assert made == ((1, 1 if is_made else 0) if call == CREATE else (1 if is_made else 0, 0))
        tuned = asyncio.run(play(job))
    assert (tuned.job, tuned.file, len(stub.files), len(stub.jobs)) == ("ftjob-1", "file-1", 1, 1)


class Crash(BaseException):
    """The process ends here."""


def crash_at(number: int, is_before: bool) -> Callable[[Path, TuningState], None]:
    write, calls = openai_tuning.write_state, itertools.count(1)

    def crashing(directory: Path, state: TuningState) -> None:
        is_here = next(calls) == number
        if not (is_here and is_before):
            write(directory, state)
        if is_here:
            raise Crash

    return crashing


@pytest.mark.parametrize("is_before", [False, True])
@pytest.mark.parametrize("keeps_metadata", [False, True])
async def test_a_crash_at_any_write_makes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_before: bool, keeps_metadata: bool
) -> None:
    held_out = make_log(tmp_path / "held_out.jsonl", num_rows=3, first=100)
    for number in itertools.count(1):
        with serve_tuning(keeps_metadata=keeps_metadata) as stub:
            job = make_job(stub, tmp_path, f"{number}", held_out=str(held_out))
            try:
                with monkeypatch.context() as patched:
                    patched.setattr(openai_tuning, "write_state", crash_at(number, is_before))
                    await play(job)
                break
            except Crash:
                tuned = await play(job)
            assert (tuned.job, len(stub.files), len(stub.jobs)) == ("ftjob-1", 2, 1)
    assert number == 9


async def test_a_list_that_lags_behind_is_looked_at_twice(tmp_path: Path) -> None:
    empty = Fault(raw='{"object": "list", "data": [], "has_more": false}')
    with serve_tuning() as stub:
        job = make_job(stub, tmp_path)
        for call, listed in ((UPLOAD, LIST_FILES), (CREATE, LIST_JOBS)):
            stub.fail(call, Fault(503, headers={"Retry-After": "1e9"}, is_late=True))
            with pytest.raises(RunError, match="max_wait_s"):
                await play(job)
            stub.fail(listed, empty)
        assert (await play(job)).job == "ftjob-1"
    assert (len(stub.files), len(stub.jobs)) == (1, 1)


async def test_whoever_is_cancelled_leaves_the_job_running(tmp_path: Path) -> None:
    said: list[str] = []
    with serve_tuning() as stub:
        job = make_job(stub, tmp_path)
        loop, looked = asyncio.get_running_loop(), asyncio.Event()
        stub.on[JOB, "arrived"] = lambda: loop.call_soon_threadsafe(looked.set)
        running = asyncio.ensure_future(play(job, said))
        await looked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert said[-1] == f"fine-tuning is left: ftjob-1 goes on at {stub.base_url}; run again to go on where it is"
        assert (await play(job)).job == "ftjob-1"
    assert (len(stub.files), len(stub.jobs)) == (1, 1)


async def test_two_at_once_in_one_directory_are_one_too_many(tmp_path: Path) -> None:
    with serve_tuning() as stub:
        job = make_job(stub, tmp_path)
        loop, looked = asyncio.get_running_loop(), asyncio.Event()
        stub.on[JOB, "arrived"] = lambda: loop.call_soon_threadsafe(looked.set)
        running = asyncio.ensure_future(play(job))
        await looked.wait()
        with pytest.raises(RunHeld, match="one process at a time may fine-tune in"):
            await play(job)
        assert (await running).job == "ftjob-1"
