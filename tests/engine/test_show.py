import json
from pathlib import Path

import msgspec
import pytest

from engine.errors import InputError, SandplayError
from engine.example_episode import MARK, example_episode, example_text, load_script
from engine.journal import Journal
from engine.protocol import ProtocolSpec, Section
from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, ErrorRecord, NodeRecord, Status, StepRecord
from engine.rundir import RunDirectory
from engine.show import (
    calls_table,
    decoded,
    episode_view,
    episodes_table,
    excerpt,
    markdown,
    section_view,
    show_command,
    to_json,
)
from engine.steps import Protocol as Play
from engine.steps import Reply, Usage
from engine.tables import rendered

HOSTILE = "\x1b[2Jhello [bold red]there[/] :boom: \x1b]0;t\x07\u202eend"


def make_session() -> Play[None]:
    yield from ()


def make_spec(**more: object) -> ProtocolSpec:
    return ProtocolSpec(name="talk", session=make_session, roles=("patient", "therapist"), **more)  # type: ignore[arg-type]


def make_step(path: str, role: str, text: str = "Hello.", **more: object) -> StepRecord:
    reply = Reply(
        text,
        usage=Usage(1200, 30, 900),
        replica="base/0",
        weights="0123456789abcdef",
        latency_s=1.25,
        finish=str(more.pop("finish", "stop")),
    )
    return StepRecord(path=path, kind="generate", hash="00", role=role, purpose="talk", view=0, reply=reply, **more)  # type: ignore[arg-type]


def make_record(*steps: StepRecord, status: Status = "completed", **more: object) -> EpisodeRecord:
    return EpisodeRecord(
        key=EpisodeKey("ada", 1),
        seed=5,
        protocol="talk",
        status=status,
        models={"patient": "small", "therapist": "large"},
        weights=("0123456789abcdef",),
        started_at=1_700_000_000.0,
        ended_at=1_700_000_012.5,
        nodes=(NodeRecord(-1, "system", "You are Ada."),),
        steps=steps,
        **more,  # type: ignore[arg-type]
    )


def make_talk(num: int = 4, **more: object) -> EpisodeRecord:
    roles = ("patient", "therapist")
    return make_record(*(make_step(f"{i}", roles[i % 2], f"turn number {i}") for i in range(num)), **more)  # type: ignore[arg-type]


def test_side_by_side_keeps_the_order_of_speaking() -> None:
    lines = rendered(episode_view(make_talk(3), width=120), 120).splitlines()
    (first,) = [line for line in lines if "turn number 0" in line]
    (second,) = [line for line in lines if "turn number 2" in line]
    assert first.index("turn number 0") < first.index("turn number 1")
    assert lines.index(first) < lines.index(second)
    assert first.index("turn number 0") == second.index("turn number 2")


def test_a_role_that_speaks_twice_gets_a_row_of_its_own() -> None:
    record = make_record(*(make_step(str(i), role, f"turn {i}") for i, role in enumerate("abbab")))
    text = rendered(episode_view(record, width=100), 100)
    rows = [line.split() for line in text.splitlines() if " turn " in line]
    assert [" ".join(row) for row in rows] == ["turn 0 turn 1", "turn 2", "turn 3 turn 4"]


@pytest.mark.parametrize("width", [40, 89])
def test_narrow_terminals_stack_the_turns(width: int) -> None:
    lines = rendered(episode_view(make_talk(2), width=width), width).splitlines()
    at = lines.index("turn number 0")
    assert lines[at - 1 : at + 4] == ["patient", "turn number 0", "", "therapist", "turn number 1"]
    assert max(map(len, lines)) <= width


def test_more_than_two_speakers_are_stacked() -> None:
    record = make_record(*(make_step(role, role, f"says {role}") for role in "abc"))
    assert "\na\nsays a\n\nb\nsays b\n\nc\nsays c\n" in rendered(episode_view(record, width=120), 120)


def test_hostile_text_is_shown_as_text() -> None:
    section = Section(title=HOSTILE, columns=(HOSTILE,), rows=((HOSTILE,),), note=HOSTILE)
    record = make_record(
        make_step(HOSTILE, "patient", HOSTILE),
        status="failed",
        error=ErrorRecord("timeout", HOSTILE, HOSTILE),
    )
    spec = make_spec(sections=lambda _: [section])
    for width in (60, 120):
        text = rendered(episode_view(record, spec, width), width)
        assert not any(ord(c) < 32 and c != "\n" for c in text)
        assert "\u202e" not in text
        assert "hello [bold red]there[/] :boom: end" in text
    assert "[bold red]" in rendered(episodes_table([record], spec), 200)


def test_the_head_says_what_the_episode_is() -> None:
    record = make_talk(2, outcome='{"rounds": 3}', error=ErrorRecord("timeout", "too slow", "2/patient"))
    text = rendered(episode_view(record, make_spec(facts=lambda outcome: {"rounds": outcome["rounds"]})), 140)
    for part in (
        "ada.1 (completed), protocol talk, seed 5",
        "patient: small, therapist: large",
        "0123456789\n",
        "2023-11-14 22:13:20 UTC, 12.5 s",
        "2, tokens 2,400 in (75 % cached), 60 out",
        "rounds 3",
        "timeout at 2/patient: too slow",
    ):
        assert part in text


def test_an_episode_without_turns_says_so() -> None:
    assert "No turn was spoken." in rendered(episode_view(make_record(status="failed")), 100)


def test_sections_are_the_protocols_tables() -> None:
    section = Section(
        title="Rounds", columns=("round", "cosine"), rows=(("1", "0.41"), ("2", "0.72", "extra")), note="cut 0.6"
    )
    text = rendered(section_view(section), 80)
    assert [line.split() for line in text.splitlines() if line and "─" not in line] == [
        ["Rounds"],
        ["round", "cosine"],
        ["1", "0.41"],
        ["2", "0.72", "extra"],
        ["cut", "0.6"],
    ]
    assert rendered(section_view(Section(title="Only", note="words")), 80) == "Only\nwords"


def test_calls_show_what_each_step_cost() -> None:
    failed = (
        AttemptRecord(0, "timeout", "late"),
        AttemptRecord(1, "timeout", "late"),
        AttemptRecord(2, "server_error", "x"),
    )
    record = make_record(
        make_step("1/patient", "patient", finish="length", attempts=failed[:1]),
        StepRecord(path="2/similar", kind="similarity", hash="0", floats=(0.25, 0.5)),
        StepRecord(path="3/many", kind="similarity", hash="0", floats=(0.1,) * 20),
        StepRecord(path="4/lost", kind="generate", hash="0", role="judge", purpose="score", attempts=failed),
    )
    lines = [line.split() for line in rendered(calls_table(record, 200), 200).splitlines()]
    rows = {line[0]: line[1:] for line in lines if line}
    assert rows["1/patient"] == "patient talk (cut off) 1,200 900 30 base/0 0123456789 1.25 2 (timeout)".split()
    assert rows["2/similar"] == "similarity 0.25 0.50 1".split()
    assert rows["3/many"] == "20 similarities 1".split()
    assert rows["4/lost"] == "judge score - - - - - - 3 (timeout, server_error)".split()


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_calls_fit_the_width(width: int) -> None:
    heads = "".join(rendered(calls_table(make_talk(), width), width).split())
    assert heads.replace("─", "").startswith("Callspathrole") or width == 60
    assert all(len(line) <= width for line in rendered(calls_table(make_talk(), width), width).splitlines())
    assert "replica" not in heads or width >= 115


def test_the_list_has_one_row_per_episode() -> None:
    records = [make_talk(4, outcome='{"n": 2}'), make_record(status="failed", error=ErrorRecord("timeout", "slow"))]
    lines = rendered(episodes_table(records, make_spec(facts=lambda o: {"rounds": o["n"]})), 140).splitlines()
    rows = [line.split() for line in lines if line.startswith(" ada") or line.startswith("ada")]
    assert rows == [
        ["ada.1", "completed", "4", "rounds", "2", "4,920", "75", "%"],
        ["ada.1", "failed", "0", "0", "-", "timeout:", "slow"],
    ]


def test_json_is_one_ascii_line_with_case_and_outcome_as_objects() -> None:
    record = make_record(make_step("1", "patient", "é\x7f\x1b\u202e\ud800"), case='{"id": "ada"}', outcome="")
    text = to_json(record)
    assert text.isascii()
    assert text.isprintable()
    read = json.loads(text)
    assert (read["episode"], read["case"], read["outcome"]) == ("ada.1", {"id": "ada"}, None)
    assert read["steps"][0]["reply"][0] == "é\x7f\x1b\u202e\ud800"


def test_decoded_returns_what_is_no_json_as_it_is() -> None:
    assert [decoded(text) for text in ("", "[1]", "no json")] == [None, [1], "no json"]


def test_an_excerpt_is_quoted_and_captioned() -> None:
    record = make_record(make_step("1", "patient", "one\n\n# two <b>*x*</b>"), make_step("2", "therapist", "Hm."))
    assert excerpt(record, 2) == (
        "> **patient:** one\n>\n> \\# two \\<b\\>\\*x\\*\\</b\\>\n>\n> **therapist:** Hm.\n\n"
        "*First 2 turns of episode ada.1, cut by `sandplay show RUN ada.1 --excerpt 2`; "
        "patient small, therapist large.*\n"
    )
    assert "First 1 turns" in excerpt(record, 1)
    assert "large" not in excerpt(record, 1)


def test_markdown_leaves_no_live_character() -> None:
    assert markdown("[x](http://y) `z` \x1b[1m|") == "\\[x\\](http://y) \\`z\\` \\|"


def test_the_example_is_played_by_the_real_protocol() -> None:
    record, spec = example_episode()
    script = load_script()
    asked = {step.path for step in record.steps}
    assert record.status == "completed"
    assert record.error is None
    assert asked == script.answers.keys() | script.similarities.keys()
    outcome = decoded(record.outcome)
    below = [len(one["deviating"]) for one in outcome["rounds"]]
    assert below == [4, 1, 0]
    assert outcome["missing"] == {}
    assert all(f["status"] in ("delivered", "not needed") for one in outcome["rounds"] for f in one["feedback"])
    assert spec.records is not None
    (row,) = spec.records(record)
    assert all(row.values())


def test_similarities_of_the_example_rise() -> None:
    rounds = decoded(example_episode()[0].outcome)["rounds"]
    figures = [list(one["similarities"].values()) for one in rounds]
    assert all(
        a < b for before, after in zip(figures, figures[1:], strict=False) for a, b in zip(before, after, strict=True)
    )


def test_the_example_script_must_answer_every_step() -> None:
    script = load_script()
    answers = {path: text for path, text in script.answers.items() if path != "extract"}
    with pytest.raises(SandplayError, match="got none for 'extract': add it"):
        example_episode(msgspec.structs.replace(script, answers=answers))


@pytest.mark.parametrize("width", [60, 100, 140])
def test_every_line_of_the_example_is_marked(width: int) -> None:
    lines = example_text(width).split("\n")
    assert all(line.startswith(f"{MARK} |") and len(line) <= width for line in lines)
    assert any("Symptom decoder" in line for line in lines)
    assert any("diagnos" in line.lower() for line in lines)


async def make_run(root: Path, *records: EpisodeRecord, protocol: str = "mental_arena") -> RunDirectory:
    """A run directory with a real journal that holds the records."""
    rundir = RunDirectory.create(root / "run", {"config.toml": f'[protocol]\nname = "{protocol}"\n'.encode()})
    journal = Journal.open(rundir)
    for record in records:
        journal.admit(record.key, record.seed, record.started_at)
        journal.end(record)
    await journal.close()
    return rundir


async def test_the_command_lists_a_runs_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rundir = await make_run(tmp_path, example_episode()[0], make_talk(2, status="failed"))
    show_command(rundir.path, None)
    text = capsys.readouterr().out
    assert "example.0" in text
    assert "decoder rounds 2" in text
    assert "ada.1" in text
    assert "The first" not in text
    assert max(map(len, text.splitlines())) <= 120


async def test_a_long_list_is_cut_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rundir = await make_run(tmp_path, make_talk(2), example_episode()[0])
    monkeypatch.setattr("engine.show.MAX_LISTED", 1)
    show_command(rundir.path, None)
    text = capsys.readouterr().out
    assert "The first 1 of 2; --json gives all" in text
    assert "example.0" not in text


async def test_the_command_shows_one_episode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rundir = await make_run(tmp_path, make_talk(2, status="failed"), example_episode()[0])
    show_command(rundir.path, "example.0")
    shown = capsys.readouterr().out
    assert "Symptom decoder" in shown
    assert "encode/choice" in shown
    assert not any(line.endswith(" ") for line in shown.splitlines())
    show_command(rundir.path, "ada.1")
    assert "ada.1 (failed), protocol talk" in capsys.readouterr().out


async def test_the_command_prints_json_and_excerpts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rundir = await make_run(tmp_path, make_talk(2, status="failed"), example_episode()[0])
    show_command(rundir.path, None, as_json=True)
    assert [json.loads(line)["episode"] for line in capsys.readouterr().out.splitlines()] == ["ada.1", "example.0"]
    show_command(rundir.path, "ada.1", as_json=True)
    assert json.loads(capsys.readouterr().out)["status"] == "failed"
    show_command(rundir.path, None, excerpt_turns=2)
    assert "First 2 turns of episode example.0" in capsys.readouterr().out


async def test_an_episode_that_is_not_there_is_refused(tmp_path: Path) -> None:
    rundir = await make_run(tmp_path, make_talk(2, status="failed"))
    with pytest.raises(InputError, match="must be in the corpus, got 'bob.0': .*lists them"):
        show_command(rundir.path, "bob.0")
    with pytest.raises(InputError, match="got none that is completed"):
        show_command(rundir.path, None, excerpt_turns=3)


async def test_a_run_whose_protocol_is_gone_can_still_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rundir = await make_run(tmp_path, make_talk(2), protocol="gone.py:talk")
    show_command(rundir.path, "ada.1")
    assert "turn number 1" in capsys.readouterr().out


def test_the_command_shows_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    show_command(None, None, is_example=True)
    assert all(line.startswith(MARK) for line in capsys.readouterr().out.splitlines())
    show_command(None, None, is_example=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["models"]["patient"] == "scripted"
    show_command(None, None, is_example=True, excerpt_turns=2)
    cut = capsys.readouterr().out
    assert "patient scripted, therapist scripted" in cut
    assert "sandplay show --example --excerpt 2" in cut
    assert all(line.startswith(MARK) for line in cut.splitlines())
