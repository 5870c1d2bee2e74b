"""Journals on a node's own disk: copies, lives, lost nodes, and what readers may have seen."""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from engine import journal_local
from engine.corpus import Corpus
from engine.corpus_parts import read_manifest, sealed_keys
from engine.errors import JournalError
from engine.journal import Journal
from engine.journal_local import LocalJournal, bring_home, give_up, is_away, read_life
from engine.journal_store import Store
from engine.record import EpisodeKey
from engine.rundir import RunDirectory
from tests.engine.kept import HASH, crash, make_record, make_reply, make_run, play
from tests.engine.test_crash import acknowledged, check

NEVER_S = 1e6
ROOT = Path(__file__).parents[2]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The local disk of a node."""
    path = tmp_path / "node"
    path.mkdir()
    return path


def open_local(run: RunDirectory, node: Path, every_s: float = NEVER_S, seal_every: int = 256) -> Journal:
    """Open the newest journal that is to be had on this node, as a run does."""
    if not bring_home(run, 0):
        give_up(run, 0)
    return Journal.open(run, seal_every=seal_every, local=LocalJournal.begin(run, 0, node, every_s))


def copy(journal: Journal) -> None:
    assert journal._local is not None
    journal._local.copy()


def copied(run: RunDirectory) -> list[EpisodeKey]:
    """What the run directory's own journal says has ended."""
    store = Store(run.journal(0), exclusive=True)
    try:
        return [record.key for _, record in store.ended()]
    finally:
        store.close()


def held(node: Path) -> list[Path]:
    return sorted(node.iterdir())


async def test_a_closed_journal_is_whole_in_the_run_directory_and_nothing_is_left(tmp_path: Path, node: Path) -> None:
    run = make_run(tmp_path)
    journal = open_local(run, node)
    (home,) = held(node)
    assert home.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in home.iterdir() if path.suffix != ".db-shm")
    assert is_away(run, 0)
    play(journal, "done")
    journal.admit(EpisodeKey("live"), 3, 0.5)
    journal.reply("live.0", "a", HASH, make_reply())
    await journal.close()
    await journal.close()
    assert held(node) == [] and not is_away(run, 0)
    assert sorted(p.name for p in run.journals.iterdir()) == ["000.db", "000.place.json"]

    journal = Journal.open(run)
    assert list(journal.ended()) == [EpisodeKey("done")]
    assert journal.stored_of(["live.0"])["live.0"]["a"].reply == make_reply()
    await journal.close()


async def test_copies_are_made_by_themselves_and_only_of_what_is_new(tmp_path: Path, node: Path) -> None:
    run = make_run(tmp_path)
    journal = open_local(run, node, every_s=0.1)
    async with asyncio.timeout(20):
        for number in range(3):
            key = play(journal, f"c{number}")
            assert await journal.grown(number - 1)
            assert key in copied(run)
    age_s = journal.copy_age_s
    assert age_s is not None and age_s < 20
    copy(journal)
    before = run.journal(0).stat().st_ino
    copy(journal)
    assert run.journal(0).stat().st_ino == before
    await journal.close()


async def test_readers_are_shown_what_is_copied_or_sealed(tmp_path: Path, node: Path) -> None:
    journal = open_local(make_run(tmp_path), node, seal_every=4)
    grown = asyncio.ensure_future(journal.grown(-1))
    for number in range(2):
        play(journal, f"c{number}")
    await journal.flush()
    assert journal.episodes() == [] and not grown.done()
    copy(journal)
    assert await grown
    assert [record.seq for record in journal.episodes()] == [0, 1]
    play(journal, "c2")
    await journal.flush()
    assert [record.seq for record in journal.episodes()] == [0, 1]
    assert journal.episodes(1) == []
    await journal.seal()
    assert [record.seq for record in journal.episodes(1)] == [2]
    for number in range(3, 8):
        play(journal, f"c{number}")
    await journal.flush()
    assert [record.seq for record in journal.episodes(2, 2)] == [3, 4]
    assert len(journal.episodes()) == 1 + read_manifest(journal.rundir, 0).last_seq
    await journal.close()


async def test_a_lost_node_costs_what_came_after_the_last_copy(tmp_path: Path, node: Path) -> None:
    run = make_run(tmp_path)
    journal = open_local(run, node)
    first = play(journal, "first")
    journal.admit(EpisodeKey("live"), 0, 0.0)
    journal.reply("live.0", "a", HASH, make_reply())
    await journal.flush()
    copy(journal)
    journal.reply("live.0", "b", HASH, make_reply())
    play(journal, "second")
    journal.admit(EpisodeKey("late"), 0, 0.0)
    await crash(journal, node)
    shutil.rmtree(node)
    assert list(Corpus.open(run)) != []

    other = tmp_path / "other"
    other.mkdir()
    assert not bring_home(run, 0)
    assert "is not to be had here: going on with the copy from 20" in give_up(run, 0)
    journal = open_local(run, other)
    assert list(journal.ended()) == [first]
    assert [str(live.key) for live in journal.live()] == ["live.0"]
    assert list(journal.stored_of(["live.0"])["live.0"]) == ["a"]
    play(journal, "second")
    journal.admit(EpisodeKey("late"), 0, 0.0)
    assert journal.stored_of(["late.0"])["late.0"] == {}
    await journal.seal()
    check(journal, [])
    await journal.close()


async def test_a_node_that_comes_back_goes_on_with_its_own(tmp_path: Path, node: Path) -> None:
    run = make_run(tmp_path)
    journal = open_local(run, node)
    copy(journal)
    keys = [play(journal, f"c{number}") for number in range(3)]
    await crash(journal, node)
    journal = open_local(run, node)
    assert list(journal.ended()) == keys
    assert len(held(node)) == 1
    await journal.close()


async def test_what_was_played_elsewhere_in_between_counts(tmp_path: Path, node: Path) -> None:
    run, other = make_run(tmp_path), tmp_path / "other"
    other.mkdir()
    journal = open_local(run, node)
    copy(journal)
    play(journal, "here")
    await crash(journal, node)
    os.rename(node, tmp_path / "away")
    journal = open_local(run, other)
    there = play(journal, "there")
    await crash(journal, other)

    # The first node is back, and what it holds is of another life than the one that counts.
    other.rename(tmp_path / "gone")
    (tmp_path / "away").rename(node)
    (stale,) = held(node)
    assert not bring_home(run, 0)
    journal = open_local(run, node)
    assert not stale.exists()
    assert list(journal.ended()) == []
    play(journal, "there")
    await journal.close()
    assert [record.key for record in Corpus.open(run)] == [there]


async def test_a_driver_that_was_given_up_makes_no_copy_and_no_part(tmp_path: Path, node: Path) -> None:
    run, other = make_run(tmp_path), tmp_path / "other"
    other.mkdir()
    old = open_local(run, node)
    play(old, "old")
    await old.flush()
    (home,) = held(node)
    home.rename(tmp_path / "hidden")
    new = open_local(run, other)
    play(new, "new")
    await new.flush()
    copy(new)
    (tmp_path / "hidden").rename(home)
    with pytest.raises(JournalError, match="must be played by one driver, got it taken up by"):
        copy(old)
    assert copied(run) == [EpisodeKey("new")]
    with pytest.raises(JournalError, match="must be played by one driver"):
        await old.close()  # which would have sealed
    await new.close()
    assert [record.key for record in Corpus.open(run)] == [EpisodeKey("new")]
    assert held(node) == [home]


async def test_a_driver_that_was_given_up_puts_nothing_back(tmp_path: Path, node: Path) -> None:
    run = make_run(tmp_path)
    old = open_local(run, node)
    assert old._local is not None
    (home,) = held(node)
    home.rename(tmp_path / "hidden")
    give_up(run, 0)
    (tmp_path / "hidden").rename(home)
    with pytest.raises(JournalError, match="taken up by another driver"):
        await old.close()
    assert home.exists() and not is_away(run, 0)


async def test_a_copied_run_directory_leaves_the_local_journal_to_the_other(tmp_path: Path, node: Path) -> None:
    run = make_run(tmp_path)
    journal = open_local(run, node)
    key = play(journal, "c")
    await journal.flush()
    twin = RunDirectory.open(shutil.copytree(run.path, tmp_path / "twin"))
    second = open_local(twin, node)
    assert list(second.ended()) == []
    assert len(held(node)) == 2
    await second.close()
    copy(journal)
    await journal.close()
    assert [record.key for record in Corpus.open(run)] == [key]
    assert held(node) == []


async def test_a_moved_run_directory_finds_its_local_journal(tmp_path: Path, node: Path) -> None:
    journal = open_local(make_run(tmp_path), node)
    key = play(journal, "c")
    (home,) = held(node)
    await journal.flush()
    shutil.copytree(home, tmp_path / "left", ignore=shutil.ignore_patterns("*-shm"))
    places = {path: path.read_bytes() for path in journal.rundir.journals.iterdir()}
    await journal.close()
    shutil.rmtree(journal.rundir.episodes)
    journal.rundir.episodes.mkdir()
    for path, data in places.items():
        path.write_bytes(data)
    (tmp_path / "left").rename(home)

    moved = RunDirectory(journal.rundir.path.rename(tmp_path / "moved"))
    journal = open_local(moved, node)
    assert list(journal.ended()) == [key]
    await journal.close()


@pytest.mark.parametrize("function", ["_settle", "_replace", "_write_life"])
async def test_a_kill_while_it_is_put_back_is_repeated(
    tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    run = make_run(tmp_path)
    journal = open_local(run, node)
    key = play(journal, "c")
    await crash(journal, node)
    real = getattr(journal_local, function)
    for is_done in (False, True):

        def killed(*arguments: object, is_done: bool = is_done) -> None:
            if is_done:
                real(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(journal_local, function, killed)
        with pytest.raises(KeyboardInterrupt):
            bring_home(run, 0)
        monkeypatch.setattr(journal_local, function, real)
    journal = open_local(run, node)
    assert list(journal.ended()) == [key]
    await journal.close()
    assert held(node) == []


@pytest.mark.parametrize(
    ("function", "disk"),
    [("_settle", "run"), ("copy_atomic", "node"), ("write_atomic", "node"), ("_write_life", "run")],
)
async def test_a_life_that_could_not_begin_leaves_the_run_as_it_was(
    tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch, function: str, disk: str
) -> None:
    run = make_run(tmp_path)
    journal = Journal.open(run)
    journal.admit(EpisodeKey("live"), 0, 0.0)
    await journal.close()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal_local, function, refuse)
        told = rf"disk must take .*`sandplay resume .*/run` \({tmp_path}/{disk}/"
        with pytest.raises(JournalError, match=told):
            LocalJournal.begin(run, 0, node, NEVER_S)
    assert held(node) == [] and not is_away(run, 0)
    journal = open_local(run, node)
    assert [str(live.key) for live in journal.live()] == ["live.0"]
    await journal.close()


async def test_a_copy_that_fails_stops_the_journal_and_loses_nothing_here(
    tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    journal = open_local(run, node, every_s=0.1)
    with monkeypatch.context() as patched:
        patched.setattr(journal_local, "_replace", refuse)
        key = play(journal, "c")
        with pytest.raises(JournalError, match=r"disk must take what is written.*free space"):
            async with asyncio.timeout(20):
                await journal.watch()
        with pytest.raises(JournalError, match="disk must take"):
            await journal.close()
    journal = open_local(run, node)
    assert list(journal.ended()) == [key]
    await journal.close()


async def test_a_node_whose_disk_is_full_is_told_of_that_disk(
    tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    journal = open_local(make_run(tmp_path), node)
    with monkeypatch.context() as patched:
        patched.setattr(LocalJournal, "_snapshot", refuse)
        with pytest.raises(JournalError, match=rf"disk must take what is written.*\({node}/sandplay-.*/copy.db: "):
            copy(journal)
    await journal.close()


async def test_a_copy_that_is_never_due_is_waited_for(tmp_path: Path, node: Path) -> None:
    journal = open_local(make_run(tmp_path), node, every_s=1e12)
    assert journal._local is not None and journal._local._thread is not None
    journal._local._thread.join(0.1)
    assert journal._local._thread.is_alive()
    await journal.close()


async def test_a_snapshot_sees_one_moment_while_the_journal_is_written(
    tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_local, "STEP_PAGES", 1)
    journal = open_local(make_run(tmp_path), node)
    done = asyncio.Event()

    async def record() -> None:
        number = 0
        while not done.is_set() or number < 200:
            name = f"c{number}"
            journal.admit(EpisodeKey(name), number, 0.0)
            for path in ("a", "b"):
                journal.reply(f"{name}.0", path, HASH, make_reply("x" * 500))
            if number % 3:
                journal.end(make_record(EpisodeKey(name)))
            number += 1
            await journal.flush()

    recording = asyncio.ensure_future(record())
    for _ in range(12):
        await asyncio.to_thread(copy, journal)
        with closing(sqlite3.connect(f"file:{journal.rundir.journal(0)}?mode=ro&immutable=1", uri=True)) as kept:
            assert kept.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            orphans = "SELECT count(*) FROM step WHERE id NOT IN (SELECT id FROM live UNION SELECT id FROM ended)"
            assert kept.execute(orphans).fetchone() == (0,)
            live, ended = (kept.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("live", "ended"))
            assert live in (ended // 2, ended // 2 + 1)
    done.set()
    await recording
    await journal.close()


# Plays with its journal on a local disk and prints what is acknowledged, as fast as it can.
DRIVER = """
import asyncio, json, sys
from pathlib import Path
from engine.journal import Journal
from engine.record import EpisodeKey
from engine.rundir import RunDirectory
from tests.engine.kept import HASH, make_record, make_reply
from tests.engine.test_journal_local import open_local

async def main(path, node, first):
    journal = open_local(RunDirectory.open(path), Path(node), every_s=0.1, seal_every=16)
    print("open", flush=True)
    recorded, n = [], first
    while True:
        journal.admit(EpisodeKey(f"c{n}"), n, 0.0)
        journal.reply(f"c{n}.0", "a", HASH, make_reply("x" * 300))
        recorded.append(["reply", f"c{n}", "a"])
        if n - first >= 8:
            journal.end(make_record(EpisodeKey(f"c{n - 8}")))
            recorded.append(["end", f"c{n - 8}", ""])
        n += 1
        if n % 7 == 0:
            await journal.flush()
            print(json.dumps(recorded), flush=True)
            recorded = []

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def start(run: RunDirectory, node: Path, first: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", DRIVER, str(run.path), str(node), str(first)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def test_kills_on_one_node_lose_nothing_acknowledged(tmp_path: Path, node: Path) -> None:
    run, entries = make_run(tmp_path), list[list[str]]()
    for kill in range(5):
        with start(run, node, kill * 10**6) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "open\n"
            lines = [driver.stdout.readline() for _ in range(20 * (kill + 1))]
            driver.kill()
            lines += driver.stdout.readlines()
        entries += acknowledged(lines)
        assert list(run.journals.glob("000.db")) and is_away(run, 0)
        Corpus.open(run)  # what a reader does meanwhile harms nothing
    journal = open_local(run, node)
    await journal.seal()
    check(journal, entries)
    await journal.close()
    assert len(entries) > 1000 and held(node) == []


class World:
    """One run, played on one node after the other; `ops` is all that was recorded since the last loss was made good."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.run = make_run(base)
        self.num_nodes = self.num_keys = self.num_copied = 0
        self.ops: list[tuple[str, str, str]] = []
        self.live: list[str] = []
        self.seen: list[tuple[int, str]] = []
        self.journal = self.open()

    @property
    def node(self) -> Path:
        return self.base / f"node{self.num_nodes}"

    def open(self) -> Journal:
        self.node.mkdir(exist_ok=True)
        return open_local(self.run, self.node, seal_every=3)

    def admit(self) -> None:
        case = f"c{self.num_keys}"
        self.num_keys += 1
        self._admit(case)

    def _admit(self, case: str) -> None:
        self.journal.admit(EpisodeKey(case), 0, 0.0)
        self.ops.append(("admit", case, ""))
        self.live.append(case)

    def reply(self, place: int) -> None:
        if self.live:
            case, path = self.live[place % len(self.live)], f"p{len(self.ops)}"
            self.journal.reply(f"{case}.0", path, HASH, make_reply())
            self.ops.append(("reply", case, path))

    def end(self, place: int) -> None:
        if self.live:
            case = self.live.pop(place % len(self.live))
            self.journal.end(make_record(EpisodeKey(case)))
            self.ops.append(("end", case, ""))

    def read(self) -> None:
        last = self.seen[-1][0] if self.seen else -1
        self.seen += [(record.seq, record.key.case) for record in self.journal.episodes(last)]

    async def copy(self) -> None:
        await self.journal.flush()
        copy(self.journal)
        self.num_copied = len(self.ops)

    async def reopen(self) -> None:
        await self.journal.close()
        self.journal = self.open()
        self.num_copied = len(self.ops)

    async def return_here(self) -> None:
        """The process is killed, and started again on its node."""
        await crash(self.journal, self.node)
        self.journal = self.open()
        self.num_copied = len(self.ops)

    async def lose(self) -> None:
        """The node is lost; the run goes on on another."""
        await crash(self.journal, self.node)
        shutil.rmtree(self.node)
        sealed = {key.case for key, _ in sealed_keys(self.run, read_manifest(self.run, 0))}
        self.num_nodes += 1
        self.journal = self.open()
        ended = {key.case for key in self.journal.ended()}
        live = [str(one.key.case) for one in self.journal.live()]
        self._check_kept(sealed, ended, live)
        stored = {case: self.journal.stored_of([f"{case}.0"])[f"{case}.0"] for case in live}
        kept = {("admit", case, "") for case in live}
        kept |= {("reply", case, path) for case, paths in stored.items() for path in paths}
        self.ops = [op for op in self.ops if op[1] in ended or op in kept]
        self.live = live
        for case in sorted({f"c{number}" for number in range(self.num_keys)} - ended - set(live)):
            self._admit(case)  # as a scheduler does
        self.num_copied = 0

    def _check_kept(self, sealed: set[str], ended: set[str], live: list[str]) -> None:
        """All that was copied or sealed is there; what is live is as it was at some moment since."""
        assert sealed <= ended and not ended & set(live) and len(set(live)) == len(live)
        for kind, case, path in self.ops[: self.num_copied]:
            assert case in ended or (case in live and kind != "end")
            if kind == "reply" and case in live:
                assert path in self.journal.stored_of([f"{case}.0"])[f"{case}.0"]

    async def finish(self) -> None:
        for _ in range(len(self.live)):
            self.end(0)
        await self.journal.seal()
        self.read()
        records = self.journal.episodes(limit=10**6)
        assert [record.seq for record in records] == list(range(self.num_keys))
        assert {record.key.case for record in records} == {f"c{number}" for number in range(self.num_keys)}
        # Whoever followed along was shown each episode once, and none that a lost node took back.
        assert self.seen == [(record.seq, record.key.case) for record in records]
        await self.journal.close()
        assert [record.seq for record in Corpus.open(self.run)] == list(range(self.num_keys))
        assert not [*self.node.iterdir()]


WEIGHTS = {
    **{"admit": 6, "reply": 6, "end": 5, "read": 5, "flush": 2, "seal": 2, "copy": 3},
    **{"reopen": 0.4, "return_here": 0.6, "lose": 1},
}


@pytest.mark.parametrize("seed", range(16))
async def test_any_history_loses_what_was_not_copied_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    world, draw = World(tmp_path), random.Random(seed)
    for name in draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=60):
        if name in ("flush", "seal"):
            await getattr(world.journal, name)()
        elif name in ("reply", "end"):
            getattr(world, name)(draw.randrange(6))
        elif name in ("admit", "read"):
            getattr(world, name)()
        else:
            await getattr(world, name)()
    await world.finish()


def test_a_place_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert read_life(run, 0) is None and bring_home(run, 0)
    run.place(0).write_text("{")
    with pytest.raises(JournalError, match=r"must be readable JSON, got .*000\.place\.json: restore it from a copy"):
        bring_home(run, 0)
