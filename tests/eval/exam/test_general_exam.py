"""The task that makes its items, as an exam: planned without a file, shown examples of its kind, told beside chance."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError
from engine.planning import freeze
from eval.exam.dev import read_dev_exam
from eval.exam.planning import plan_exam
from eval.exam.results import read_result
from eval.items import Item
from eval.scores import mark_answer, score
from eval.tasks import find_task
from eval.tasks.general import KINDS, make_general
from tests.running import run, run_json
from tests.stub import Call, serve

TABLE: dict[str, Any] = {
    "name": "forgetting",
    "tasks": {"general": {}},
    "models": {"base": {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"}},
}


def planned(base: Path, **changes: Any) -> list[Item]:
    return plan_exam({**TABLE, **changes}, base).cases


def test_it_needs_no_file_and_one_kind_may_be_chosen(tmp_path: Path) -> None:
    items = planned(tmp_path)
    assert len(items) == 20 * len(KINDS) and len({item.subject for item in items}) == len(KINDS) > 13
    chosen = planned(tmp_path, task="general", subject="Plural", tasks={"general": {"num_items": 3}})
    assert [item.id for item in chosen] == ["general/plural/1", "general/plural/2", "general/plural/3"]
    renamed = planned(tmp_path, tasks={"before": {"task": "general", "seed": 4, "num_items": 2, "limit": 5}})
    assert [item.id for item in renamed][:2] == ["before/larger/1", "before/sum/1"] and len(renamed) == 5
    assert freeze(plan_exam(TABLE, tmp_path)) == freeze(plan_exam(TABLE, tmp_path))


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    tasks = {
        "general": {"path": "x.jsonl", "examples": "y.jsonl", "num_items": 51},
        "medqa": {"num_items": 5, "seed": 2},
        "mmlu": {},
    }
    with pytest.raises(ConfigError) as refused:
        planned(tmp_path, tasks=tasks)
    assert refused.value.problems == (
        "tasks.general.path must be left out, since general makes its items, got 'x.jsonl': remove it",
        "tasks.general.examples must be left out, since general makes its items, got 'y.jsonl': remove it",
        "tasks.general.num_items must be 1..50 (0: 20), got 51",
        "tasks.medqa.path is required and missing: set it",
        "tasks.medqa.num_items must be left out, since medqa is read from a file, got 5: use limit",
        "tasks.medqa.seed must be left out, since medqa is read from a file, got 2: use limit",
        "tasks.mmlu.path is required and missing: set it",
    )
    with pytest.raises(
        ConfigError, match=r"subject must be one of: alphabetical, .*, got 'spelling': correct the name"
    ):
        planned(tmp_path, subject="spelling")


def test_it_may_be_the_exam_between_rounds(tmp_path: Path) -> None:
    dev = read_dev_exam(
        {"tasks": {"general": {"num_items": 2}, "plurals": {"task": "general", "subject": "plural"}}}, tmp_path
    )
    assert len(dev.items) == 2 * len(KINDS) + 20
    assert dev.materials.sources["general"].path == "made by general, seed 0"
    assert {item.subject for item in dev.materials.pools["plurals"].items} == {"plural"}


def test_the_score_is_told_beside_chance() -> None:
    task, items = find_task("general"), [item for item in make_general(8, 0).items if item.subject in ("order", "sum")]
    # Of 8 with two options 6 are right, of 8 with four options 1: (0.75 - 0.5) / 0.5 and (0.125 - 0.25) / 0.75.
    num_right = {"order": 6, "sum": 1}
    marks = [mark_answer(task, item, item.gold if item.line <= num_right[item.subject] else None, "") for item in items]
    found = score(task, marks)
    assert [one.subject for one in found.subjects] == ["order", "sum"]
    assert [one.normalised for one in found.subjects] == pytest.approx([0.5, -1 / 6])
    # Together 7 of 16 at a chance of 0.375.
    assert found.normalised == pytest.approx((7 / 16 - 0.375) / 0.625)
    medqa = find_task("medqa")
    assert score(medqa, [mark_answer(medqa, item, "A", "A") for item in items]).normalised is None


CONFIG = """
[protocol]
prompting = "few_shot"
num_shots = 3
[tasks.general]
num_items = 2
[models.base]
kind = "openai"
model = "stub"
base_url = "{url}"
"""


def test_two_models_are_compared_on_it(tmp_path: Path) -> None:
    made = make_general(2, 0)
    golds = {item.question: item.gold for item in made.items}
    kinds = {item.question: item.subject for item in (*made.items, *made.examples)}
    has_forgotten = False

    def question_of(text: str) -> str:
        return next(question for question in kinds if question in text)

    def answer(call: Call) -> str:
        asked = [question_of(str(one["content"])) for one in call.body["messages"] if one["role"] == "user"]
        assert len(asked) == 4 and len({kinds[one] for one in asked}) == 1 and len(set(asked)) == 4
        assert not {*asked[:-1]} & golds.keys(), "no item that is put is shown as an example"
        return "I do not know" if has_forgotten and kinds[asked[-1]] == "plural" else golds[asked[-1]]

    with serve(answer) as stub:
        (tmp_path / "exam.toml").write_text(CONFIG.format(url=stub.base_url), "utf-8")
        before = run_json("exam", tmp_path / "exam.toml", "--out", tmp_path / "before")["tasks"]["general"]
        has_forgotten = True
        shown = run("exam", tmp_path / "exam.toml", "--out", tmp_path / "after")
    assert before["normalised"] == 1.0 and before["normalised_subjects"] == dict.fromkeys(KINDS, 1.0)
    assert "normalised" in shown and "-33.3" in shown and "others of its own set" not in shown
    scores = read_result(tmp_path / "after").tasks["general"].scores
    assert scores["normalised: plural"] == pytest.approx(-1 / 3) and scores["normalised: sum"] == 1.0
    compared = run("compare", tmp_path / "before", tmp_path / "after")
    (row,) = [line.split() for line in compared.splitlines() if "normalised: plural" in line]
    assert row == ["general", "normalised:", "plural", "1.000", "-0.333", "-1.333"]
    found = json.loads(run("compare", tmp_path / "before", tmp_path / "after", "--json").splitlines()[-1])
    assert found["against_first"][0]["tasks"][0]["scores"]["normalised"][0] == 1.0
