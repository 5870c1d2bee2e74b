"""Crashes: SIGKILL at random moments, torn WALs, a full disk, kills between part, manifest and prune."""

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.corpus import Corpus
from engine.corpus_parts import name_part, read_manifest
from engine.errors import JournalError
from engine.journal import Journal
from engine.journal_store import Store
from engine.record import EpisodeKey
from engine.rundir import RunDirectory
from tests.engine.kept import HASH, make_record, make_reply, make_run, play, put_part

# Plays episodes as fast as it can, some longer than others, and prints what is acknowledged.
DRIVER = """
import asyncio, json, random, resource, sys
from engine.errors import JournalError
from engine.journal import Journal
from engine.record import EpisodeKey
from engine.rundir import RunDirectory
from tests.engine.kept import HASH, make_record, make_reply

async def main(path, first, limit):
    rng = random.Random(first)
    journal = Journal.open(RunDirectory.open(path), seal_every=16)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    print("open", flush=True)
    live, n, recorded = [], first, []
    while True:
        key = EpisodeKey(f"c{n}")
        n += 1
        journal.admit(key, n, 0.0)
        live.append(key)
        for other in rng.sample(live, min(4, len(live))):
            path = f"p{rng.random()}"
            journal.reply(str(other), path, HASH, make_reply("x" * 300))
            recorded.append(["reply", other.case, path])
        while len(live) > 12:
            key = live.pop(rng.randrange(len(live)))
            journal.end(make_record(key))
            recorded.append(["end", key.case, ""])
        if rng.random() < 0.2:
            await journal.flush()
            print(json.dumps(recorded), flush=True)
            recorded = []

try:
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
except JournalError as error:
    print("JournalError", error, file=sys.stderr)
    sys.exit(1)
"""
ROOT = Path(__file__).parents[2]


def start(run: RunDirectory, first: int, limit: int = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", DRIVER, str(run.path), str(first), str(limit)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def acknowledged(lines: list[str]) -> list[list[str]]:
    """What whole lines say; the last may be cut off by the kill."""
    return [entry for line in lines if line.endswith("]\n") for entry in json.loads(line)]


def image(run: RunDirectory, target: Path) -> RunDirectory:
    """What a crash at this moment would leave on disk."""
    shutil.copytree(run.path, target, ignore=shutil.ignore_patterns("*-shm"))
    return RunDirectory.open(target)


def check(journal: Journal, entries: list[list[str]]) -> None:
    """All acknowledged is there, nothing twice, seq strictly increasing, every way of reading agrees."""
    records = journal.episodes(limit=10**6)
    seqs = [r.seq for r in records]
    assert seqs == list(range(len(records)))
    assert {r.key for r in records} == set(journal.ended())
    assert len(set(journal.ended())) == len(records)
    live = {e.key.case for e in journal.live()}
    ended = {key.case for key in journal.ended()}
    assert not live & ended
    assert journal.totals().episodes == len(records)
    for kind, case, path in entries:
        if kind == "end":
            assert case in ended
        elif case not in ended:
            assert journal.stored_of([f"{case}.0"])[f"{case}.0"][path].reply == make_reply("x" * 300)


async def test_ten_kills_in_one_run_lose_nothing_acknowledged(tmp_path: Path) -> None:
    run, rng, entries = make_run(tmp_path), random.Random(11), list[list[str]]()
    for kill in range(10):
        with start(run, kill * 10**6) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "open\n"
            lines = [driver.stdout.readline() for _ in range(rng.randrange(1, 15))]
            driver.send_signal(signal.SIGKILL)
            lines += driver.stdout.readlines()
        entries += acknowledged(lines)
        journal = Journal.open(image(run, tmp_path / f"image{kill}"))
        check(journal, entries)
        await journal.close()
    assert len(entries) > 200
    before = Corpus.open(run)
    journal = Journal.open(run)
    check(journal, entries)
    await journal.close()
    corpus = Corpus.open(run)
    assert list(before.iterate()) == list(corpus.iterate())
    assert {r.key for r in corpus.iterate()} == set(journal.ended())
    assert corpus.damaged() == []


async def test_a_full_disk_is_told_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with start(run, 0, limit=200_000) as driver:
        out, err = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert "JournalError the disk must take what is written" in err
    assert "`sandplay resume" in err
    entries = acknowledged(out.splitlines(keepends=True))
    assert entries
    journal = Journal.open(run)
    check(journal, entries)
    play(journal, "after")
    await journal.close()


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run as a crash leaves it, with a WAL of many transactions."""
    import asyncio

    base = tmp_path_factory.mktemp("torn")

    async def record() -> RunDirectory:
        journal = Journal.open(make_run(base), seal_every=8)
        for n in range(30):
            play(journal, f"c{n}")
            journal.admit(EpisodeKey(f"live{n}"), 0, 0.0)
            journal.reply(f"live{n}.0", "a", HASH, make_reply())
            await journal.flush()
        left = image(journal.rundir, base / "image")
        await journal.close()
        return left

    return asyncio.run(record())


@given(share=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
async def test_a_torn_wal_loses_its_tail_only(torn: RunDirectory, share: float) -> None:
    copy = torn.path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    run = image(torn, copy)
    wal = run.journals / "000.db-wal"
    data = wal.read_bytes()
    assert len(data) > 50_000
    wal.write_bytes(data[: int(len(data) * share)])
    journal = Journal.open(run, seal_every=8)
    sealed = read_manifest(run, 0).last_seq + 1
    assert sealed >= 16
    check(journal, [["end", f"c{n}", ""] for n in range(sealed)])
    for n in range(30):
        if EpisodeKey(f"c{n}") not in journal.ended() and f"c{n}" not in {e.key.case for e in journal.live()}:
            play(journal, f"c{n}")
    await journal.flush()
    check(journal, [["end", f"c{n}", ""] for n in range(sealed)])
    await journal.close()
    assert len(Corpus.open(run)) == len(journal.ended())


@pytest.mark.parametrize("num_done", [1, 2, 3])
async def test_a_kill_between_part_manifest_and_prune(tmp_path: Path, num_done: int) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run)
    keys = [play(journal, f"c{n}") for n in range(3)]
    await journal.flush()
    run = image(run, tmp_path / "image")
    await journal.close()

    store, extent = Store(run.journal(0)), read_manifest(run, 0).extent
    part = put_part(run, extent, [record for _, record in store.ended()])
    if num_done > 1:
        extent = name_part(run, extent, part)
    if num_done > 2:
        store.prune_sealed(extent.last_seq)
    store.close()

    assert [r.key for r in Corpus.open(run).iterate()] == keys
    journal = Journal.open(run)
    check(journal, [["end", key.case, ""] for key in keys])
    await journal.close()
    assert [r.key for r in Corpus.open(run).iterate()] == keys
    assert len(list(run.episodes.glob("*.parquet"))) == 1


@given(st.lists(st.sampled_from(["admit", "reply", "end", "flush", "seal", "reopen", "crash"]), max_size=30))
@settings(max_examples=20, deadline=None)
async def test_any_order_of_operations(tmp_path_factory: pytest.TempPathFactory, ops: list[str]) -> None:
    base = tmp_path_factory.mktemp("ops")
    journal = Journal.open(make_run(base), seal_every=3)
    live, entries = list[str](), list[list[str]]()
    for n, op in enumerate(ops):
        if op == "admit":
            journal.admit(EpisodeKey(f"c{n}"), n, 0.0)
            live.append(f"c{n}")
        elif op == "reply" and live:
            journal.reply(f"{live[0]}.0", f"p{n}", HASH, make_reply("x" * 300))
            entries.append(["reply", live[0], f"p{n}"])
        elif op == "end" and live:
            journal.end(make_record(EpisodeKey(live.pop(0))))
        elif op == "flush":
            await journal.flush()
        elif op == "seal":
            await journal.seal()
        elif op == "reopen":
            await journal.close()
            journal = Journal.open(journal.rundir, seal_every=3)
        elif op == "crash":
            await journal.flush()
            left = image(journal.rundir, base / f"image{n}")
            await journal.close()
            journal = Journal.open(left, seal_every=3)
        assert [e.key.case for e in journal.live()] == live
    await journal.flush()
    check(journal, entries)
    await journal.close()


async def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    run = make_run(tmp_path)
    await Journal.open(run).close()
    with sqlite3.connect(run.journal(0)) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(JournalError, match="version must be 1, got 9: use a newer Sandplay"):
        Journal.open(run)
