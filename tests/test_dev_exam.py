"""The exam between rounds: rules that it cannot decide are refused at once; a hosted model is judged by it."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.commands.dev_exam import case_warning, plan_with_exam, row_warning, rule_problems, stored_resolution
from engine.commands.rounds import create
from engine.config import apply_overrides, read_table
from engine.errors import ConfigError
from eval.exam.dev import read_dev_exam, resolve
from tests.running import CONFIG, ROOT, run, run_json, start
from tests.stub import Call, Stub, answer_by_purpose, embed_equal
from tests.test_hosted_rounds import HostedStub
from tests.tuning_stub import serve_tuning
from training.monitors import DEFAULT_RULES, Rule
from training.round_log import BEFORE, Decided, Examined, RoundLog

NUM_ITEMS = 24
ROUNDS = """
[rounds]
num_rounds = 1
held_out = 0
[samples]
near = 1
[tuning]
poll_s = 0.0
[exam.protocol]
max_tokens = 8
[exam.tasks.forms]
task = "medqa"
path = "items.jsonl"
[cases]
source = "bundled"
limit = 4
"""


def write_config(directory: Path, url: str, num_items: int = NUM_ITEMS) -> Path:
    """Write questions whose right answers are A, B, C and D in turn, and a configuration that asks them."""
    rows = [
        {
            "question": f"Question {number}: which letter stands at place {number % 4 + 1} of the alphabet?",
            "options": {letter: f"Letter {letter} of {number}" for letter in "ABCD"},
            "answer_idx": "ABCD"[number % 4],
        }
        for number in range(num_items)
    ]
    (directory / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    path = directory / "rounds.toml"
    path.write_text(CONFIG.format(url=url) + ROUNDS, "utf-8")
    return path


def plan(directory: Path, *overrides: str, num_items: int = NUM_ITEMS) -> Any:
    table = read_table(write_config(directory, "http://127.0.0.1:1/v1", num_items))
    return plan_with_exam(apply_overrides(table, list(overrides)), directory)


def rules(*tables: str) -> str:
    return f"rounds.rules=[{', '.join('{' + table + '}' for table in tables)}]"


def number_in(call: Call) -> int:
    found = re.search(r"Question (\d+):", str(call.body["messages"][-1]["content"]))
    assert found is not None
    return int(found[1])


# ---------------------------------------------------------------- rules


def test_default_rules_are_decided_by_an_exam_that_can_show_some_fall(tmp_path: Path) -> None:
    settings, dev = plan(tmp_path)
    assert settings.settings.rounds.rules == DEFAULT_RULES and len(dev.items) == NUM_ITEMS
    with pytest.raises(ConfigError) as refused:
        plan(tmp_path, num_items=8)
    assert refused.value.problems == (
        "rounds.rules[6] (exam_change_high at_least 0): an exam must be able to show some fall,"
        " got 8 items, which show none: use 15 items or more, or leave the rule out",
    )


def test_every_rule_that_cannot_be_decided_is_said_with_what_it_needs(tmp_path: Path) -> None:
    asked = rules(
        'figure = "exam_change_high", at_least = -0.02',
        'figure = "exam", at_least = 0.9, of_before = true',
        'figure = "exam_change_low", at_least = -0.6',
        'figure = "exam_change", at_least = -0.5',
        'figure = "num_rows", at_least = 1',
    )
    with pytest.raises(ConfigError) as refused:
        plan(tmp_path, asked)
    first, second, third = refused.value.problems
    assert first.startswith(
        "rounds.rules[0] (exam_change_high at_least -0.02): an exam that decides a fall of 2 points"
    )
    assert "got 24 items" in first and "use 9906 items or more, or allow a fall of 40.1 points" in first
    assert "or set exam.discordant where checkpoints were measured to differ in less than 50%" in first
    assert second.startswith("rounds.rules[1]") and "got its point exam: use exam_low or exam_high" in second
    assert third.startswith("rounds.rules[3]") and "use exam_change_low or exam_change_high" in third


@pytest.mark.parametrize("limit", [-1.0, -0.5, 0.5, 1.0])
def test_what_is_said_to_be_needed_is_enough(limit: float) -> None:
    assert rule_problems(0, Rule(figure="exam_change_low", at_least=limit), resolve(100, 0.5)) == []


@pytest.mark.parametrize(("limit", "discordant"), [(-0.05, 0.5), (-0.02, 0.1), (0.03, 0.3)])
def test_the_number_of_items_that_is_named_decides_the_rule(limit: float, discordant: float) -> None:
    rule = Rule(figure="exam_change_high", at_least=limit)
    (problem,) = rule_problems(0, rule, resolve(100, discordant))
    found = re.search(r"use (\d+) items", problem)
    assert found is not None and rule_problems(0, rule, resolve(int(found[1]), discordant)) == []


def test_faults_of_rounds_and_of_items_are_said_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(tmp_path, "rounds.num_rounds=0", "exam.tasks.forms.task=medqq", "exam.protocol.max_tokens=0")
    text = "\n".join(refused.value.problems)
    for said in ("rounds.num_rounds must be at least 1", "did you mean 'medqa'", "exam: protocol.max_tokens must be"):
        assert said in text, text


def test_without_items_nothing_is_asked_of_the_exam(tmp_path: Path) -> None:
    table = read_table(ROOT / "examples" / "rounds.toml")
    settings, dev = plan_with_exam(table, ROOT)
    assert dev is None and len(settings.items) == 100
    create(tmp_path / "out", settings)
    assert stored_resolution(tmp_path / "out") is None


def test_items_that_are_made_may_be_the_exam(tmp_path: Path) -> None:
    settings, dev = plan(tmp_path, "exam.tasks={general = {num_items = 3}}")
    assert len(dev.items) == 3 * 17 and dev.items[0].id == "general/larger/1"
    create(tmp_path / "out", settings, dev)
    found = stored_resolution(tmp_path / "out")
    assert found is not None and found.num_items == 3 * 17


def test_items_that_stand_in_cases_or_rows_are_named(tmp_path: Path) -> None:
    settings, dev = plan(tmp_path)
    assert case_warning(settings, dev) == ""
    item = dev.items[3]
    words = f"{item.question} {item.options[0].text}"
    case = msgspec.structs.replace(settings.played[0], history=f"Once asked: {words} It was so.")
    settings.played = [case, *settings.played[1:]]
    said = case_warning(settings, dev)
    assert said.startswith("1 exam items stand in cases") and case.id in said
    rows = [{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": words.lower()}]}]
    assert "1 exam items stand in training rows of round 2" in row_warning(dev, rows, 2)
    assert row_warning(dev, rows[:0], 2) == ""


def test_the_items_are_kept(tmp_path: Path) -> None:
    settings, dev = plan(tmp_path)
    create(tmp_path / "out", settings, dev)
    (tmp_path / "items.jsonl").unlink()
    tables = {"tasks": settings.settings.exam.tasks, "protocol": settings.settings.exam.protocol}
    with pytest.raises(ConfigError):
        read_dev_exam(tables, tmp_path)
    found = stored_resolution(tmp_path / "out")
    assert found is not None and (found.num_items, found.discordant, found.power) == (NUM_ITEMS, 0.5, 0.8)


# ---------------------------------------------------------------- a whole run


class JudgedStub(HostedStub):
    """Knows every answer as base model; a tuned one says A to all while `is_spoiled`."""

    def __init__(self, **settings: Any) -> None:
        others, self.is_spoiled = answer_by_purpose(), True

        def answer(call: Call) -> str:
            if call.purpose != "answer":
                return others(call)
            is_poor = self.is_spoiled and call.body["model"].startswith("ft:")
            return "A" if is_poor else "The answer is " + "ABCD"[number_in(call) % 4]

        super().__init__(chat=Stub(answer, embed_equal), **settings)

    def app(self) -> Any:
        import asyncio

        self.chat._loop = asyncio.get_running_loop()
        return super().app()

    @property
    def answered(self) -> list[Call]:
        return [call for call in self.chat.chats if call.purpose == "answer"]


def test_a_round_whose_fall_is_shown_is_rolled_back_and_the_next_is_compared_with_the_base(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serve_tuning(JudgedStub) as stub:
        summary = run_json("rounds", write_config(tmp_path, stub.base_url), "--out", out)
        assert summary["current"] == "" and len(stub.answered) == 2 * NUM_ITEMS
        (tmp_path / "items.jsonl").unlink()
        stub.is_spoiled = False
        again = run_json("resume", out, "rounds.num_rounds=2")
        assert again["current"] == "r1" and len(stub.answered) == 3 * NUM_ITEMS, "nothing is asked twice"
        shown = run("resume", out, "rounds.num_rounds=2")
        assert len(stub.answered) == 3 * NUM_ITEMS
    assert summary["exam"]["num_items"] == NUM_ITEMS and summary["exam"]["discordant"] == 0.5
    assert 0.39 < summary["exam"]["smallest_fall"] < 0.41 and summary["exam"]["power"] == 0.8
    log = RoundLog.open(out / "rounds.jsonl")
    base, first, second = (one for number in (BEFORE, 0, 1) if (one := log.find(Examined, number)) is not None)
    assert (base.score.num_right, base.score.always_one, base.change) == (NUM_ITEMS, 0.25, None)
    assert first.score.num_right == NUM_ITEMS // 4 and first.change is not None and second.change is not None
    assert (first.change.against, first.change.value, first.change.num_worse) == (BEFORE, -0.75, 18)
    assert (second.change.against, second.change.value) == (BEFORE, 0.0)
    decided = log.find(Decided, 0)
    assert decided is not None and decided.action == "roll back" and decided.figures is not None
    assert [breach.rule.figure for breach in decided.breaches] == ["exam_change_high"]
    assert decided.figures.exam_change_high == first.change.high < 0
    sentence, written = "24 items show a fall of 40.1 points or more at 80% power", (out / "rounds.html").read_text()
    assert sentence in written and sentence in shown and "-75.0 (-88.0 to -50.9) on base" in written
    assert json.loads((out / "round-0" / "exam" / "exam.json").read_bytes())["sets"][0]["score"]["num_right"] == 6


def test_a_rule_without_power_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with serve_tuning(JudgedStub) as stub:
        config = write_config(tmp_path, stub.base_url)
        asked = rules('figure = "exam_change_high", at_least = -0.02')
        said = run("rounds", config, asked, "--out", tmp_path / "out", expect=2)
        assert "use 9906 items or more" in said and not stub.chat.calls and not (tmp_path / "out").exists()


async def test_a_killed_exam_asks_no_answered_item_again(tmp_path: Path) -> None:
    with serve_tuning(JudgedStub) as stub:
        config = write_config(tmp_path, stub.base_url)
        stub.chat.hold()
        process = start("rounds", config, "models.base.max_inflight=4", "--out", tmp_path / "out")
        await stub.chat.arrived(4)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        stub.chat.release()
        summary = run_json("resume", tmp_path / "out")
        # Four were in flight when it died, and are asked again; all others once in each of the two exams.
        assert len(stub.answered) == 2 * NUM_ITEMS + 4 and summary["current"] == ""
