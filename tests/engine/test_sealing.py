"""Sealing in a process of its own: same bytes as without it, and nothing lost or doubled whoever dies when."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import sealing, unsealed
from engine.corpus import Corpus
from engine.corpus_parts import Extent, Part, keep_part
from engine.errors import JournalError
from engine.journal import Journal
from engine.journal_store import encode
from engine.record import EpisodeKey, EpisodeRecord
from engine.rundir import RunDirectory
from engine.sealing import Job, Sealer, form_encoded
from tests.engine.kept import make_record, make_run, play
from tests.running import runs

ROOT = Path(__file__).parents[2]


def make_bodies(number: int = 3) -> list[bytes]:
    return [encode(make_record(EpisodeKey(f"c{n}"))) for n in range(number)]


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    made = Sealer()
    yield made
    made.close()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a part is, the process forms it."""
    monkeypatch.setattr(sealing, "MIN_BYTES", 1)


def test_the_process_forms_the_same_part_as_the_thread(sealer: Sealer) -> None:
    bodies = make_bodies()
    formed = sealer.form("000-00000.parquet", bodies)
    assert sealer.pid is not None
    assert formed == form_encoded("000-00000.parquet", bodies)
    first = sealer.pid
    assert sealer.form("000-00001.parquet", bodies)[0].file == "000-00001.parquet"
    assert sealer.pid == first


def test_only_a_large_part_starts_the_process(sealer: Sealer) -> None:
    assert not sealer.is_worth(sealing.MIN_BYTES - 1)
    assert sealer.is_worth(sealing.MIN_BYTES)
    assert sealer.pid is None
    sealer.form("x.parquet", make_bodies())
    assert sealer.is_worth(1)


def test_a_killed_process_costs_nothing_but_its_time_and_is_replaced(sealer: Sealer) -> None:
    bodies = make_bodies()
    expected = form_encoded("x.parquet", bodies)
    for _ in range(sealing.MAX_DEATHS):
        assert sealer.form("x.parquet", bodies) == expected
        assert sealer.pid is not None
        os.kill(sealer.pid, signal.SIGKILL)
        assert sealer.form("x.parquet", bodies) == expected
        assert sealer.pid is None
    assert not sealer.is_worth(1 << 40)
    assert sealer.form("x.parquet", bodies) == expected
    assert sealer.pid is None


def test_a_stopped_process_does_not_hold_up_the_journal(sealer: Sealer, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = make_bodies()
    expected = sealer.form("x.parquet", bodies)
    assert sealer.pid is not None
    os.kill(sealer.pid, signal.SIGSTOP)
    monkeypatch.setattr(sealing, "MAX_ANSWER_S", 0.1)
    assert sealer.form("x.parquet", bodies) == expected


def test_an_interrupt_of_the_terminal_is_not_for_the_process(sealer: Sealer) -> None:
    sealer.form("x.parquet", make_bodies())
    assert sealer.pid is not None
    assert os.getpgid(sealer.pid) != os.getpgid(0)
    os.kill(sealer.pid, signal.SIGINT)
    assert sealer.form("x.parquet", make_bodies())
    assert sealer.pid is not None


def test_what_no_column_holds_is_an_error_in_either_place(tmp_path: Path, sealer: Sealer) -> None:
    run, ended = make_run(tmp_path), list[bool]()
    bodies = [encode(make_record(EpisodeKey("c", repeat=2**40)))]
    job = Job(sealer, run, Extent(), bodies, lambda: ended.append(True))
    with pytest.raises(ValueError, match="too large"):
        job.part()
    assert ended == [True]


def test_a_part_that_is_refused_at_the_last_moment_takes_nobodys_place(tmp_path: Path, sealer: Sealer) -> None:
    run = make_run(tmp_path)
    place = run.episodes / Extent().next_file

    def refuse() -> None:
        place.write_bytes(b"another driver's")
        raise JournalError("taken up meanwhile")

    job = Job(sealer, run, Extent(), make_bodies(), lambda: None, refuse)
    with pytest.raises(JournalError, match="taken up meanwhile"):
        job.part()
    assert [path.read_bytes() for path in run.episodes.iterdir()] == [b"another driver's"]


DRIVER = """
import sys
from engine.journal_store import encode
from engine.record import EpisodeKey
from engine.sealing import Sealer
from tests.engine.kept import make_record

sealer = Sealer()
sealer.form("x.parquet", [encode(make_record(EpisodeKey("c")))])
print(sealer.pid, flush=True)
sys.stdin.read()
"""


def test_the_process_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        pid = int(driver.stdout.readline())
        gone = os.pidfd_open(pid)
        driver.kill()
    with os.fdopen(gone):
        assert _ended(gone)
    assert not runs(pid)


def _ended(descriptor: int) -> bool:
    """Wait for a process, of whoever it is the child."""
    return bool(select.select([descriptor], [], [], 20.0)[0])


def recorded(run: RunDirectory) -> list[EpisodeRecord]:
    return list(Corpus.open(run))


async def play_many(journal: Journal, numbers: range) -> None:
    for n in numbers:
        play(journal, f"c{n}")
        await journal.room()
    await journal.flush()


@pytest.mark.usefixtures("always")
async def test_a_journal_seals_in_the_process_and_keeps_the_order(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run, seal_every=8)
    await play_many(journal, range(24))
    await journal.seal()
    await play_many(journal, range(24, 30))
    pid = journal._writer.sealer_pid
    assert pid is not None
    await journal.close()
    assert not runs(pid)
    assert [r.key.case for r in recorded(run)] == [f"c{n}" for n in range(30)]
    assert sorted(p.stat().st_size > 0 for p in run.episodes.glob("*.parquet")) == [True] * 4
    assert Corpus.open(run).damaged() == []


@pytest.mark.usefixtures("always")
async def test_the_loop_records_on_while_the_process_seals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = asyncio.Event()
    loop, go = asyncio.get_running_loop(), threading.Event()

    def slow(self: Sealer, file: str, bodies: list[bytes]) -> tuple[Part, bytes]:
        loop.call_soon_threadsafe(held.set)
        go.wait()
        return form_encoded(file, bodies)

    monkeypatch.setattr(Sealer, "form", slow)
    journal = Journal.open(make_run(tmp_path), seal_every=2)
    await play_many(journal, range(2))
    await held.wait()
    await play_many(journal, range(2, 9))
    assert not list(journal.rundir.episodes.iterdir())
    assert [r.key.case for r in journal.episodes()] == [f"c{n}" for n in range(9)]
    go.set()
    await journal.seal()
    assert [r.key.case for r in journal.episodes()] == [f"c{n}" for n in range(9)]
    await journal.close()
    assert [r.key.case for r in recorded(journal.rundir)] == [f"c{n}" for n in range(9)]


@pytest.mark.usefixtures("always")
async def test_too_much_held_back_makes_the_writer_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsealed, "MAX_UNSEALED_BYTES", 1)
    journal = Journal.open(make_run(tmp_path), seal_every=2)
    await play_many(journal, range(9))
    assert len(list(journal.rundir.episodes.glob("*.parquet"))) >= 4
    await journal.close()


@pytest.mark.usefixtures("always")
async def test_a_sealing_process_killed_under_a_journal_loses_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run, seal_every=4)
    for first in range(0, 40, 10):
        await play_many(journal, range(first, first + 10))
        if (pid := journal._writer.sealer_pid) is not None:
            os.kill(pid, signal.SIGKILL)
    await journal.close()
    assert [r.key.case for r in recorded(run)] == [f"c{n}" for n in range(40)]


@pytest.mark.parametrize("stage", ["keep_part", "name_part", "prune_sealed"])
async def test_a_failure_at_any_stage_is_told_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run, seal_every=4)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    owner: object = journal._store if stage == "prune_sealed" else unsealed if stage == "name_part" else sealing
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "MIN_BYTES", 1)
        patch.setattr(owner, stage, refuse)
        with pytest.raises(JournalError, match="free space"):
            await play_many(journal, range(4))
            await journal.close()
        await asyncio.to_thread(journal._writer._thread.join)
    journal = Journal.open(run)
    await play_many(journal, range(4, 6))
    await journal.close()
    assert [r.key.case for r in recorded(run)] == [f"c{n}" for n in range(6)]


def test_a_small_run_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_start", _refused)

    async def short() -> None:
        journal = Journal.open(make_run(tmp_path))
        await play_many(journal, range(40))
        await journal.close()

    asyncio.run(short())
    assert len(recorded(RunDirectory.open(tmp_path / "run"))) == 40


def _refused() -> None:
    raise AssertionError("a short run must not start a process")


def test_a_part_is_durable_under_its_name_before_it_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    part, data = form_encoded("000-00000.parquet", make_bodies())
    assert keep_part(run, part, data) == part
    assert (run.episodes / part.file).read_bytes() == data
    assert recorded(run) == []
