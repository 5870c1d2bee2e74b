"""Rounds on scripted stages: order, decisions, and a crash in front of, inside and behind every step."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunError
from training.monitors import RoundFigures, Rule
from training.round_log import (
    BEFORE,
    Decided,
    ExamChange,
    Examined,
    Played,
    RoundLog,
    Sampled,
    Score,
    Swapped,
    Trained,
)
from training.round_settings import RoundsSettings
from training.rounds import Rounds
from training.rounds_page import rows_of


class Crash(Exception):
    """The process is killed here."""


class World:
    """What outlives a process: the log's file, what was paid for, what is current."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.paid: Counter[str] = Counter()
        self.current = ""


class Scripted:
    """Stages whose artefacts lie in a `World`: what costs is paid once, however often it is asked for.

    The `crash_at`th chance to crash is taken; each stage has two, before and after it has paid.
    """

    def __init__(self, world: World, crash_at: int = -1, **script: Any) -> None:
        self.world, self.script = world, script
        self.calls: list[str] = []
        self.served: str | None = None
        self._chances, self._crash_at = 0, crash_at

    def _chance(self) -> None:
        self._chances += 1
        if self._chances == self._crash_at:
            raise Crash

    def _pay(self, what: str) -> None:
        self.calls.append(what)
        self._chance()
        if not self.world.paid[what]:
            self.world.paid[what] += 1
        self._chance()

    async def play_held_out(self) -> Played:
        assert self.served == ""
        self._pay("held-out")
        return Played(round=BEFORE, version="", episodes={"completed": 1})

    async def play(self, number: int, version: str) -> Played:
        assert self.served == version, "a round is played on the version that is current"
        self._pay(f"play {number} on {version or 'base'}")
        return Played(round=number, version=version, episodes={"completed": 4})

    async def sample(self, number: int) -> Sampled:
        self._pay(f"sample {number}")
        figures = self.script.get("figures", {}).get(number, RoundFigures(num_rows=4))
        return Sampled(round=number, kept={"patient": 4}, dropped={}, figures=figures)

    async def train(self, number: int, version: str) -> Trained:
        self._pay(f"train {number} from {version or 'base'}")
        after = self.script.get("held_out", {}).get(number, 1.5)
        if failure := self.script.get("diverges", {}).get(number, ""):
            return Trained(round=number, version="", num_steps=0, num_tokens=0, failure=failure)
        return Trained(
            round=number, version=f"r{number}", num_steps=1, num_tokens=9, held_out_before=2.0, held_out_after=after
        )

    async def serve(self, number: int, version: str) -> Swapped | None:
        self._chance()
        before, refused = self.served, self.script.get("refused", {}).get(version, "")
        if before == version:
            return None
        if refused:
            return Swapped(round=number, version=version, before=before or "", refused=refused)
        self.served = version
        return Swapped(round=number, version=version, before=before) if before is not None else None

    async def examine(self, number: int, version: str, against: int | None) -> Examined | None:
        assert self.served == version, "the version that is examined is the one that is served"
        self._pay(f"examine {number}")
        share = self.script.get("exam", {}).get(number, 0.5)
        score = Score(num_items=10, num_right=5, num_invalid=0, accuracy=share, low=0.0, high=1.0, always_one=0.1)
        change = None
        if "changes" in self.script and against is not None:
            value = self.script["changes"].get(number, 0.0)
            change = ExamChange(
                *(), against=against, value=value, low=value - 0.1, high=value + 0.1, num_better=0, num_worse=1, p=0.5
            )
        return Examined(round=number, version=version, score=score, change=change)

    def commit(self, version: str) -> None:
        self._chance()
        self.world.current = version


def make_rounds(world: World, stages: Scripted, **settings: Any) -> tuple[RoundLog, Rounds]:
    log = RoundLog.open(world.path)
    return log, Rounds(log, stages, RoundsSettings(**settings))


async def play(tmp_path: Path, script: dict[str, Any] | None = None, **settings: Any) -> tuple[RoundLog, Scripted]:
    world = World(tmp_path / "rounds.jsonl")
    stages = Scripted(world, **script or {})
    log, rounds = make_rounds(world, stages, **settings)
    await rounds.run()
    return log, stages


def decisions(log: RoundLog) -> list[tuple[str, str]]:
    return [(one.action, one.serves) for one in log.all(Decided)]


async def test_each_round_is_played_on_the_checkpoint_of_the_last(tmp_path: Path) -> None:
    log, stages = await play(tmp_path)
    assert stages.calls == [
        *("held-out", "examine -1"),
        *("play 0 on base", "sample 0", "train 0 from base", "examine 0"),
        *("play 1 on r0", "sample 1", "train 1 from r0", "examine 1"),
    ]
    assert decisions(log) == [("keep", "r0"), ("keep", "r1")] and stages.world.current == "r1"


async def test_a_collapsed_round_is_not_trained_on_and_the_next_plays_the_older_version(tmp_path: Path) -> None:
    poisoned = RoundFigures(num_rows=40, num_labelled=20, num_labels=1, top_label="mdd", top_share=1.0)
    log, stages = await play(tmp_path, {"figures": {1: poisoned}}, num_rounds=3)
    assert decisions(log) == [("keep", "r0"), ("roll back", "r0"), ("keep", "r2")]
    assert "train 1 from r0" not in stages.calls and "play 2 on r0" in stages.calls
    breach = next(one for one in log.all(Decided) if one.round == 1).breaches[0]
    assert breach.sentence == "top_share must be at most 0.8, got 1: roll back"


async def test_a_loss_that_rises_is_rolled_back_without_ever_being_served(tmp_path: Path) -> None:
    log, stages = await play(tmp_path, {"held_out": {0: 9.0}})
    assert decisions(log) == [("roll back", ""), ("keep", "r1")]
    assert "play 1 on base" in stages.calls and "examine 0" not in stages.calls
    decided = log.find(Decided, 0)
    assert decided is not None and decided.breaches[0].sentence == (
        "held_out_ratio must be at most 1.05, got 4.5: roll back"
    )


async def test_an_exam_that_fails_puts_the_old_version_back(tmp_path: Path) -> None:
    rules = (Rule(figure="exam", at_least=0.9, of_before=True),)
    log, stages = await play(tmp_path, {"exam": {1: 0.3}}, rules=rules, num_rounds=3)
    assert decisions(log) == [("keep", "r0"), ("roll back", "r0"), ("keep", "r2")]
    swaps = [(one.before, one.version) for one in log.all(Swapped)]
    assert swaps == [("", "r0"), ("r0", "r1"), ("r1", "r0"), ("r0", "r2")]


async def test_the_first_round_is_compared_with_the_base(tmp_path: Path) -> None:
    rules = (Rule(figure="exam", at_least=0.9, of_before=True),)
    log, _ = await play(tmp_path, {"exam": {0: 0.3}}, rules=rules, num_rounds=1)
    assert decisions(log) == [("roll back", "")]


async def test_a_fall_in_the_exam_undoes_a_round_only_when_it_is_shown(tmp_path: Path) -> None:
    log, stages = await play(tmp_path, {"changes": {0: -0.09, 1: -0.11, 2: -0.3, 3: 0.2}}, num_rounds=4)
    assert decisions(log) == [("keep", "r0"), ("roll back", "r0"), ("roll back", "r0"), ("keep", "r3")]
    assert "play 3 on r0" in stages.calls
    decided = log.find(Decided, 1)
    assert decided is not None and decided.figures is not None
    assert decided.breaches[0].sentence == "exam_change_high must be at least 0, got -0.01: roll back"
    assert (decided.figures.exam_change, decided.figures.exam_high) == (-0.11, 1.0)


async def test_each_exam_is_compared_with_that_of_the_version_last_kept(tmp_path: Path) -> None:
    log, _ = await play(tmp_path, {"changes": {1: -0.5}, "held_out": {3: 9.0}}, num_rounds=5)
    found = [(one.round, one.change.against if one.change else None) for one in log.all(Examined)]
    assert found == [(BEFORE, None), (0, BEFORE), (1, 0), (2, 0), (4, 2)]


async def test_a_rule_may_stop_the_run(tmp_path: Path) -> None:
    rules = (Rule(figure="num_rows", at_least=5, then="stop"),)
    log, stages = await play(tmp_path, rules=rules, num_rounds=3)
    assert decisions(log) == [("stop", "")] and "play 1 on base" not in stages.calls


async def test_a_checkpoint_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    log, stages = await play(tmp_path, {"refused": {"r0": "NaN in the weights"}})
    assert decisions(log) == [("roll back", ""), ("keep", "r1")] and "play 1 on base" in stages.calls


async def test_training_that_diverges_rolls_the_round_back(tmp_path: Path) -> None:
    log, stages = await play(tmp_path, {"diverges": {0: "the loss must be finite, got nan in step 3"}})
    assert decisions(log) == [("roll back", ""), ("keep", "r1")] and "play 1 on base" in stages.calls
    assert rows_of(log)[0][-1] == "roll back: the loss must be finite, got nan in step 3"


async def test_overlapping_rounds_train_while_they_play(tmp_path: Path) -> None:
    log, stages = await play(tmp_path, overlap=True)
    assert decisions(log) == [("keep", "r0"), ("keep", "r1")]
    assert {"train 1 from r0", "play 1 on r0", "sample 1"} <= set(stages.calls)


async def test_a_finished_run_does_nothing_again(tmp_path: Path) -> None:
    _, stages = await play(tmp_path)
    again = Scripted(stages.world)
    _, rounds = make_rounds(stages.world, again)
    await rounds.run()
    assert again.calls == [] and again.served is None


SCRIPTS: dict[str, dict[str, Any]] = {
    "kept": {},
    "collapsed": {"figures": {1: RoundFigures(num_rows=0)}},
    "worse": {"held_out": {0: 9.0}},
    "refused": {"refused": {"r0": "NaN"}},
    "diverges": {"diverges": {1: "nan"}},
    "falls": {"changes": {0: -0.5}},
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("overlap", [False, True])
async def test_killed_anywhere_it_goes_on_and_pays_for_nothing_twice(tmp_path: Path, name: str, overlap: bool) -> None:
    straight = World(tmp_path / "straight.jsonl")
    _, rounds = make_rounds(straight, Scripted(straight, **SCRIPTS[name]), overlap=overlap)
    await rounds.run()
    for crash_at in range(1, 200):
        world = World(tmp_path / f"{crash_at}.jsonl")
        _, rounds = make_rounds(world, Scripted(world, crash_at, **SCRIPTS[name]), overlap=overlap)
        try:
            await rounds.run()
            assert crash_at > 20, "there must be many places to crash at"
            return
        except Crash:
            pass
        _, rounds = make_rounds(world, Scripted(world, **SCRIPTS[name]), overlap=overlap)
        await rounds.run()
        assert world.paid == straight.paid and world.current == straight.current
        assert decisions(RoundLog.open(world.path)) == decisions(RoundLog.open(straight.path))
    raise AssertionError("the run never came to its end")


@pytest.mark.parametrize("crash_at", range(1, 30, 3))
async def test_killed_twice_at_the_same_place(tmp_path: Path, crash_at: int) -> None:
    world = World(tmp_path / "rounds.jsonl")
    for at in (crash_at, min(crash_at, 3), -1):
        _, rounds = make_rounds(world, Scripted(world, at))
        try:
            await rounds.run()
        except Crash:
            continue
    assert max(world.paid.values()) == 1 and world.current == "r1"


async def test_what_a_stage_raises_ends_the_run_and_leaves_the_log(tmp_path: Path) -> None:
    world = World(tmp_path / "rounds.jsonl")

    class Failing(Scripted):
        async def train(self, number: int, version: str) -> Trained:
            raise RunError("no memory")

    log, rounds = make_rounds(world, Failing(world))
    with pytest.raises(RunError, match="no memory"):
        await rounds.run()
    assert log.find(Sampled, 0) is not None and log.find(Trained, 0) is None
    assert not asyncio.all_tasks() - {asyncio.current_task()}
