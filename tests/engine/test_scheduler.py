"""The loop on a real journal: exactly one terminal record each, permits, retries, fencing, stopping, resuming."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.admission import Admission
from engine.backend import Completion, Embedder, Failure, Request
from engine.clock import SystemClock
from engine.errors import BackendDown, StepFailed
from engine.journal import Journal
from engine.mailroom import CHUNK
from engine.metrics import Metrics
from engine.record import EpisodeKey, EpisodeRecord
from engine.recording import Identity
from engine.retry import RetryPolicy
from engine.rundir import RunDirectory
from engine.scheduler import Scheduler
from engine.scripted import ScriptedBackend, ScriptedEmbedder
from engine.steps import Generate, Protocol, Reply, Sampling, ask, both, enter, similar
from engine.views import View

ROLES = {"patient": "base", "therapist": "base"}
Make = Callable[[EpisodeKey], Protocol[Any]]


def make_keys(number: int) -> list[EpisodeKey]:
    return [EpisodeKey(f"case-{n:04d}") for n in range(number)]


def talk(key: EpisodeKey, num_turns: int = 3) -> Protocol[dict[str, Any]]:
    """Two roles in turn, then a similarity."""
    yield from enter("talk")
    patient, therapist = View.of("patient").hear(str(key)), View.of("therapist")
    for turn in range(num_turns):
        said = yield from ask(Generate(f"talk/{turn}/patient", "patient", patient, Sampling(16), "patient_turn"))
        patient, therapist = patient.say(said.text), therapist.hear(said.text)
        heard = yield from ask(
            Generate(f"talk/{turn}/therapist", "therapist", therapist, Sampling(16), "therapist_turn")
        )
        patient, therapist = patient.hear(heard.text), therapist.say(heard.text)
    floats = yield from similar("alike", [(said.text, heard.text)])
    return {"similarity": floats[0], "turns": num_turns}


def branching(key: EpisodeKey) -> Protocol[int]:
    """Both roles at once, six times."""
    views = {role: View.of(role).hear(str(key)) for role in ROLES}
    for turn in range(6):
        said = yield from both(
            *(ask(Generate(f"{turn}/{role}", role, views[role], Sampling(64), "patient_turn")) for role in ROLES)
        )
        views = {role: views[role].say(one.text).hear("more") for role, one in zip(ROLES, said, strict=True)}
    return len(views)


class MakeCast:
    """A cast over one protocol function."""

    def __init__(self, make: Make = talk) -> None:
        self.make = make

    def identity(self, key: EpisodeKey, started_at: float) -> Identity:
        return Identity(
            key=key, seed=1, protocol="talk", case="{}", models={"patient": "scripted"}, started_at=started_at
        )

    def play(self, key: EpisodeKey) -> Protocol[Any]:
        return self.make(key)


def make_scheduler(
    journal: Journal,
    backend: ScriptedBackend,
    keys: list[EpisodeKey],
    *,
    make: Make = talk,
    max_live: int = 16,
    embedder: Embedder | None = None,
    retry: RetryPolicy | None = None,
    timeout_s: float = 600.0,
    admission: Admission | None = None,
) -> Scheduler:
    return Scheduler(
        cast=MakeCast(make),
        keys=keys,
        pools={"base": backend},
        roles=ROLES,
        embedder=embedder or ScriptedEmbedder(0.5),
        journal=journal,
        admission=admission or Admission(max_live),
        retry=retry or RetryPolicy(max_attempts=3, base_s=0.0),
        metrics=Metrics(now=0.0, total=len(keys)),
        clock=SystemClock(),
        request_timeout_s=timeout_s,
    )


@pytest.fixture
def rundir(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


async def run_all(
    rundir: RunDirectory, backend: ScriptedBackend, keys: list[EpisodeKey], **options: Any
) -> list[EpisodeRecord]:
    journal = Journal.open(rundir)
    await make_scheduler(journal, backend, keys, **options).run()
    records = journal.episodes(limit=10_000)
    assert journal.live() == []
    await journal.close()
    return records


def echo(request: Request) -> str:
    return f"{request.role} on {request.path}"


async def test_each_episode_ends_exactly_once(rundir: RunDirectory) -> None:
    records = await run_all(rundir, ScriptedBackend(echo), make_keys(100))
    assert Counter(record.status for record in records) == {"completed": 100}
    assert len({record.episode for record in records}) == 100
    assert [record.seq for record in records] == sorted({record.seq for record in records})
    assert all(record.num_calls == 6 for record in records)


async def test_the_number_of_live_dialogues_is_bounded_until_their_records_are_durable(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(echo)
    journal = Journal.open(rundir)
    scheduler = make_scheduler(journal, backend, make_keys(60), max_live=4)
    seen: list[int] = []
    submit = backend.submit

    async def watched(batch: Any) -> None:
        seen.append(scheduler.num_live)
        await submit(batch)

    backend.submit = watched  # type: ignore[method-assign]
    await scheduler.run()
    assert max(seen) == 4
    assert backend.forgotten and len(set(backend.forgotten)) == 60
    await journal.close()


async def test_shed_dialogues_wait_lose_nothing_and_end(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(lambda request: "word " * 40, kv_tokens=1500, slots=4)
    admission = Admission(None, prior_tokens=1)
    shed: list[int] = []
    balance = admission.balance

    def watched(pools: Any) -> list[str]:
        resumed = balance(pools)
        shed.append(admission.num_shed)
        return resumed

    admission.balance = watched  # type: ignore[method-assign]
    async with asyncio.timeout(60):
        records = await run_all(rundir, backend, make_keys(40), admission=admission, make=branching)
    assert Counter(record.status for record in records) == {"completed": 40}
    assert max(shed) > 0 and shed[-1] == 0
    assert len(backend.requests) == sum(record.num_calls for record in records) == 40 * 12
    assert (admission.num_shed, admission.committed("base")) == (0, 0)


async def test_failures_are_data_and_keep_their_turns(rundir: RunDirectory) -> None:
    def answer(request: Request) -> str | Failure:
        is_doomed = request.episode.startswith("case-0003") and request.path == "talk/1/therapist"
        return Failure("server_error", "it burns") if is_doomed else echo(request)

    records = await run_all(rundir, ScriptedBackend(answer), make_keys(6))
    failed = [record for record in records if record.status == "failed"]
    assert [record.key.case for record in failed] == ["case-0003"]
    error = failed[0].error
    assert error is not None
    assert (error.kind, error.path) == ("server_error", "talk/1/therapist")
    assert "after 3 attempts" in error.message
    assert [step.path for step in failed[0].steps if step.reply] == [
        *("talk/0/patient", "talk/0/therapist", "talk/1/patient"),
    ]
    assert [len(step.attempts) for step in failed[0].steps] == [0, 0, 0, 3]
    assert failed[0].num_calls == 6


async def test_a_failed_attempt_is_tried_again_and_counted(rundir: RunDirectory) -> None:
    def answer(request: Request) -> str | Failure:
        return Failure("server_error", "hiccup") if request.attempt == 0 else echo(request)

    records = await run_all(rundir, ScriptedBackend(answer), make_keys(3))
    assert {record.status for record in records} == {"completed"}
    assert {record.num_calls for record in records} == {12}
    replies = [step.reply for record in records for step in record.steps if step.reply]
    assert {reply.attempt for reply in replies} == {1}


async def test_a_lost_replica_costs_no_episode(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(echo, replicas=2, is_held=True)
    journal = Journal.open(rundir)
    scheduler = make_scheduler(journal, backend, make_keys(8), max_live=8)
    running = asyncio.ensure_future(scheduler.run())
    await backend.arrived(8)
    backend.kill_replica("replica-0")
    backend.release_all()
    await running
    records = journal.episodes()
    assert Counter(record.status for record in records) == {"completed": 8}
    moved = [step for record in records for step in record.steps if step.attempts]
    assert {attempt.kind for step in moved for attempt in step.attempts} == {"replica_lost"}
    assert {step.reply.replica for step in moved if step.reply} == {"replica-1"}
    await journal.close()


async def test_without_a_ready_replica_requests_wait_for_one(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(echo, replicas=2, is_held=True)
    journal = Journal.open(rundir)
    running = asyncio.ensure_future(make_scheduler(journal, backend, make_keys(1)).run())
    await backend.arrived(1)
    for name in ("replica-0", "replica-1"):
        states = {gauge.replica: gauge.state for gauge in backend.replicas()}
        if sum(state == "ready" for state in states.values()) > 1:
            backend.kill_replica(name)
    backend.release_all()
    await running
    assert journal.episodes()[0].status == "completed"
    await journal.close()


async def test_a_late_answer_to_an_old_attempt_is_dropped(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(echo, is_held=True)
    journal = Journal.open(rundir)
    scheduler = make_scheduler(journal, backend, make_keys(1), timeout_s=0.05)
    running = asyncio.ensure_future(scheduler.run())
    await backend.arrived(2)
    first, second = backend.requests[0], backend.requests[1]
    assert (first.path, first.attempt, second.attempt) == (second.path, 0, 1)
    assert first.key not in backend.open_keys
    late = Completion(*first.key, reply=Reply("too late"))
    scheduler._mailrooms["base"]._hand_over([late])
    backend.release_all()
    await running
    replies = [step.reply.text for step in journal.episodes()[0].steps if step.reply]
    assert "too late" not in replies
    await journal.close()


async def test_an_answer_that_comes_again_is_dropped(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(echo, is_held=True)
    journal = Journal.open(rundir)
    scheduler = make_scheduler(journal, backend, make_keys(1))
    running = asyncio.ensure_future(scheduler.run())
    await backend.arrived(1)
    first = Completion(*backend.requests[0].key, reply=Reply("the first"))
    scheduler._mailrooms["base"]._hand_over([first, replace(first, reply=Reply("the second"))])
    backend.release_all()
    await running
    (record,) = journal.episodes()
    assert [step.reply.text for step in record.steps if step.path == first.path and step.reply] == ["the first"]
    assert (record.status, len(record.steps)) == ("completed", 7)
    await journal.close()


async def test_unauthorized_ends_the_run_with_its_message(rundir: RunDirectory) -> None:
    journal = Journal.open(rundir)
    scheduler = make_scheduler(journal, ScriptedBackend(Failure("unauthorized", "bad key: set KEY")), make_keys(2))
    with pytest.raises(BackendDown, match="bad key: set KEY"):
        await scheduler.run()
    assert journal.ended() == {}
    await journal.close()
    assert len(Journal.open(rundir).live()) == 2


async def test_stopping_keeps_episodes_live_and_resume_asks_nothing_twice(rundir: RunDirectory) -> None:
    first = ScriptedBackend(echo, is_held=True)
    journal = Journal.open(rundir)
    scheduler = make_scheduler(journal, first, make_keys(4), max_live=4)
    running = asyncio.ensure_future(scheduler.run())
    await first.arrived(4)
    for key in first.open_keys[:3]:
        first.release(key)
    await first.arrived(7)
    scheduler.stop()
    await running
    await journal.close()
    answered = {key for key in [request.key for request in first.requests] if key not in first.open_keys}

    second = ScriptedBackend(echo)
    records = await run_all(rundir, second, make_keys(4))
    assert Counter(record.status for record in records) == {"completed": 4}
    assert not answered & {request.key for request in second.requests}
    whole = await run_all(RunDirectory.create(rundir.path.parent / "other"), ScriptedBackend(echo), make_keys(4))
    texts = {record.episode: [step.reply.text for step in record.steps if step.reply] for record in records}
    assert texts == {record.episode: [step.reply.text for step in record.steps if step.reply] for record in whole}


async def test_a_spent_step_stays_spent_after_a_restart(rundir: RunDirectory) -> None:
    def make(key: EpisodeKey) -> Protocol[str]:
        try:
            yield from ask(Generate("doomed", "patient", View.of("s").hear("x"), Sampling(8), "opening"))
        except StepFailed as failed:
            reply = yield from ask(Generate("instead", "patient", View.of("s").hear("y"), Sampling(8), "opening"))
            return f"{failed.kind} then {reply.text}"
        raise AssertionError

    first = ScriptedBackend(lambda request: Failure("rejected", "no") if request.path == "doomed" else "fine")
    submit = first.submit

    async def only_doomed(batch: Any) -> None:
        await submit([request for request in batch if request.path == "doomed"])
        if any(request.path == "instead" for request in batch):
            scheduler.stop()

    first.submit = only_doomed  # type: ignore[method-assign]
    journal = Journal.open(rundir)
    scheduler = make_scheduler(journal, first, make_keys(1), make=make)
    await scheduler.run()
    await journal.close()
    second = ScriptedBackend("fine")
    records = await run_all(rundir, second, make_keys(1), make=make)
    assert [request.path for request in second.requests] == ["instead"]
    assert records[0].outcome == '"rejected then fine"'


async def test_a_protocol_bug_fails_its_own_episode(rundir: RunDirectory) -> None:
    def make(key: EpisodeKey) -> Protocol[str]:
        yield from ask(Generate("a", "patient", View.of("s").hear("x"), Sampling(8), "opening"))
        if key.case.endswith("1"):
            raise KeyError("oops")
        return "ok"

    records = await run_all(rundir, ScriptedBackend("fine"), make_keys(3), make=make)
    assert Counter(record.status for record in records) == {"completed": 2, "failed": 1}
    failed = next(record for record in records if record.status == "failed")
    assert failed.error is not None and failed.error.kind == "protocol_error"


async def test_a_role_without_a_model_fails_the_episode(rundir: RunDirectory) -> None:
    def make(key: EpisodeKey) -> Protocol[str]:
        reply = yield from ask(Generate("a", "referee", View.of("s").hear("x"), Sampling(8), "opening"))
        return reply.text

    records = await run_all(rundir, ScriptedBackend("fine"), make_keys(1), make=make)
    assert records[0].error is not None and "referee" in records[0].error.message


async def test_parallel_steps_are_sent_together(rundir: RunDirectory) -> None:
    def one(path: str) -> Protocol[str]:
        return (yield from ask(Generate(path, "patient", View.of("s").hear(path), Sampling(8), "probe"))).text

    backend = ScriptedBackend("fine", is_held=True)
    journal = Journal.open(rundir)
    scheduler = make_scheduler(journal, backend, make_keys(1), make=lambda key: both(one("a"), one("b")))
    running = asyncio.ensure_future(scheduler.run())
    await backend.arrived(2)
    assert len(backend.open_keys) == 2
    backend.release_all()
    await running
    await journal.close()


async def test_a_batch_larger_than_a_chunk_loses_nothing(rundir: RunDirectory) -> None:
    backend = ScriptedBackend(echo, is_held=True)
    journal = Journal.open(rundir)
    num = 3 * CHUNK + 5
    scheduler = make_scheduler(journal, backend, make_keys(num), max_live=num)
    running = asyncio.ensure_future(scheduler.run())
    await backend.arrived(num)
    backend.release_all()
    await running
    assert len(journal.ended()) == num
    await journal.close()
