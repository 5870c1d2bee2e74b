"""The uploader: it holds up nobody, whatever the target does, and says once that it fails."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config_sections import CorpusConfig
from engine.corpus_parts import decode_manifest, read_manifest
from engine.journal import Journal
from engine.uploader import Uploader
from tests.engine.kept import make_run, play
from tests.engine.test_run_copy import grow
from tests.s3_stub import KEYS, Store, serve_store

MANIFEST = "bucket/runs/run/episodes/000.manifest.jsonl"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with serve_store() as served:
        yield served


class Heard:
    """What was said, and a way to wait for the next of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = threading.Semaphore(0)

    def say(self, text: str) -> None:
        self.lines.append(text)
        self._more.release()

    async def next(self) -> str:
        assert await asyncio.to_thread(self._more.acquire, True, 60)
        return self.lines[-1]


async def test_what_a_journal_seals_is_copied_while_it_is_open(tmp_path: Path, store: Store) -> None:
    rundir, named = make_run(tmp_path), threading.Event()

    def fault(method: str, key: str) -> None:
        if (method, key) == ("HEAD", MANIFEST) and key in store.objects:
            named.set()

    store.fault = fault
    uploader = Uploader(rundir, CorpusConfig(target=store.uri("bucket/runs")), 0, print)
    journal = Journal.open(rundir, seal_every=2, named=uploader.wake)
    for name in ("a", "b"):
        play(journal, name)
    await journal.flush()
    assert await asyncio.to_thread(named.wait, 60)
    assert decode_manifest(store.objects[MANIFEST], "target").totals.episodes == 2
    await uploader.close(is_hasty=False)
    await journal.close()


async def test_a_target_that_fails_is_said_once_counted_and_caught_up_with(tmp_path: Path, store: Store) -> None:
    rundir, heard = make_run(tmp_path), Heard()
    store.fault = lambda method, key: 403
    uploader = Uploader(rundir, CorpusConfig(target=store.uri("bucket/runs")), 0, heard.say)
    grow(rundir, 0, 1)
    uploader.wake()
    assert "warning: the target cannot be written: " in await heard.next() and "ACCESS_DENIED" in heard.lines[0]
    assert uploader.gauges() == {"target/parts": 0, "target/missing": None, "target/failures": 1}
    store.fault = lambda method, key: None
    grow(rundir, 0, 1)
    uploader.wake()
    assert await heard.next() == "the target takes parts again"
    assert uploader.gauges() == {"target/parts": 2, "target/missing": 0, "target/failures": 1}
    assert decode_manifest(store.objects[MANIFEST], "target") == read_manifest(rundir, 0)
    await uploader.close(is_hasty=False)


async def test_a_folder_of_another_run_stops_nothing(tmp_path: Path, store: Store) -> None:
    rundir, heard = make_run(tmp_path), Heard()
    store.objects["bucket/runs/run/target.json"] = b'{"run":"other","folder":"run"}'
    uploader = Uploader(rundir, CorpusConfig(target=store.uri("bucket/runs")), 0, heard.say)
    grow(rundir, 0, 1)
    uploader.wake()
    assert "got another run's" in await heard.next()
    await uploader.close(is_hasty=False)
    assert list(store.objects) == ["bucket/runs/run/target.json"]


async def test_in_haste_nobody_waits_for_an_answer(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.uploader.HASTE_S", 0.1)
    rundir, asked, answer = make_run(tmp_path), threading.Event(), threading.Event()

    def fault(method: str, key: str) -> int:
        asked.set()
        answer.wait(60)
        return 403

    store.fault = fault
    uploader = Uploader(rundir, CorpusConfig(target=store.uri("bucket/runs")), 0, print)
    grow(rundir, 0, 1)
    uploader.wake()
    assert await asyncio.to_thread(asked.wait, 60)
    await uploader.close(is_hasty=True)
    assert not answer.is_set() and uploader.gauges()["target/parts"] == 0
    answer.set()
    await uploader.close(is_hasty=False)


async def test_one_that_was_given_nothing_is_closed_at_once(tmp_path: Path) -> None:
    uploader = Uploader(make_run(tmp_path), CorpusConfig(target="s3://bucket/runs"), 0, print)
    await uploader.close(is_hasty=False)
    assert uploader.gauges() == {"target/parts": 0, "target/missing": None, "target/failures": 0}
