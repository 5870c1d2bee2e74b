from pathlib import Path
from typing import Any

import pytest

from engine.endscreen import (
    MODEL_LINE,
    choose_example,
    default_pools,
    end_screen,
    facts_table,
    next_commands,
    print_endscreen,
    settings_beside_paper,
)
from engine.example_episode import example_episode
from engine.journal import Journal
from engine.metrics import MetricsLog
from engine.planning import freeze, make_plan
from engine.protocol import ProtocolSpec, Rules
from engine.record import EpisodeKey, EpisodeRecord, Status, StepRecord
from engine.rundir import RunDirectory
from engine.steps import Protocol as Play
from engine.steps import Reply
from engine.tables import rendered

RUN = RunDirectory(Path("runs/my demo"))


class TalkRules(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    exchanges: int = 2
    similarity: float | str = "auto"


def make_session() -> Play[None]:
    yield from ()


SPEC = ProtocolSpec(name="talk", session=make_session, roles=("patient", "therapist"))


def make_summary(**more: object) -> dict[str, Any]:
    return {
        "episodes": {"completed": 14, "failed": 2, "cancelled": 0},
        "calls": 1234,
        "turns": 1200,
        "prompt_tokens": 200_000,
        "completion_tokens": 30_000,
        "cached_tokens": 150_000,
        "elapsed_s": 100.0,
        "startup_s": 24.0,
        "episodes_per_s": 0.16,
        "unplayed": 0,
        "missing": {"illness": 1},
        "facts": {"decoder rounds": 1.25},
        "warnings": [],
        "directory": "runs/my demo",
        "driver": {"run/elapsed_s": 100.0, "turns/total": 150.0, "tokens/completion": 30_000.0},
        **more,
    }


def make_record(case: str = "a", status: Status = "completed") -> EpisodeRecord:
    steps = tuple(
        StepRecord(
            path=f"{i}", kind="generate", hash="0", role=role, purpose="talk", reply=Reply(f"turn {i} \x1b[2J[red]")
        )
        for i, role in enumerate(["patient", "therapist"] * 4)
    )
    models = {"patient": "smollm2-135m", "therapist": "smollm2-135m"}
    return EpisodeRecord(key=EpisodeKey(case), seed=1, protocol="talk", status=status, models=models, steps=steps)


def make_screen(width: int = 110, **more: Any) -> str:
    summary = more.pop("summary", make_summary())
    return rendered(end_screen(summary, **{"example": make_record(), "spec": SPEC, "rundir": RUN, **more}), width)


def test_the_table_holds_measured_facts() -> None:
    lines = rendered(facts_table(make_summary()), 120).splitlines()
    rows = {line[:21].strip(): line[21:].strip() for line in lines}
    assert rows == {
        "episodes": "14 completed, 2 failed",
        "time": "2 min after 24 s of starting up",
        "speed": "0.16 episodes/s, 1.5 turns/s, 300 tokens/s out",
        "calls": "1,234, every attempt counted",
        "tokens": "200,000 in, 75 % of them from prefix caches; 30,000 out",
        "mean decoder rounds": "1.25",
        "missing values": "1 illness",
    }


def test_a_run_that_played_nothing_has_no_speed_of_an_earlier_one() -> None:
    said = rendered(facts_table(make_summary(elapsed_s=0.0, episodes_per_s=0.0)), 120)
    assert "nothing was played this time" in said and "turns/s" not in said


def test_a_limited_run_says_what_was_counted_and_how_to_go_on() -> None:
    spent = {"calls": 50, "tokens": 9000, "cost": 0.25, "hours": 0.5}
    roles = {
        "judge": {
            "model": "base",
            "calls": 7,
            "prompt_tokens": 5,
            "cached_tokens": 1,
            "completion_tokens": 2,
            "cost": None,
        }
    }
    summary = make_summary(spent=spent, reached=["max_calls"], unplayed=2, roles=roles, cost=None)
    text = make_screen(summary=summary)
    assert "counted for limits   50 calls, 9,000 tokens, 0.5 hours, cost 0.25, episodes that have not ended" in text
    assert "sandplay resume 'runs/my demo' limits.max_calls=...\n" in text
    (line,) = [line.split() for line in text.splitlines() if line.split()[:1] == ["judge"]]
    assert line == ["judge", "base", "7", "5", "1", "2", "-"]
    ended = rendered(facts_table(make_summary(episodes={"completed": 0}, unplayed=6)), 120)
    assert "none ended, 6 open" in ended


def test_nothing_is_claimed_that_was_not_measured() -> None:
    summary = make_summary(
        driver={}, episodes_per_s=0.0, prompt_tokens=0, cached_tokens=0, missing={}, facts={}, unplayed=3
    )
    text = rendered(facts_table(summary), 120)
    assert "nothing was played this time" in text
    assert "- of them from prefix caches" in text
    assert "2 failed, 3 open" in text
    assert text.splitlines()[-1].split() == ["missing", "values", "none"]


def test_the_screen_has_a_transcript_places_and_commands() -> None:
    text = make_screen(summary=make_summary(warnings=["[red]scores have no spread\x1b[2J"]))
    assert "Warning: [red]scores have no spread\n" in text
    assert "Episode a.0, 6 of 8 turns, model smollm2-135m" in text
    assert "turn 5 [red]" in text
    assert "turn 6" not in text
    assert "\x1b" not in text
    assert "runs/my demo/metrics.jsonl" in text
    assert "sandplay show 'runs/my demo' a.0" in text
    assert "135 million" not in text


def test_a_run_without_a_completed_episode_has_no_transcript() -> None:
    assert choose_example([make_record("b", "failed")]) is None
    text = make_screen(example=None)
    assert "turns, model" not in text
    assert "sandplay export" not in text


def test_the_example_is_the_first_completed_one() -> None:
    chosen = choose_example([make_record("b", "failed"), make_record("c"), make_record("d")])
    assert chosen is not None
    assert chosen.key.case == "c"


def test_the_default_model_is_named_for_what_it_is() -> None:
    text = " ".join(make_screen(default_pools=["base"]).split())
    assert "135 million parameters" in text
    assert f"under [models.base]: {MODEL_LINE}" in text


def test_default_pools_are_those_that_play() -> None:
    table = {
        "roles": {"patient": "base", "therapist": "big"},
        "models": {
            "base": {"model": "smollm2-135m"},
            "big": {"model": "org/large"},
            "spare": {"model": "smollm2-135m"},
        },
    }
    assert default_pools(table) == ["base"]
    assert default_pools({}) == []


def test_commands_fit_the_run() -> None:
    run = "'runs/my demo'"
    assert dict(next_commands(make_summary(), make_record())) == {
        "read an episode": f"sandplay show {run} a.0",
        "list all episodes": f"sandplay show {run}",
        "make training data": f"sandplay export {run} --format messages --to DATASET",
        "play failed ones again": f"sandplay resume {run} --retry-failed",
    }
    open_run = make_summary(episodes={"completed": 1}, unplayed=2)
    assert dict(next_commands(open_run, None)) == {
        "list all episodes": f"sandplay show {run}",
        "go on": f"sandplay resume {run}",
    }


def test_settings_stand_beside_the_papers() -> None:
    paper = {"exchanges": 4, "similarity": 0.9, "temperature": 0.8, "embedder": "bert"}
    lines = make_screen(settings=settings_beside_paper(TalkRules(), paper)).splitlines()
    rows = {words[0]: words[1:] for line in lines if (words := line.split()) and words[0] in paper}
    assert rows == {
        "exchanges": ["2", "4", "differs"],
        "similarity": ["auto", "0.9", "differs"],
        "temperature": ["0.8", "0.8"],
        "embedder": ["-", "bert", "differs"],
    }
    assert "Settings beside" not in make_screen(settings=settings_beside_paper(TalkRules(), {}))


async def test_the_end_screen_of_a_real_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {
        "protocol": {"name": "mental_arena", "exchanges": 2},
        "cases": {"source": "bundled", "limit": 1},
        "models": {"base": {"kind": "vllm", "model": "smollm2-135m"}},
        "roles": dict.fromkeys(("patient", "therapist", "judge"), "base"),
    }
    plan = make_plan(table, tmp_path)
    rundir = RunDirectory.create(tmp_path / "run", freeze(plan))
    record, _ = example_episode()
    journal = Journal.open(rundir)
    journal.admit(record.key, record.seed, record.started_at)
    journal.end(record)
    await journal.close()
    MetricsLog(rundir.metrics, 1.0).write(1.0, 2.0, {"run/elapsed_s": 10.0, "turns/total": 9, "tokens/completion": 50})
    summary = make_summary(directory=str(rundir.path))
    del summary["driver"]
    print_endscreen(plan, rundir, summary)
    text = capsys.readouterr().out
    assert "0.9 turns/s, 5 tokens/s out" in text
    assert "Episode example.0, 6 of 9 turns, model scripted" in text
    (exchanges,) = [line.split() for line in text.splitlines() if line.startswith(" exchanges")]
    assert exchanges == ["exchanges", "2", "4", "differs"]
    assert "[models.base]" in text
    assert str(rundir.config) in text
