"""The journal: what comes back, order, backpressure, size, and how its failures are told."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from engine import journal_store, journal_writer
from engine.errors import JournalError
from engine.journal import Journal, LiveEpisode, StoredStep, Totals
from engine.record import AttemptRecord, EpisodeKey
from engine.rundir import RunDirectory
from engine.steps import Reply
from engine.totals import CallTotals
from tests.engine.kept import HASH, disk_size, make_record, make_reply, make_run, play


@pytest.mark.parametrize("exclusive", [False, True])
async def test_everything_recorded_comes_back(tmp_path: Path, exclusive: bool) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run, exclusive=exclusive)
    key, attempt = EpisodeKey("c", 1, 2), AttemptRecord(0, "timeout", "late")
    journal.admit(key, -5, 2.5)
    journal.attempt(str(key), "a", attempt)
    journal.reply(str(key), "a", HASH, make_reply())
    journal.reply(str(key), "s", HASH, (0.1, -1.0))
    journal.attempt(str(key), "b", attempt)
    ended = play(journal, "d")
    await journal.close()

    journal = Journal.open(run, exclusive=exclusive)
    assert journal.live() == [LiveEpisode(key, -5, 2.5)]
    assert journal.stored_of([str(key)])[str(key)] == {
        "a": StoredStep(HASH, make_reply(), (), (attempt,)),
        "s": StoredStep(HASH, None, (0.1, -1.0)),
        "b": StoredStep(b"", None, (), (attempt,)),
    }
    assert journal.ended() == {ended: "completed"}
    assert journal.totals() == Totals(
        completed=1,
        calls=3,
        turns=2,
        prompt_tokens=20,
        completion_tokens=8,
        cached_tokens=10,
        roles={"patient": CallTotals(3, 20, 8, 10)},
    )
    await journal.close()
    await journal.close()


async def test_calls_of_live_episodes_are_summed_by_replica(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run)
    play(journal, "ended")
    name = str(EpisodeKey("live"))
    journal.admit(EpisodeKey("live"), 0, 0.0)
    journal.attempt(name, "a", AttemptRecord(0, "timeout", "late", "base/1"))
    journal.attempt(name, "a", AttemptRecord(-1, "timeout", "spent"))
    journal.reply(name, "b", HASH, msgspec.structs.replace(make_reply(), replica="base/1"))
    journal.reply(name, "c", HASH, msgspec.structs.replace(make_reply(), replica="judge"))
    journal.reply(name, "s", HASH, (0.5,))
    await journal.flush()
    expected = {"base/1": CallTotals(2, 10, 4, 5), "": CallTotals(), "judge": CallTotals(1, 10, 4, 5)}
    assert journal.live_calls() == expected
    await journal.close()


async def test_exclusive_needs_no_shared_memory(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run, exclusive=True)
    journal.admit(EpisodeKey("c"), 0, 0.0)
    await journal.flush()
    assert sorted(p.name for p in run.journals.iterdir()) == ["000.db", "000.db-wal"]
    await journal.close()


async def test_text_that_is_no_unicode_comes_back(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run)
    journal.admit(EpisodeKey("c"), 0, 0.0)
    hostile = Reply("\ud800 \x00 \x1b[2J <|im_end|>", probabilities={"\udfff": 0.5}, token_ids=(1, 2))
    journal.reply("c.0", "a", HASH, hostile)
    await journal.flush()
    assert journal.stored_of(["c.0"])["c.0"]["a"].reply == hostile
    await journal.close()


async def test_seq_counts_terminal_commits_and_done_follows_durability(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run, seal_every=2)
    seen: list[list[str]] = []
    for name in "abc":
        journal.admit(EpisodeKey(name), 0, 0.0)
    for name in "cab":
        journal.end(make_record(EpisodeKey(name)), lambda: seen.append([r.key.case for r in journal.episodes()]))
    assert seen == []
    await journal.flush()
    assert seen == [["c", "a", "b"]] * 3
    assert [r.seq for r in journal.episodes()] == [0, 1, 2]
    await journal.close()


async def test_episodes_serves_sealed_and_unsealed_alike(tmp_path: Path) -> None:
    journal = Journal.open(make_run(tmp_path), seal_every=4)
    keys = [play(journal, f"c{n}") for n in range(3)]
    await journal.flush()
    keys += [play(journal, f"c{n}") for n in range(3, 7)]
    await journal.flush()
    keys += [play(journal, "last")]
    await journal.flush()
    assert len(list(journal.rundir.episodes.glob("*.parquet"))) >= 1
    for after in range(-1, 8):
        for limit in (1, 3, 100):
            got = journal.episodes(after, limit)
            assert [r.key for r in got] == keys[after + 1 :][:limit]
    await journal.close()


async def test_bugs_of_the_caller_are_refused(tmp_path: Path) -> None:
    journal = Journal.open(make_run(tmp_path))
    key = play(journal, "c")
    with pytest.raises(JournalError, match=r"admitted once, got c.0, which is ended"):
        journal.admit(key, 0, 0.0)
    with pytest.raises(JournalError, match="must be live"):
        journal.end(make_record(key))
    with pytest.raises(JournalError, match="must be live"):
        journal.reply("c.0", "late", HASH, ())
    journal.admit(EpisodeKey("d"), 0, 0.0)
    journal.reply("d.0", "a", HASH, ())
    with pytest.raises(JournalError, match="answered once"):
        journal.reply("d.0", "a", HASH, ())
    await journal.close()
    journal = Journal.open(journal.rundir)
    with pytest.raises(JournalError, match="answered once"):
        journal.reply("d.0", "a", HASH, ())
    with pytest.raises(JournalError, match="which is live"):
        journal.admit(EpisodeKey("d"), 0, 0.0)
    await journal.close()
    with pytest.raises(JournalError, match="after close"):
        journal.attempt("d.0", "b", AttemptRecord(0, "timeout", ""))


async def test_room_waits_for_the_writer_and_survives_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_writer, "MAX_QUEUED_OPS", 4)
    journal = Journal.open(make_run(tmp_path))
    with journal._store._writing:
        play(journal, "c", num_steps=8)
        waiter, cancelled = asyncio.ensure_future(journal.room()), asyncio.ensure_future(journal.room())
        await asyncio.sleep(0)
        assert not waiter.done()
        cancelled.cancel()
    await waiter
    await journal.room()
    assert journal.gauges().queued == 0
    await journal.close()


async def test_the_database_stays_the_size_of_what_is_live(tmp_path: Path) -> None:
    run, num_live = make_run(tmp_path), 20
    journal = Journal.open(run)
    reply = make_reply("x" * 1000, 10)
    for n in range(num_live):
        journal.admit(EpisodeKey(f"live{n}"), 0, 0.0)
    for n in range(10_000):
        journal.admit(EpisodeKey(f"c{n}"), 0, 0.0)
        for path in ("a", "b"):
            journal.reply(f"c{n}.0", path, HASH, reply)
        if n % 500 == 0 and n // 500 < num_live:
            journal.reply(f"live{n // 500}.0", "a", HASH, reply)
        if n % 100 == 99:
            for m in range(n - 99, n + 1):
                journal.end(make_record(EpisodeKey(f"c{m}"), 1))
            await journal.room()
    await journal.flush()
    assert disk_size(run) < 6_000_000
    await journal.close()
    assert disk_size(run) < 200_000
    assert journal.totals().completed == 10_000


async def test_a_failure_is_told_to_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "MAX_QUEUED_OPS", 1)
    journal = Journal.open(make_run(tmp_path))
    watcher = asyncio.ensure_future(journal.watch())
    await asyncio.sleep(0)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal._store, "commit", refuse)
    journal.admit(EpisodeKey("c"), 0, 0.0)
    for waiting in (journal.room(), journal.flush(), watcher, journal.watch(), journal.close()):
        with pytest.raises(JournalError, match=r"disk must take .* MB free: free space .*`sandplay resume .*run`"):
            await waiting
    with pytest.raises(JournalError, match="free space"):
        journal.admit(EpisodeKey("d"), 0, 0.0)


async def test_watch_returns_when_the_journal_is_closed(tmp_path: Path) -> None:
    journal = Journal.open(make_run(tmp_path))
    watcher = asyncio.ensure_future(journal.watch())
    await asyncio.sleep(0)
    await journal.close()
    await watcher
    await journal.watch()


async def test_a_locked_database_is_waited_for_then_named_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    monkeypatch.setattr(journal_store, "LOCK_WAIT_S", 0.2)
    journal = Journal.open(run)
    play(journal, "before")
    await journal.flush()
    other = sqlite3.connect(run.journal(0), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    play(journal, "while")
    with pytest.raises(JournalError, match=r"no other process .*end that process.*000\.db"):
        await journal.flush()
    other.execute("ROLLBACK")
    other.close()
    journal = Journal.open(run)
    assert list(journal.ended()) == [EpisodeKey("before")]
    await journal.close()


@pytest.mark.parametrize("offset", [0, 100, 8192])
async def test_a_damaged_database_is_told_with_what_can_be_done(tmp_path: Path, offset: int) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run)
    sealed = play(journal, "sealed")
    await journal.seal()
    journal.admit(EpisodeKey("live"), 0, 0.0)
    await journal.close()
    data = run.journal(0).read_bytes()
    run.journal(0).write_bytes(data[:offset] + b"\xa5" * 3000 + data[offset + 3000 :])
    with pytest.raises(JournalError, match=r"damaged one: the sealed episodes in .* intact; move 000\.db\* elsewhere"):
        Journal.open(run)
    run.journal(0).rename(tmp_path / "away")
    journal = Journal.open(run)
    assert journal.ended() == {sealed: "completed"}
    play(journal, "next")
    await journal.flush()
    assert [r.seq for r in journal.episodes()] == [0, 1]
    await journal.close()


async def test_journals_of_one_run_do_not_meet(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    journals = [Journal.open(run, index=n) for n in range(2)]
    for n, journal in enumerate(journals):
        play(journal, f"c{n}")
        await journal.close()
    assert sorted(p.name for p in run.episodes.iterdir()) == [
        "000-00000.parquet",
        "000.manifest.jsonl",
        "001-00000.parquet",
        "001.manifest.jsonl",
    ]


def test_the_journal_loads_neither_pyarrow_nor_a_model_library() -> None:
    code = (
        "import sys, engine.journal, engine.corpus; print([m for m in ('pyarrow', 'torch', 'ray') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("num_steps", [0, 1, 20, 1024, 2200])
async def test_any_number_of_rows_goes_into_one_commit(tmp_path: Path, num_steps: int) -> None:
    journal = Journal.open(make_run(tmp_path))
    key = EpisodeKey("case-1")
    journal.admit(key, 1, 0.0)
    for number in range(num_steps):
        journal.reply(str(key), f"turn/{number}", HASH, make_reply(f"text {number}"))
    await journal.flush()
    stored = journal.stored_of([str(key)])[str(key)]
    assert list(stored) == [f"turn/{number}" for number in range(num_steps)]
    assert all(stored[f"turn/{n}"].reply == make_reply(f"text {n}") for n in range(num_steps))
    await journal.close()


@asynccontextmanager
async def without_its_lock(run: RunDirectory) -> AsyncIterator[Journal]:
    """A driver's journal with an ended episode, its lock lost, as after a node hung for longer than it is kept."""
    with run.lock():
        journal = Journal.open(run, exclusive=True)
        play(journal, "a")
        await journal.flush()
        run.driver_lock.rename(run.path / "lost")
        yield journal
        with pytest.raises(JournalError, match="must be played by one driver, got it taken up by"):
            await journal.close()


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_driver_whose_lock_was_lost_makes_no_part(tmp_path: Path, is_gone: bool) -> None:
    """The other driver may be done by then."""
    run = make_run(tmp_path)
    async with without_its_lock(run) as journal:
        with run.lock():
            if not is_gone:
                with pytest.raises(JournalError, match=r"got it taken up by pid \d+ on .* leave it to that"):
                    await journal.seal()
    assert list(run.episodes.iterdir()) == []


async def test_a_driver_whose_lock_was_lost_commits_nothing_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_writer, "RELY_S", -1.0)
    run = make_run(tmp_path)
    async with without_its_lock(run) as journal:
        with run.lock():
            play(journal, "b")
            with pytest.raises(JournalError, match="must be played by one driver"):
                await journal.flush()
    journal = Journal.open(run)
    assert list(journal.ended()) == [EpisodeKey("a")]
    await journal.close()
