"""The feeder on real journals: every sample of what is durable once, also after it was ended in the middle."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import JournalError
from engine.example_episode import example_episode
from engine.journal import Journal
from engine.record import EpisodeKey, EpisodeRecord
from engine.rundir import RunDirectory
from training.feeder import Feeder
from training.sample_log import SampleReader, SampleWriter
from training.settings import SampleSettings

RECORD, SPEC = example_episode()
SETTINGS = SampleSettings(kinds=("diagnosis", "treatment"), near=1)


def make_record(number: int) -> EpisodeRecord:
    """Another patient's episode."""
    outcome: Any = msgspec.json.decode(RECORD.outcome)
    outcome["symptom"] += f" Number {number}."
    key = EpisodeKey(f"case-{number:04d}")
    return msgspec.structs.replace(RECORD, key=key, outcome=msgspec.json.encode(outcome).decode())


def play(journal: Journal, *numbers: int) -> None:
    for number in numbers:
        record = make_record(number)
        journal.admit(record.key, record.seed, 0.0)
        journal.end(record)


def read(path: Path) -> tuple[list[str], bool]:
    reader = SampleReader(path)
    mark = reader.refresh()
    found = [f"{row['episode']} {row['kind']}" for row in reader.rows()]
    reader.close()
    return found, mark.is_closed


def expected(*numbers: int) -> list[str]:
    return [f"case-{number:04d}.0 {kind}" for number in numbers for kind in ("diagnosis", "treatment")]


async def until(path: Path, number: int) -> None:
    reader = SampleReader(path)
    await asyncio.to_thread(reader.wait, number, 30)
    reader.close()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.open(RunDirectory.create(tmp_path / "run", {"config.toml": b""}), seal_every=3)


async def test_samples_come_as_episodes_end(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    play(journal, 0)
    feeder = Feeder({"0": journal}, SPEC, SampleWriter.open(path), SETTINGS)
    running = asyncio.ensure_future(feeder.run())
    await until(path, 2)
    play(journal, 1, 2, 3, 4)
    await until(path, 10)
    assert read(path) == (expected(0, 1, 2, 3, 4), False)
    play(journal, 5)
    await journal.flush()
    feeder.finish()
    await running
    assert read(path) == (expected(*range(6)), True)
    await journal.close()


async def test_a_feeder_that_was_ended_goes_on_behind_its_last_mark(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    play(journal, *range(4))
    feeder = Feeder({"0": journal}, SPEC, SampleWriter.open(path), SETTINGS)
    running = asyncio.ensure_future(feeder.run())
    await until(path, 8)
    running.cancel()
    await asyncio.wait([running])
    # As after a kill: half a batch stands behind the last mark, and an episode repeats one that was read.
    with path.open("ab") as file:
        file.write(b'{"messages": [')
    twin = msgspec.structs.replace(make_record(1), key=EpisodeKey("twin"))
    journal.admit(twin.key, twin.seed, 0.0)
    journal.end(twin)
    play(journal, 4)
    await journal.flush()
    writer = SampleWriter.open(path)
    again = Feeder({"0": journal}, SPEC, writer, SETTINGS)
    again.finish()
    await again.run()
    assert read(path) == (expected(*range(5)), True)
    assert writer.mark.dropped == {"duplicate": 2} and writer.mark.kept == {"diagnosis": 5, "treatment": 5}
    await journal.close()


async def test_a_journal_that_fails_ends_the_feeder(journal: Journal, tmp_path: Path) -> None:
    feeder = Feeder({"0": journal}, SPEC, SampleWriter.open(tmp_path / "samples.jsonl"), SETTINGS)
    running = asyncio.ensure_future(feeder.run())
    await asyncio.sleep(0)
    journal._store.close()
    play(journal, 0)
    with pytest.raises(ExceptionGroup) as failed:
        await running
    assert failed.group_contains(JournalError)
