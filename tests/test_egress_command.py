"""What leaves a run, as the command shows, refuses and keeps it. No name here is ever resolved."""

import json
import tomllib
from pathlib import Path

import pytest

from engine.commands.dev_exam import plan_with_exam
from engine.commands.rounds import rounds_outlets
from engine.egress import Outlet, outlets, outside
from engine.egress_log import read_egress
from engine.planning import make_plan
from tests.eval.exam.making import write_medqa
from tests.eval.exam.test_exam_command import CONFIG as EXAM
from tests.running import CONFIG, run, run_json, write_config
from tests.stub import serve
from tests.test_dev_exam import write_config as write_exam
from tests.test_hosted_rounds import ROUNDS
from training.round_planning import plan_rounds

AWAY = "http://models.invalid/v1"
REMEDY = 'set privacy.egress = "allow"'


def refusals(said: str) -> list[str]:
    return [line for line in said.splitlines() if "must be served on this machine" in line]


def test_each_command_that_would_send_texts_away_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = write_config(tmp_path, AWAY)
    found = refusals(run("generate", config, "--out", tmp_path / "run", expect=2))
    assert [line.split(" must")[0] for line in found] == [
        "sandplay: role patient",
        "sandplay: role therapist",
        "sandplay: role judge",
        "sandplay: embedder",
    ]
    assert all("models.invalid" in line and REMEDY in line for line in found)
    assert "hidden fields" not in found[1] and "hidden fields" in found[2]
    assert len(refusals(run("ablate", config, "--out", tmp_path / "run", expect=2))) == 4
    config.write_text(CONFIG.format(url=AWAY) + ROUNDS, "utf-8")
    found = refusals(run("rounds", config, "--out", tmp_path / "run", expect=2))
    assert found[4].startswith("sandplay: role therapist (exam)") and found[5].startswith("sandplay: fine-tuning")
    assert "the training rows" in found[5]
    said = run("calibrate", config, expect=2)
    assert "embedder must be served" in said and "none of yours" in said
    write_medqa(tmp_path)
    (tmp_path / "exam.toml").write_text(EXAM.format(url=AWAY, protocol="").replace("[tasks.pubmedqa]", "[ignored]"))
    text = (tmp_path / "exam.toml").read_text().replace('[ignored]\npath = "decisions.jsonl"\n', "")
    (tmp_path / "exam.toml").write_text(text)
    assert len(refusals(run("exam", tmp_path / "exam.toml", "--out", tmp_path / "run", expect=2))) == 1
    assert not (tmp_path / "run").exists()


def test_a_dry_run_shows_the_table_with_the_refusal_at_its_end(tmp_path: Path) -> None:
    config = write_config(tmp_path, AWAY)
    said = run("generate", config, "--dry-run").splitlines()
    assert said[-1].startswith("# will be refused: embedder must be served") and REMEDY in said[-1]
    assert sum("OUTSIDE" in line for line in said) == 4 and "# Where texts go" in said
    found = json.loads(run("generate", config, "--dry-run", "--json"))["egress"]
    assert [one["is_inside"] for one in found["outlets"]] == [False] * 4 and len(found["problems"]) == 4
    allowed = json.loads(run("generate", config, "--dry-run", "--json", "privacy.egress=allow"))["egress"]
    assert allowed == {"outlets": found["outlets"], "problems": []}


def test_a_run_keeps_where_its_texts_went_and_another_host_on_resume_is_added(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with serve() as stub:
        config = write_config(tmp_path, stub.base_url)
        run("generate", config, "cases.limit=2", "limits.max_calls=30", "--out", out, expect=1)
        (first,) = read_egress(out)
        assert (first.egress, {one.host for one in first.outlets}) == ("refuse", {"127.0.0.1"})
        asked = len(stub.chats)
        away = f"models.base.base_url={AWAY}"
        assert len(refusals(run("resume", out, away, "limits.max_calls=0", expect=2))) == 3
        assert len(read_egress(out)) == 1 and len(stub.chats) == asked
        moved = stub.base_url.replace("127.0.0.1", "localhost")
        more = ("limits.max_calls=0", "privacy.egress=allow", f"models.base.base_url={moved}")
        summary = run_json("resume", out, *more)
    assert summary["episodes"]["completed"] == 2
    _, second = read_egress(out)
    assert (second.egress, {one.host for one in second.outlets}) == ("allow", {"127.0.0.1", "localhost"})
    assert second.at > first.at and outside(second.outlets) == []
    page = (out / "report.html").read_text("utf-8")
    assert "Where texts went" in page and "No text of this run left" in page and page.count("UTC on") == 2
    run("judge", out, f"models.base.base_url={AWAY}", "--out", tmp_path / "judged", expect=2)


def test_a_finished_run_asks_nobody_and_is_not_refused(tmp_path: Path) -> None:
    with serve() as stub:
        run("generate", write_config(tmp_path, stub.base_url), "cases.limit=1", "--out", tmp_path / "run")
        run("resume", tmp_path / "run", f"models.base.base_url={AWAY}")
    assert len(read_egress(tmp_path / "run")) == 1


@pytest.mark.parametrize("items", [0, 4])
def test_rounds_count_the_exam_the_training_and_the_rows_that_are_compared(tmp_path: Path, items: int) -> None:
    table = tomllib.loads(CONFIG.format(url=AWAY) + ROUNDS.replace("num_items = 4", f"num_items = {items}"))
    plan = plan_rounds(table, tmp_path)
    found = rounds_outlets(plan, make_plan(plan.run, tmp_path))
    assert [one.who for one in found] == [
        *(["role therapist (exam)"] if items else []),
        "fine-tuning",
        "embedder (rows)",
    ]
    assert "transcript" in found[-1].sees.words


def test_rounds_count_the_embedder_that_only_their_exam_asks(tmp_path: Path) -> None:
    with serve() as stub:
        config = write_exam(tmp_path, stub.base_url)
        text = config.read_text().replace('name = "mental_arena"\nsimilarity = 0.9', 'name = "counseling"')
        head, _, tail = text.replace('judge = "base"\n', "").partition("[embedder]")
        config.write_text(head + "[embedder]" + tail.replace(stub.base_url, AWAY, 1), "utf-8")
        assert all(one.is_inside for one in outlets_of(config))
        nearest = ('exam.protocol={prompting="medprompt"}', 'exam.tasks.forms.examples="items.jsonl"')
        found = refusals(run("rounds", config, *nearest, "--out", tmp_path / "run", expect=2))
        assert [line.split(" must")[0] for line in found] == [
            "sandplay: embedder (exam)",
            "sandplay: embedder (rows)",
        ]
        assert not stub.calls and not (tmp_path / "run").exists()


def outlets_of(config: Path) -> list[Outlet]:
    """Return where the texts of rounds go, and those of their dialogues."""
    plan, _ = plan_with_exam(tomllib.loads(config.read_text("utf-8")), config.parent)
    first = make_plan(plan.run, config.parent)
    return [*outlets(first.config, first.spec), *rounds_outlets(plan, first)]
