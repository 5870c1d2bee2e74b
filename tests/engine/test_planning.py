"""Plans of protocols that play cases of their own type."""

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import protocol
from engine.errors import InputError, ProtocolDrift
from engine.planning import Given, Plan, RunCast, freeze, make_plan, thaw
from engine.protocol import ProtocolSpec, Rules, Setting
from engine.protocols.counseling import PROTOCOL as COUNSELING
from engine.rundir import RunDirectory
from engine.steps import Generate, Protocol, Sampling, ask
from engine.views import View


class Question(msgspec.Struct, frozen=True):
    id: str
    text: str


class Manners(msgspec.Struct, frozen=True):
    greeting: str


def quiz(case: Question, rules: Rules, *, setting: Setting) -> Protocol[str]:
    view = View.of(setting.shared.greeting).hear(case.text)
    return (yield from ask(Generate("answer", "pupil", view, Sampling(rules.max_tokens), "answer"))).text


QUIZ = ProtocolSpec(name="quiz", session=quiz, roles=("pupil",), case=Question, shared=Manners)
TABLE: dict[str, Any] = {
    "protocol": {"name": "quiz"},
    "cases": {"source": "given"},
    "models": {"base": {"kind": "openai", "model": "m"}},
    "roles": {"pupil": "base"},
}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer the protocol as an installed package would."""
    entry = EntryPoint("quiz", f"{__name__}:QUIZ", protocol.ENTRY_POINTS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: EntryPoints([entry]))


def first_request(plan: Plan) -> Generate:
    step = next(RunCast(plan).play(next(iter(plan.roster()))))
    assert isinstance(step, Generate)
    return step


def test_given_cases_and_what_they_share_are_kept_by_the_run(tmp_path: Path) -> None:
    given = Given([Question("q1", "Why?"), Question("q2", "How?")], Manners("Be kind."))
    plan = make_plan(TABLE, tmp_path, given=given)
    rundir = RunDirectory.create(tmp_path / "run", freeze(plan))
    again = thaw(rundir, [])
    assert (again.cases, again.shared) == (given.cases, given.shared)
    assert first_request(again).hash == first_request(plan).hash
    assert [message.text for message in first_request(again).view.messages()] == ["Be kind.", "Why?"]


def test_a_run_from_before_a_setting_came_has_its_default(tmp_path: Path) -> None:
    given = Given([Question("q1", "Why?")], Manners("Be kind."))
    rundir = RunDirectory.create(tmp_path / "run", freeze(make_plan(TABLE, tmp_path, given=given)))
    lines = rundir.config.read_text("utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(("repeats", "temperature"))]
    assert len(kept) == len(lines) - 2
    rundir.config.write_text("\n".join(kept), "utf-8")
    assert thaw(rundir, []).table == make_plan(TABLE, tmp_path, given=given).table
    with pytest.raises(InputError, match="cases.repeats is part of the run's identity: it was 1, got 2"):
        thaw(rundir, ["cases.repeats=2"])


def test_a_changed_text_is_shown_by_its_lines(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    for text in COUNSELING.texts:
        (prompts / text.name).write_text(text.read_text("utf-8"), "utf-8")
    roles = {"patient": "base", "therapist": "base"}
    table = {**TABLE, "protocol": {"name": "counseling"}, "cases": {"limit": 1}, "roles": roles, "prompts": "prompts"}
    rundir = RunDirectory.create(tmp_path / "run", freeze(make_plan(table, tmp_path)))
    changed = sorted(prompts.iterdir())[0]
    changed.write_text(changed.read_text("utf-8") + "One line more.\n", "utf-8")
    with pytest.raises(ProtocolDrift) as drift:
        thaw(rundir, [])
    assert f"+{changed.name}: One line more." in str(drift.value).splitlines()
    assert len(str(drift.value).splitlines()) <= 6


def test_cases_of_a_type_of_its_own_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text('{"id": "q1", "text": "Why?"}\n{"id": "q2", "text": "How?"}\n')
    plan = make_plan({**TABLE, "cases": {"source": "questions.jsonl", "limit": 1}}, tmp_path)
    assert plan.cases == [Question("q1", "Why?")]


def test_what_was_given_is_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given"):
        make_plan(TABLE, tmp_path)


def test_an_unknown_protocol_is_refused_with_those_installed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="counseling, exam, mental_arena, quiz"):
        make_plan({**TABLE, "protocol": {"name": "quizz"}}, tmp_path)
