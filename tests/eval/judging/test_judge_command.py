"""`sandplay judge` and `sandplay quality` on a stored run, as a user runs them."""

from pathlib import Path

import pytest

from tests.eval.judging.runs import write_rubric
from tests.running import ROOT, run, run_json
from tests.stub import Call, serve

CONFIG = """
name = "talks"
[protocol]
name = "counseling"
max_turns = 2
[cases]
limit = 2
[models.base]
kind = "openai"
model = "stub"
base_url = "{url}"
[roles]
patient = "base"
therapist = "base"
"""


def answer(call: Call) -> str:
    """Speak in dialogues; as a judge give reasons, then the first answer that is offered."""
    if call.purpose == "verdict":
        return "4" if "4:" in str(call.body["messages"][-1]["content"]) else "yes"
    return "That sounds hard. What happened then?"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("played")
    with serve(answer) as stub:
        (directory / "config.toml").write_text(CONFIG.format(url=stub.base_url), "utf-8")
        run("generate", directory / "config.toml", "--out", directory / "run")
    return directory / "run"


def test_a_stored_run_is_judged_by_any_rubric_and_pipeline(played: Path, tmp_path: Path) -> None:
    with serve(answer) as stub:
        url = f"models.base.base_url={stub.base_url}"
        for rubric, pipeline, factor in (("counselling", "single", 1), ("safety", "panel", 3)):
            stub.calls.clear()
            out = tmp_path / f"{rubric}-{pipeline}"
            command = ("judge", played, url, "protocol.has_reasons=false", "--rubric", rubric, "--pipeline", pipeline)
            figures = run_json(*command, "--out", out)["judging"]
            assert (figures["rubric"], figures["pipeline"], figures["num_transcripts"]) == (rubric, pipeline, 2)
            assert len(stub.chats) == 2 * len(figures["dimensions"]) * factor
            assert all(one["num_scored"] + one["num_missing"] == 2 for one in figures["dimensions"])
            assert (out / "verdicts.jsonl").read_text("utf-8").count("\n") == 2
            assert run_json("resume", out)["judging"] == figures
    shown = run("resume", tmp_path / "counselling-single")
    assert "rubric counselling" in shown and "missing" in shown


def test_a_protocol_of_ones_own_is_judged_by_all_that_was_said(tmp_path: Path) -> None:
    with serve(answer) as stub:
        own = CONFIG.format(url=stub.base_url).replace("counseling", f"{ROOT / 'examples/my_protocol.py'}:listening")
        own = own.replace("therapist", "listener").replace("max_turns = 2", "options.turns = 1")
        (tmp_path / "config.toml").write_text(own, "utf-8")
        run("generate", tmp_path / "config.toml", "--out", tmp_path / "run")
        command = ("judge", tmp_path / "run", "protocol.has_reasons=false", "--rubric", write_rubric(tmp_path))
        figures = run_json(*command, "--out", tmp_path / "judged")["judging"]
    assert figures["num_transcripts"] == 2
    # The closing, which is asked apart, is a reply as well: such a protocol declares no turns.
    asked = str(stub.chats[-1].body["messages"])
    assert asked.count("That sounds hard. What happened then?") == 3


def test_what_cannot_be_judged_is_refused(played: Path, tmp_path: Path) -> None:
    said = run("judge", played, "--rubric", "safty", "--pipeline", "majority", expect=2)
    assert "safety" in said and "temperature" in said
    assert "run directory" in run("judge", tmp_path, expect=2)


def test_the_quality_of_a_stored_run_is_measured(played: Path) -> None:
    (figures,) = run_json("quality", played)["corpora"]
    assert figures["statuses"]["completed"] == 2
    assert "self-BLEU" in run("quality", played)
    assert "check the path" in run("quality", played / "episodes", expect=2)
