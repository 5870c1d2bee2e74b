"""Fine-tuning at a hosted API against a real HTTP stub: the whole way, and what the API may answer on it."""

import json
from pathlib import Path

import msgspec
import pytest

from engine.errors import BackendDown, InputError, RunError
from tests.training.tuning import make_job, make_log, make_row, play, state_of
from tests.tuning_stub import (
    CREATE,
    EVENTS,
    FILE,
    JOB,
    LIST_FILES,
    LIST_JOBS,
    UPLOAD,
    Fault,
    SteppedClock,
    serve_tuning,
)
from training.openai_tuning import Tuned, TuningJob, TuningSettings

SECRET = "sk-test-0123456789"


def modes_of(job: TuningJob) -> list[int]:
    directory = Path(job.directory)
    return [path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())]


def kept_by(job: TuningJob) -> str:
    return "".join(path.read_text() for path in Path(job.directory).iterdir())


# ---------------------------------------------------------------- the whole way


async def test_samples_become_a_model(tmp_path: Path) -> None:
    said: list[str] = []
    clock = SteppedClock()
    held_out = make_log(tmp_path / "held_out.jsonl", num_rows=2, first=100)
    settings = TuningSettings(epochs=3, learning_rate_multiplier=0.5, suffix="round-1", seed=7, poll_s=5)
    with serve_tuning() as stub:
        job = make_job(stub, tmp_path, held_out=str(held_out), settings=settings)
        tuned = await play(job, said, clock)
    assert tuned == Tuned(
        model="ft:gpt-4o-mini-2024-07-18:org:round-1:ftjob-1",
        job="ftjob-1",
        file="file-1",
        num_rows=12,
        trained_tokens=4321,
        elapsed_s=15.0,
        loss=0.667,
        losses=(2.0, 1.0, 0.667),
        held_out_loss=0.75,
    )
    lines = [json.loads(line) for line in stub.contents["file-1"].decode().splitlines()]
    assert lines == [{"messages": make_row(number)["messages"]} for number in range(12)]
    assert stub.contents["file-2"].count(b"\n") == 2
    (body,) = stub.bodies
    assert body.pop("metadata") == {"sandplay": state_of(job).key}
    assert body == {
        "model": "gpt-4o-mini",
        "training_file": "file-1",
        "validation_file": "file-2",
        "suffix": "round-1",
        "seed": 7,
        "method": {
            "type": "supervised",
            "supervised": {
                "hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 0.5},
            },
        },
    }
    told = [line.removeprefix("ftjob-1") for line in said if line.startswith("ftjob-1")]
    assert told == [
        *(" fine-tunes gpt-4o-mini", ": Created fine-tuning job", " is validating_files", " is queued"),
        *(": Step 3: training loss=0.667", " is running", " is succeeded"),
    ]
    assert set(modes_of(job)) == {0o600, 0o700}


async def test_what_is_done_is_not_asked_for_again(tmp_path: Path) -> None:
    with serve_tuning() as stub:
        job = make_job(stub, tmp_path)
        tuned = await play(job)
    (tmp_path / "samples.jsonl").unlink()
    assert await play(job) == tuned
    other = msgspec.structs.replace(job, model="gpt-4o", settings=TuningSettings(epochs=2, poll_s=1))
    with pytest.raises(InputError) as refused:
        await play(other)
    assert len(refused.value.problems) == 2
    assert "model was 'gpt-4o-mini', got 'gpt-4o': use a new directory" in str(refused.value)


async def test_equal_rows_and_settings_are_one_job_wherever_they_are_asked_for(tmp_path: Path) -> None:
    with serve_tuning() as stub:
        tuned = await play(make_job(stub, tmp_path, "first"))
        again = await play(make_job(stub, tmp_path, "second"))
        assert (again.model, again.losses, len(stub.files), len(stub.jobs)) == (tuned.model, tuned.losses, 1, 1)
        other = await play(make_job(stub, tmp_path, "third", settings=TuningSettings(epochs=2)))
        assert (other.job, len(stub.files), len(stub.jobs)) == ("ftjob-2", 1, 2)
        stub.models.remove(tuned.model)
        renewed = await play(make_job(stub, tmp_path, "fourth"))
        assert (renewed.job, len(stub.files), len(stub.jobs)) == ("ftjob-3", 1, 3)


# ---------------------------------------------------------------- the key


async def test_a_refused_key_is_named_but_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with serve_tuning(api_key="sk-another") as stub:
        job = make_job(stub, tmp_path, api_key_env="MY_KEY")
        with pytest.raises(InputError, match="MY_KEY must hold the API key"):
            await play(job, said)
        assert stub.calls == []
        monkeypatch.setenv("MY_KEY", SECRET)
        with pytest.raises(BackendDown, match="check the key in the environment variable MY_KEY") as refused:
            await play(job, said)
        assert (stub.files, SECRET in str(refused.value)) == ([], False)
        monkeypatch.setenv("MY_KEY", "sk-another")
        for call, fault in ((CREATE, Fault(403, f"no scope for {SECRET}")), (EVENTS, Fault(401, "sk-another"))):
            stub.fail(call, fault)
            with pytest.raises(RunError, match="MY_KEY"):
                await play(job, said)
        assert (await play(job, said)).job == "ftjob-1"
        assert (len(stub.files), len(stub.jobs)) == (1, 1)
    assert not any(secret in text for text in (kept_by(job), *said) for secret in (SECRET, "sk-another"))


async def test_what_the_api_says_is_cleaned(tmp_path: Path) -> None:
    said: list[str] = []
    with serve_tuning(
        says="\x1b[31mred\x1b[0m\n\u202eloss " + SECRET + "x" * 999,
        error={"code": "bad\x07", "message": "row 3\nis [bold]odd", "param": None},
        job_statuses=("running", "failed"),
    ) as stub:
        job = make_job(stub, tmp_path)
        with pytest.raises(RunError, match="ftjob-1 must succeed, got failed: bad row 3 is") as failed:
            await play(job, said)
    texts = [*said, str(failed.value), state_of(job).failure]
    assert all(text.isprintable() and len(text) < 450 and SECRET not in text for text in texts)
    assert any("red" in text for text in said)


# ---------------------------------------------------------------- a busy API


@pytest.mark.parametrize("call", [UPLOAD, CREATE, LIST_FILES, LIST_JOBS, JOB, EVENTS])
async def test_a_rate_limit_is_waited_for(tmp_path: Path, call: str) -> None:
    clock = SteppedClock()
    with serve_tuning() as stub:
        stub.fail(call, Fault(429, headers={"Retry-After": "40"}), Fault(429, headers={"retry-after-ms": "90000"}))
        tuned = await play(make_job(stub, tmp_path), clock=clock)
    assert (tuned.job, len(stub.files), len(stub.jobs)) == ("ftjob-1", 1, 1)
    waited = [seconds for seconds in clock.slept if seconds >= 40]
    assert len(waited) == 2 and 40 <= waited[0] <= 50 and 90 <= waited[1] <= 112.5


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("keeps_metadata", [False, True])
async def test_errors_after_which_a_thing_may_have_been_made(
    tmp_path: Path, is_late: bool, keeps_metadata: bool
) -> None:
    clock = SteppedClock()
    with serve_tuning(keeps_metadata=keeps_metadata) as stub:
        stub.fail(UPLOAD, Fault(500, is_late=is_late), *[Fault(503)] * (3 * (not is_late)))
        stub.fail(CREATE, Fault(502, is_late=is_late), *[Fault(raw="<html>")] * (2 * (not is_late)))
        tuned = await play(make_job(stub, tmp_path), clock=clock)
    assert (tuned.job, len(stub.files), len(stub.jobs)) == ("ftjob-1", 1, 1)
    assert (stub.count(UPLOAD), stub.count(CREATE)) == ((1, 1) if is_late else (5, 4))
    waited = [seconds for seconds in clock.slept if seconds != 5]
    least = (1, 1) if is_late else (1, 2, 4, 8, 1, 2, 4)
    assert all(low <= seconds <= 1.25 * low for seconds, low in zip(waited, least, strict=True))


async def test_an_api_that_stays_away_is_given_up_and_found_again(tmp_path: Path) -> None:
    clock = SteppedClock()
    with serve_tuning() as stub:
        job = make_job(stub, tmp_path, settings=TuningSettings(max_wait_s=600, poll_s=5))
        stub.fail(JOB, *[Fault(500)] * 100)
        with pytest.raises(RunError, match=r"must end within tuning.max_wait_s = 600 s.*run again to go on"):
            await play(job, clock=clock)
        assert 500 < clock.at <= 600
        stub.faults.clear()
        stub.fail(JOB, Fault(429, headers={"Retry-After": "1e9"}))
        with pytest.raises(RunError, match="max_wait_s"):
            await play(job, clock=SteppedClock())
        assert (await play(job)).job == "ftjob-1"
        assert (len(stub.files), len(stub.jobs)) == (1, 1)


@pytest.mark.parametrize(
    ("call", "faults", "problem"),
    [
        (CREATE, [Fault(429, "You exceeded your quota", "insufficient_quota")], "the account's quota is spent"),
        (CREATE, [Fault(400, "Model gpt-4o-mini is not available for fine-tuning")], "not available for fine-tuning"),
        (LIST_JOBS, [Fault(404)], "must list /fine_tuning/jobs, got 404"),
        (JOB, [Fault(404)], "must know ftjob-1, got 404"),
        (FILE, [Fault(403)], "set api_key_env"),
        (LIST_FILES, [Fault(raw="<html>")] * 3, "malformed"),
        (LIST_JOBS, [Fault(raw='{"data": [{"id": "../models", "status": "x"}]}')] * 3, "malformed"),
        (JOB, [Fault(raw='{"id": "ftjob-1", "status": 3}')] * 3, "malformed"),
    ],
)
async def test_what_waiting_cannot_mend_is_refused(
    tmp_path: Path, call: str, faults: list[Fault], problem: str
) -> None:
    with serve_tuning(file_statuses=("uploaded", "processed")) as stub:
        job = make_job(stub, tmp_path)
        stub.fail(call, *faults)
        with pytest.raises(RunError, match=problem):
            await play(job)
        assert (await play(job)).job == "ftjob-1"
    assert (len(stub.files), len(stub.jobs)) == (1, 1)


async def test_lists_that_never_end_and_events_that_are_not_there(tmp_path: Path) -> None:
    endless = Fault(raw='{"data": [{"id": "file-9", "filename": "x", "bytes": 1}], "has_more": true}')
    with serve_tuning() as stub:
        stub.fail(LIST_FILES, *[endless] * 50)
        stub.fail(EVENTS, *[Fault(404)] * 50)
        tuned = await play(make_job(stub, tmp_path))
    assert (tuned.losses, tuned.loss, tuned.held_out_loss) == ((), None, None)
    assert stub.count(LIST_FILES) == 2


# ---------------------------------------------------------------- files that take their time


async def test_a_file_that_is_processed_is_waited_for(tmp_path: Path) -> None:
    clock = SteppedClock()
    with serve_tuning(file_statuses=("uploaded", "uploaded", "pending", "processed")) as stub:
        stub.fail(CREATE, Fault(400, "File 'file-1' is still being processed and is not ready"))
        await play(make_job(stub, tmp_path), clock=clock)
    assert (len(stub.files), len(stub.jobs), stub.count(FILE), stub.count(CREATE)) == (1, 1, 3, 2)


async def test_a_file_whose_status_stands_still_does_not_hold_up_the_job(tmp_path: Path) -> None:
    clock = SteppedClock()
    with serve_tuning(file_statuses=("uploaded",)) as stub:
        await play(make_job(stub, tmp_path, settings=TuningSettings(poll_s=300)), clock=clock)
    assert (len(stub.jobs), stub.count(FILE)) == (1, 6)
    with serve_tuning(file_statuses=(None,)) as stub:
        await play(make_job(stub, tmp_path, "other"))
    assert (len(stub.jobs), stub.count(FILE)) == (1, 0)


async def test_a_file_that_is_refused_or_deleted_is_uploaded_anew(tmp_path: Path) -> None:
    with serve_tuning(file_statuses=("uploaded", "error")) as stub:
        job = make_job(stub, tmp_path)
        with pytest.raises(RunError, match="must take sandplay-.*, got a refusal: error: correct it and run again"):
            await play(job)
        stub.file_statuses = ("processed",)
        stub.files[0]["filename"] = "broken.jsonl"
        stub.fail(CREATE, Fault(400))
        with pytest.raises(RunError):
            await play(job)
        assert [file["filename"][:9] for file in stub.files] == ["broken.js", "sandplay-"]
        del stub.files[1]
        assert (await play(job)).file == "file-2"


# ---------------------------------------------------------------- jobs that end badly


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_a_job_that_ends_badly_says_why_and_the_next_call_makes_another(tmp_path: Path, status: str) -> None:
    error = {"code": "invalid_training_file", "message": "too few examples", "param": "training_file"}
    with serve_tuning(job_statuses=("running", status), error=error) as stub:
        job = make_job(stub, tmp_path)
        said = "invalid_training_file training_file too few examples" if status == "failed" else "no reason given"
        with pytest.raises(RunError, match=f"ftjob-1 must succeed, got {status}: {said}: correct"):
            await play(job)
        assert (state_of(job).job, state_of(job).known_jobs) == ("", ("ftjob-1",))
        stub.job_statuses = ("running", "succeeded")
        assert (await play(job)).job == "ftjob-2"
        assert (len(stub.files), len(stub.jobs)) == (1, 2)


async def test_what_the_api_refused_may_be_corrected(tmp_path: Path) -> None:
    with serve_tuning() as stub:
        job = make_job(stub, tmp_path, model="gpt-typo")
        stub.fail(CREATE, Fault(400, "no model gpt-typo"))
        with pytest.raises(RunError, match="no model gpt-typo"):
            await play(job)
        tuned = await play(msgspec.structs.replace(job, model="gpt-4o"))
    assert (tuned.model, len(stub.files)) == ("ft:gpt-4o-2024-07-18:org:sandplay:ftjob-1", 1)


async def test_a_job_under_way_keeps_its_directory(tmp_path: Path) -> None:
    with serve_tuning() as stub:
        job = make_job(stub, tmp_path)
        stub.fail(JOB, Fault(403))
        with pytest.raises(RunError):
            await play(job)
        other = make_log(tmp_path / "other.jsonl", first=50)
        with pytest.raises(InputError, match="samples was 'sandplay-.*jsonl', got 'sandplay-.*: use a new directory"):
            await play(msgspec.structs.replace(job, samples=str(other)))
        assert (await play(job)).job == "ftjob-1"
