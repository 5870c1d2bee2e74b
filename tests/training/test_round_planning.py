"""Planning rounds: every problem at once, cases parted once and for all, only what may change changes on resume."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.cases.datasets import Dataset
from engine.config import read_table
from engine.errors import ConfigError, InputError
from engine.files import write_atomic
from training.monitors import Rule
from training.round_planning import CONFIG, RoundsPlan, plan_rounds, replan
from training.round_settings import RoundsSettings, read_settings, split, to_table

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "rounds.toml"


def make_table(**changes: Any) -> dict[str, Any]:
    return {**read_table(EXAMPLE), **changes}


def keep(plan: RoundsPlan, directory: Path) -> Path:
    (directory / "inputs").mkdir(parents=True)
    for name, data in plan.files().items():
        write_atomic(directory / name, data)
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return keep(plan_rounds(make_table(), ROOT), tmp_path / "rounds")


def test_the_example_holds_out_two_cases_and_examines_a_hundred_others() -> None:
    plan = plan_rounds(make_table(), ROOT)
    assert (len(plan.played), len(plan.held_out), len(plan.items)) == (4, 2, 100)
    ids = [case.id for case in (*plan.played, *plan.held_out, *plan.items)]
    assert len(set(ids)) == 106 and plan.model == "base"
    assert all(case.condition for case in plan.items)


def test_limits_of_a_run_are_refused_for_rounds(directory: Path) -> None:
    refused = "limits.max_calls holds for a single run, got 50 for rounds"
    with pytest.raises(ConfigError, match=refused):
        plan_rounds(make_table(limits={"max_calls": 50}), ROOT)
    with pytest.raises(ConfigError, match=refused):
        replan(directory, ["limits.max_calls=50"])


def test_a_round_is_a_run_of_its_own_with_another_seed(directory: Path) -> None:
    plan = replan(directory, [])
    first, second = plan.round(directory, 0), plan.round(directory, 1)
    assert first.cases == second.cases == plan.played and first.config.seed + 1 == second.config.seed
    assert plan.yardstick(directory).cases == plan.held_out
    exam = plan.exam(directory)
    assert exam.spec.name == "exam" and exam.config.roles == {"therapist": "base"} and len(exam.cases) == 100


def test_what_is_kept_is_read_again_whole(directory: Path) -> None:
    before = plan_rounds(make_table(), ROOT)
    again = replan(directory, [])
    assert again.settings == before.settings and again.table == before.table and again.model == before.model
    assert (again.played, again.held_out, again.items) == (before.played, before.held_out, before.items)


def test_more_rounds_and_other_rules_may_follow(directory: Path) -> None:
    plan = replan(directory, ["rounds.num_rounds=5", "models.base.kv_cache_gib=1.0", "training.workers=2"])
    assert plan.settings.rounds.num_rounds == 5 and plan.settings.training.workers == 2
    assert plan.round(directory, 0).table["models"]["base"]["kv_cache_gib"] == 1.0


def test_what_a_corpus_or_a_checkpoint_is_may_not_change(directory: Path) -> None:
    with pytest.raises(InputError) as refused:
        replan(directory, ["training.rank=4", "protocol.max_tokens=64", "exam.num_items=3", "rounds.held_out=1"])
    assert [problem.split(" ")[0] for problem in refused.value.problems] == [
        *("exam.num_items", "protocol.max_tokens", "rounds.held_out", "training.rank")
    ]


def test_every_problem_is_named_at_once() -> None:
    table = make_table(
        shards=2,
        rounds={"num_rounds": 0, "overlap": True, "placement": "colocated", "rules": [{"figure": "mood"}]},
        training={"rank": 0, "learning_rat": 1.0},
        exam={"num_items": 1},
        cases={"limit": -1},
    )
    with pytest.raises(ConfigError) as refused:
        plan_rounds(table, ROOT)
    text = "\n".join(refused.value.problems)
    for found in (
        "rounds.num_rounds must be at least 1, got 0",
        "rounds.overlap needs placement",
        "rounds.rules[0].figure must be one of num_rows",
        "rounds.rules[0] must have at_least or at_most",
        "did you mean training.learning_rate?",
        "exam.num_items must be 0 or at least 2, got 1",
        "cases.limit must be >= 0",
    ):
        assert found in text, f"{found!r} is not in\n{text}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": {"held_out": 6}}, "rounds.held_out must leave a case to play, got 6 of 6"),
        ({"rounds": {"model": "other"}}, "rounds.model must be one of base, got 'other'"),
        ({"shards": 2, "models": {"base": {"replicas": 2}}}, "shards must be 1 in a run of rounds, got 2"),
        (
            {
                "models": {"base": {}, "second": {}},
                "roles": {"patient": "base", "therapist": "second", "judge": "base"},
            },
            "rounds.model must say which model is trained, got none of base, second",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_rounds(make_table(**changes), ROOT)
    assert any(said in problem for problem in refused.value.problems), refused.value.problems


@pytest.mark.parametrize(("rank", "method", "room"), [(12, "lora", 16), (64, "lora", 64), (64, "full", 16)])
def test_the_model_is_served_with_room_for_the_adapters_that_are_trained(rank: int, method: str, room: int) -> None:
    plan = plan_rounds(make_table(training={"rank": rank, "method": method}), ROOT)
    assert plan.run["models"]["base"]["max_lora_rank"] == room


def test_a_model_of_an_endpoint_is_trained_there() -> None:
    hosted = {"base": {"kind": "openai", "model": "m"}}
    assert plan_rounds(make_table(models=hosted), ROOT).is_hosted
    assert not plan_rounds(make_table(), ROOT).is_hosted


def test_exam_cases_must_have_a_condition_and_must_not_be_played(tmp_path: Path) -> None:
    plan = plan_rounds(make_table(), ROOT)
    nameless = msgspec.structs.replace(plan.items[0], condition="")
    lines = [msgspec.json.encode(case) for case in (nameless, plan.played[0])]
    (tmp_path / "items.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(ConfigError) as refused:
        plan_rounds(make_table(exam={"source": str(tmp_path / "items.jsonl"), "num_items": 2}), ROOT)
    assert len(refused.value.problems) == 2
    assert "must have a condition" in refused.value.problems[0] and "must not be played" in refused.value.problems[1]


TASKS = {"forms": {"task": "medqa", "path": "forms.jsonl"}}
SHOWN = {"figure": "exam_change_high", "at_least": -0.02}


def test_items_of_tests_take_the_place_of_people(tmp_path: Path) -> None:
    plan = plan_rounds(
        make_table(exam={"tasks": TASKS, "protocol": {"max_tokens": 9}}, rounds={"rules": [SHOWN]}), ROOT
    )
    assert plan.items == [] and plan.settings.exam.tasks == TASKS
    directory = keep(plan, tmp_path / "rounds")
    again = replan(directory, ["exam.discordant=0.2"])
    assert again.settings.exam.discordant == 0.2 and again.settings.exam.tasks == TASKS
    with pytest.raises(InputError, match=r"exam\.tasks\.forms\.path is part of the run's identity"):
        replan(directory, ["exam.tasks.forms.path=others.jsonl"])


@pytest.mark.parametrize(
    ("exam", "said"),
    [
        ({"discordant": 0.0}, "exam.discordant must be a share above 0 and at most 1, got 0.0"),
        ({"protocol": {"max_tokens": 9}}, "exam.protocol says how items are put, got no [exam.tasks.NAME]"),
        ({"tasks": {"forms": 3}}, "exam.tasks"),
        ({}, "rounds.rules[0].figure must be one that is measured, got exam_change_high without items"),
    ],
)
def test_an_exam_without_sense_is_refused(exam: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_rounds(make_table(exam=exam, rounds={"rules": [SHOWN]}), ROOT)
    assert any(said in problem for problem in refused.value.problems), refused.value.problems


def test_no_exam_and_nothing_held_out_is_allowed(tmp_path: Path) -> None:
    plan = plan_rounds(make_table(exam={"num_items": 0}, rounds={"held_out": 0}), ROOT)
    assert plan.items == [] and plan.held_out == [] and len(plan.played) == 6
    assert replan(keep(plan, tmp_path / "rounds"), []).items == []


def test_tables_survive_a_round_trip_with_their_rules() -> None:
    rules = (Rule(figure="exam", at_least=0.9, of_before=True, then="stop"),)
    own, rest = split({"rounds": {"rules": msgspec.to_builtins(rules)}, "name": "x", "training": {"threads": 2}})
    assert rest == {"name": "x"}
    settings = read_settings(own)
    assert settings.rounds == RoundsSettings(rules=rules) and settings.training.threads == 2
    assert read_settings(to_table(settings)) == settings
    assert CONFIG == "rounds.toml"


def test_principles_of_the_hub_are_kept_for_all_rounds(tmp_path: Path) -> None:
    source = tmp_path / "experts.json"
    source.write_text(json.dumps({f"e{number}": ["Hesitate."] for number in range(5)}), "utf-8")
    datasets = {"principles": Dataset(source, "c" * 40)}
    planned = plan_rounds(make_table(principles={"source": "hf:org/experts"}), ROOT, datasets)
    directory = keep(planned, tmp_path / "rounds")
    source.unlink()
    plan = replan(directory, [])
    assert plan.run["principles"]["source"] == "hf:org/experts"
    assert [group.id for group in plan.round(directory, 1).principles] == ["e0", "e1", "e2", "e3", "e4"]
    assert plan.exam(directory).config.principles.source == "bundled"
    with pytest.raises(ConfigError, match="principles.source must be a file or a word here, got hf:org/experts"):
        plan_rounds(make_table(principles={"source": "hf:org/experts"}), ROOT)
