"""The dev exam: kept items stand for their files, two runs are compared item by item, and what can be shown is said."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.backend import Backend
from engine.errors import ConfigError, InputError
from engine.panel import make_panel
from engine.planning import Plan, freeze
from engine.run import play
from engine.rundir import RunDirectory
from engine.scripted import ScriptedBackend
from eval.exam.dev import (
    ITEMS,
    DevExam,
    compare_runs,
    open_dev_exam,
    read_dev_exam,
    resolve,
    score_run,
)
from eval.statistics.power import POWER, Design, power_of
from tests.eval.exam.making import QUESTIONS, write_medqa, write_pubmedqa

TABLES: dict[str, Any] = {
    "tasks": {"forms": {"task": "medqa", "path": "lettered.jsonl"}, "pubmedqa": {"path": "decisions.jsonl"}},
    "protocol": {"max_tokens": 9},
}
RUN: dict[str, Any] = {
    "name": "rounds",
    "seed": 7,
    "cases": {"source": "bundled", "limit": 1, "repeats": 3},
    "protocol": {"name": "mental_arena"},
    "models": {"base": {"kind": "openai", "model": "m"}, "judge": {"kind": "openai", "model": "n"}},
    "roles": {"patient": "base", "therapist": "base", "judge": "judge"},
}


@pytest.fixture
def dev(tmp_path: Path) -> DevExam:
    write_medqa(tmp_path), write_pubmedqa(tmp_path)
    return read_dev_exam(TABLES, tmp_path)


def keep(dev: DevExam, directory: Path) -> Path:
    (directory / "inputs").mkdir(parents=True)
    for name, data in dev.files().items():
        (directory / name).write_bytes(data)
    return directory


class Crew:
    """One scripted model under the name `base`."""

    embedder = None

    def __init__(self, backend: Backend) -> None:
        self.pools = {"base": backend}

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


async def sit(plan: Plan, path: Path, known: int) -> Path:
    """Put an exam to a model that knows the first questions and says nothing on the others."""
    answers = {text: gold for text, _, gold in QUESTIONS[:known]}

    def answer(request: Any) -> str:
        asked = request.messages[-1].text
        return next((gold for text, gold in answers.items() if text in asked), "")

    rundir = RunDirectory.create(path, freeze(plan))
    with rundir.lock():
        result = await play(plan, rundir, Crew(ScriptedBackend(answer)), make_panel(False))
    assert not result.num_unplayed
    return path


def test_what_is_kept_stands_for_the_files(dev: DevExam, tmp_path: Path) -> None:
    directory = keep(dev, tmp_path / "kept")
    for name in ("lettered.jsonl", "decisions.jsonl"):
        (tmp_path / name).unlink()
    assert open_dev_exam(TABLES, directory) == dev and len(dev.items) == 8


def test_all_items_are_put_once_to_the_model_that_is_trained(dev: DevExam, tmp_path: Path) -> None:
    plan = dev.plan(RUN, "base", tmp_path)
    assert plan.config.roles == {"examinee": "base"} and plan.cases == list(dev.items)
    assert plan.num_episodes == 8 and plan.spec.name == "items" and plan.rules.max_tokens == 9


def test_a_directory_without_items_is_refused(dev: DevExam, tmp_path: Path) -> None:
    directory = keep(dev, tmp_path / "kept")
    (directory / ITEMS).write_bytes(b"{}\n")
    with pytest.raises(InputError, match="must hold the items of its exam"):
        open_dev_exam(TABLES, directory)


def test_every_problem_is_said_at_once(tmp_path: Path) -> None:
    tables = {"tasks": {"medqq": {"path": "x"}, "medqa": {"pth": "y"}}, "protocol": {"num_shots": 0, "name": "items"}}
    with pytest.raises(ConfigError) as refused:
        read_dev_exam(tables, tmp_path)
    text = "\n".join(refused.value.problems)
    assert all(problem.startswith("exam: ") for problem in refused.value.problems)
    assert "did you mean tasks.medqa.path" in text and "protocol.num_shots must be 1..64" in text


async def test_runs_are_scored_whole_and_compared_item_by_item(dev: DevExam, tmp_path: Path) -> None:
    plan = dev.plan(RUN, "base", tmp_path)
    before, after = await sit(plan, tmp_path / "before", 5), await sit(plan, tmp_path / "after", 2)
    score = score_run(before)
    assert (score.num_items, score.num_right, score.num_invalid) == (8, 5, 3)
    # Two of six letters are A, one of two decisions is "yes": three of eight.
    assert score.always_one == 3 / 8 and score.low < score.accuracy == 5 / 8 < score.high
    found = compare_runs(before, after).difference
    assert (found.value, found.num_better, found.num_worse) == (-3 / 8, 0, 3)
    assert found.interval.low < -3 / 8 < found.interval.high


async def test_runs_of_other_items_are_not_compared(dev: DevExam, tmp_path: Path) -> None:
    before = await sit(dev.plan(RUN, "base", tmp_path), tmp_path / "before", 5)
    fewer = msgspec.structs.replace(dev, items=dev.items[:7])
    after = await sit(fewer.plan(RUN, "base", tmp_path), tmp_path / "after", 5)
    with pytest.raises(InputError, match="must hold the same items"):
        compare_runs(before, after)


@pytest.mark.parametrize(("num_items", "discordant"), [(40, 0.5), (400, 0.5), (400, 0.1)])
def test_the_smallest_fall_is_shown_with_the_power_that_is_said(num_items: int, discordant: float) -> None:
    found = resolve(num_items, discordant)
    assert found.smallest_fall is not None
    design = Design(base=0.5, discordant=discordant)
    assert (
        power_of(num_items, found.smallest_fall, design)
        >= POWER
        > power_of(num_items, found.smallest_fall - 0.01, design)
    )
    said = re.search(rf"{num_items} items show a fall of ([\d.]+) points or more at 80% power", found.sentence)
    assert said is not None and found.smallest_fall <= float(said[1]) / 100 < found.smallest_fall + 0.001
    assert f"{discordant:.0%} of them differ" in found.sentence


def test_few_items_show_no_fall_at_all() -> None:
    found = resolve(8, 0.5)
    assert found.smallest_fall is None and "8 items show no fall at all" in found.sentence
    assert found.num_needed is not None and resolve(found.num_needed, 0.5).smallest_fall is not None
