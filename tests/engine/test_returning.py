"""Taking up again: every live episode once, with its own steps, read some at a time."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.journal import Journal, StoredStep
from engine.record import EpisodeKey
from engine.returning import READ_AHEAD, Returning
from engine.rundir import RunDirectory
from engine.steps import Reply


def test_each_episode_comes_once_with_its_own_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    num_live = 2 * READ_AHEAD + 3
    keys = [EpisodeKey(f"c{number}") for number in range(num_live)]
    asked: list[int] = []
    stored_of = Journal.stored_of

    def counted(self: Journal, episodes: Sequence[str]) -> dict[str, dict[str, StoredStep]]:
        asked.append(len(episodes))
        return stored_of(self, episodes)

    async def scenario() -> None:
        rundir = RunDirectory.create(tmp_path / "run")
        journal = Journal.open(rundir)
        for key in keys:
            journal.admit(key, 1, 2.0)
        for turn in range(3):  # rows of all episodes stand mixed
            for key in keys[1:]:
                journal.reply(str(key), f"t{turn}", bytes(16), Reply(f"{key} {turn}"))
        await journal.close()
        journal = Journal.open(rundir)
        monkeypatch.setattr(Journal, "stored_of", counted)
        returning = Returning(journal)
        for key in keys:
            row = returning.take()
            assert row is not None and row.key == key
            steps = returning.steps(row)
            texts = [f"{key} {turn}" for turn in range(3)] if key != keys[0] else []
            assert [step.reply.text for step in steps.values() if step.reply is not None] == texts
        assert returning.take() is None
        await journal.close()

    asyncio.run(scenario())
    assert asked == [READ_AHEAD, READ_AHEAD, 3]
