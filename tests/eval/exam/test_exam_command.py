"""`sandplay exam` as a user runs it, against an endpoint that answers from a known table."""

import json
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from engine.errors import InputError
from eval.exam.planning import plan_exam
from tests.eval.exam.making import DECISIONS, QUESTIONS, write_medqa, write_pubmedqa
from tests.running import run, run_json, start
from tests.stub import Call, Stub, serve

CONFIG = """
name = "forms"
[protocol]
max_tokens = 32
{protocol}
[tasks.forms]
task = "medqa"
path = "lettered.jsonl"
[tasks.pubmedqa]
path = "decisions.jsonl"
[models.base]
kind = "openai"
model = "stub"
base_url = "{url}"
max_inflight = 4
"""


def write_config(directory: Path, stub: Stub, protocol: str = "") -> Path:
    write_medqa(directory), write_pubmedqa(directory)
    path = directory / "exam.toml"
    path.write_text(CONFIG.format(url=stub.base_url, protocol=protocol), "utf-8")
    return path


def question_of(call: Call) -> str:
    return str(call.body["messages"][-1]["content"])


def by_table(table: dict[str, str], otherwise: str) -> Any:
    return lambda call: next((reply for text, reply in table.items() if text in question_of(call)), otherwise)


def test_strict_and_published_scores_stand_side_by_side(tmp_path: Path) -> None:
    table = {
        QUESTIONS[0][0]: "A",  # right in both
        QUESTIONS[1][0]: "The correct option is B.",  # the published rule reads "T"
        QUESTIONS[2][0]: "",  # the published rule takes nothing for right
        QUESTIONS[3][0]: "Lithium",  # right in both, by its text
        QUESTIONS[4][0]: "I cannot answer this",  # invalid, and wrong in both
        DECISIONS[0][0]: "Yes",
        DECISIONS[1][0]: "It is not known",  # the published rule finds the "no" in "not"
    }
    with serve(by_table(table, "C) Median")) as stub:
        out = tmp_path / "out"
        found = run_json("exam", write_config(tmp_path, stub), "--out", out)
        assert len(stub.chats) == 8
        assert run_json("resume", out)["tasks"] == found["tasks"] and len(stub.chats) == 8
    forms, decisions = found["tasks"]["forms"], found["tasks"]["pubmedqa"]
    assert (forms["items"], forms["invalid"], forms["accuracy"], forms["legacy"]) == (6, 2, 3 / 6, 3 / 6)
    assert forms["interval"][0] < 0.5 < forms["interval"][1] and forms["baselines"]["always A"] == 2 / 6
    assert (decisions["items"], decisions["invalid"], decisions["accuracy"], decisions["legacy"]) == (2, 1, 0.5, 1.0)
    rows = pyarrow.parquet.read_table(out / "items.parquet").to_pylist()
    assert [(row["id"], row["answer"], row["text"]) for row in rows[:3]] == [
        ("forms/1", "A", "A"),
        ("forms/2", "B", "The correct option is B."),
        ("forms/3", None, ""),
    ]
    assert (out / "exam.json").stat().st_mode & 0o777 == 0o600 == (out / "items.parquet").stat().st_mode & 0o777


def test_one_set_and_one_way_may_be_chosen_and_are_read_by_people(tmp_path: Path) -> None:
    with serve(lambda _: "The answer is A") as stub:
        config = write_config(tmp_path, stub)
        shown = run("exam", config, "task=medqa", "protocol.prompting=few_shot", "--out", tmp_path / "few")
        assert "forms" in shown and "pubmedqa" not in shown and "few-shot" in shown and "33.3" in shown
        assert "others of its own set" in shown
        assert {len(call.body["messages"]) for call in stub.chats} == {12}
        stub.calls.clear()
        votes = run_json(
            "exam", config, "task=pubmedqa", "protocol.prompting=self_consistency", "--out", tmp_path / "votes"
        )
        assert len(stub.chats) == 10 and votes["tasks"]["pubmedqa"]["invalid"] == 2


def test_failed_items_are_invalid_and_said_to_have_failed(tmp_path: Path) -> None:
    from tests.stub import Fault

    with serve(lambda _: "A", faults=[Fault(status=400, message="no")]) as stub:
        found = run_json("exam", write_config(tmp_path, stub), "task=forms", "--out", tmp_path / "out")
    forms = found["tasks"]["forms"]
    assert (forms["items"], forms["failed"], forms["invalid"]) == (6, 1, 1)


@pytest.mark.asyncio
async def test_a_killed_exam_asks_no_answered_item_again(tmp_path: Path) -> None:
    with serve(lambda _: "A") as stub:
        config = write_config(tmp_path, stub, "temperature = 0.0")
        stub.hold()
        process = start("exam", config, "--out", tmp_path / "out")
        await stub.arrived(4)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        stub.release()
        found = run_json("resume", tmp_path / "out")
        assert found["tasks"]["forms"]["items"] == 6 and found["tasks"]["pubmedqa"]["items"] == 2
        # Four were in flight when it died, and are asked again; all others once.
        assert len(stub.chats) == 8 + 4


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with serve(lambda _: "A") as stub:
        config = write_config(tmp_path, stub)
        (tmp_path / "broken.jsonl").write_text(json.dumps({"question": "Why?", "options": {"A": "x"}}) + "\n")
        said = run(
            "exam",
            config,
            "tasks.medqq.path=lettered.jsonl",
            "tasks.forms.task=pubmedqa",
            "tasks.mmlu.path=absent.jsonl",
            "tasks.medqa.path=broken.jsonl",
            "protocol.num_shots=0",
            "models.base.max_inflight=0",
            expect=2,
        )
        assert not stub.chats
    for rule in ("did you mean 'medqa'", "protocol.num_shots", "max_inflight"):
        assert rule in said, said
    with serve(lambda _: "A") as stub:
        said = run("exam", write_config(tmp_path, stub), "tasks.forms.path=decisions.jsonl", expect=2)
    assert "line 1" in said and "pubmedqa" in said, said


def test_the_example_is_an_exam() -> None:
    from engine.config import read_table
    from eval.exam.planning import plan_exam
    from tests.running import ROOT

    plan = plan_exam(read_table(ROOT / "examples" / "exam.toml"), ROOT / "examples")
    assert len(plan.cases) == 20 and plan.config.roles == {"examinee": "base"}
    golds = [item.gold for item in plan.cases]
    assert {golds.count(label) for label in "ABCD"} == {5}, "no letter is better to guess than another"


def test_an_item_is_put_once() -> None:
    from engine.config import read_table
    from engine.errors import InputError
    from eval.exam.planning import plan_exam
    from tests.running import ROOT

    table = {**read_table(ROOT / "examples" / "exam.toml"), "cases": {"repeats": 2}}
    with pytest.raises(InputError, match="cases.repeats must be 1 in an exam, got 2"):
        plan_exam(table, ROOT / "examples")


def test_the_first_option_is_given_where_no_number_tells_it(tmp_path: Path) -> None:
    record = {"question": "A muscle?", "opa": "Femur", "opb": "Biceps", "opc": "Aorta", "opd": "Liver", "cop": 2}
    (tmp_path / "few.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    table = {
        "tasks": {"medmcqa": {"path": "few.jsonl"}},
        "models": {"base": {"kind": "openai", "model": "stub", "base_url": "http://127.0.0.1:1/v1"}},
    }
    with pytest.raises(InputError, match=r"tasks\.medmcqa: .*set first_option to 0 or 1"):
        plan_exam(table, tmp_path)
    for first, gold in ((0, "C"), (1, "B")):
        table["tasks"]["medmcqa"] = {"path": "few.jsonl", "first_option": first}
        assert [item.gold for item in plan_exam(table, tmp_path).cases] == [gold]
