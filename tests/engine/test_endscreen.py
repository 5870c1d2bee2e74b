from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.endscreen import (
    MAX_OUTCOMES,
    MODEL_LINE,
    CorpusFacts,
    Places,
    end_screen,
    facts_table,
    next_commands,
    settings_beside_paper,
    summarize,
)
from engine.protocol import ProtocolSpec, Rules
from engine.record import EpisodeKey, EpisodeRecord, ErrorRecord, Status, StepRecord
from engine.show import rendered
from engine.steps import Protocol as Play
from engine.steps import Reply, Usage

PLACES = Places(
    run=Path("runs/my demo"),
    config=Path("runs/my demo/config.toml"),
    corpus=Path("runs/my demo/episodes"),
    metrics=Path("runs/my demo/metrics.jsonl"),
)


class TalkRules(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    exchanges: int = 2
    similarity: float | str = "auto"


def make_session() -> Play[None]:
    yield from ()


def make_spec(warnings: Any = None) -> ProtocolSpec:
    def missing(outcome: Mapping[str, Any]) -> Mapping[str, int]:
        counts: Mapping[str, int] = outcome["missing"]
        return counts

    return ProtocolSpec(
        name="talk",
        session=make_session,
        roles=("patient", "therapist"),
        missing=missing,
        facts=lambda outcome: {"decoder rounds": outcome["rounds"]},
        warnings=warnings,
    )


def make_record(
    case: str, rounds: int | None = 1, status: Status = "completed", start: float = 1000.0
) -> EpisodeRecord:
    usage = Usage(100, 10, 60)
    steps = tuple(
        StepRecord(
            path=f"{i}", kind="generate", hash="0", role=role, purpose="talk", reply=Reply(f"{case} {i}", usage=usage)
        )
        for i, role in enumerate(["patient", "therapist"] * 4)
    )
    outcome = (
        "" if rounds is None else msgspec.json.encode({"rounds": rounds, "missing": {"illness": rounds % 2}}).decode()
    )
    return EpisodeRecord(
        key=EpisodeKey(case),
        seed=1,
        protocol="talk",
        status=status,
        outcome=outcome,
        error=None if status == "completed" else ErrorRecord("timeout", "slow"),
        models={"patient": "smollm2-135m", "therapist": "smollm2-135m"},
        started_at=start,
        ended_at=start + 10,
        steps=steps,
    )


def make_corpus() -> list[EpisodeRecord]:
    return [
        make_record("f", None, "failed", 1000.0),
        make_record("a", 1, start=1005.0),
        make_record("b", 4, start=1030.0),
    ]


def test_summarize_measures_the_corpus() -> None:
    facts = summarize(make_corpus(), make_spec())
    assert facts.statuses == {"failed": 1, "completed": 2}
    assert facts.errors == {"timeout": 1}
    assert (facts.num_turns, facts.num_calls) == (24, 24)
    assert (facts.prompt_tokens, facts.cached_tokens, facts.completion_tokens) == (2400, 1440, 240)
    assert facts.seconds == 40.0
    rounds = facts.facts["decoder rounds"]
    assert (rounds.mean, rounds.least, rounds.most) == (2.5, 1, 4)
    assert facts.missing == {"illness": 1}
    assert facts.example is not None
    assert facts.example.episode == "a.0"


def test_warnings_see_all_outcomes_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.endscreen.MAX_OUTCOMES", 3)
    assert MAX_OUTCOMES > 3
    seen: list[int] = []

    def warnings(outcomes: list[Mapping[str, Any]]) -> list[str]:
        seen.append(len(outcomes))
        return ["all alike"]

    facts = summarize([make_record(str(i)) for i in range(5)], make_spec(warnings))
    assert facts.warnings == ("all alike",)
    assert seen == [3]


def test_an_empty_corpus_has_nothing_to_say() -> None:
    facts = summarize([], make_spec(lambda _: ["never asked"]))
    assert facts == CorpusFacts()
    assert "none" in rendered(end_screen(facts, PLACES, make_spec()), 100)


def test_the_table_holds_measured_facts() -> None:
    lines = rendered(facts_table(summarize(make_corpus(), make_spec()), 30.0), 120).splitlines()
    rows = {line[:16].strip(): line[16:].strip() for line in lines}
    assert rows == {
        "episodes": "1 failed, 2 completed",
        "time": "30 s: 0.1 episodes/s",
        "turns": "24: 0.8 turns/s",
        "calls": "24: 0.8 calls/s",
        "tokens in": "2,400, 60 % from prefix cache",
        "tokens out": "240: 8 tokens/s",
        "decoder rounds": "mean 2.5, 1 to 4",
        "missing values": "1 illness",
        "failures": "1 timeout",
    }


def test_the_screen_has_facts_a_transcript_places_and_commands() -> None:
    facts = summarize(make_corpus(), make_spec(lambda _: ["[red]scores have no spread\x1b[2J"]))
    text = rendered(end_screen(facts, PLACES, make_spec(), width=100), 100)
    assert "Warning: [red]scores have no spread\n" in text
    assert "Episode a.0, 6 of 8 turns, model smollm2-135m" in text
    assert "a 5" in text
    assert "a 6" not in text
    assert "runs/my demo/metrics.jsonl" in text
    assert "sandplay resume 'runs/my demo'" in text
    assert "0.075 episodes/s" in text
    assert "135 million" not in text


def test_the_default_model_is_named_for_what_it_is() -> None:
    facts = summarize(make_corpus(), make_spec())
    text = rendered(end_screen(facts, PLACES, make_spec(), elapsed_s=3.0, is_default_model=True), 100)
    assert "135 million parameters" in text
    assert MODEL_LINE in text
    assert "1 episodes/s" in text


def test_commands_name_the_run_and_an_episode() -> None:
    commands = dict(next_commands(summarize(make_corpus(), make_spec()), PLACES))
    assert commands["read an episode"] == "sandplay show 'runs/my demo' a.0"
    assert commands["make training data"].startswith("sandplay export 'runs/my demo' --format messages --to ")
    assert dict(next_commands(CorpusFacts(), PLACES))["read an episode"] == "sandplay show 'runs/my demo'"


def test_settings_stand_beside_the_papers() -> None:
    paper = {"exchanges": 4, "similarity": 0.9, "temperature": 0.8, "embedder": "bert"}
    table = settings_beside_paper(TalkRules(), paper)
    facts = summarize(make_corpus(), make_spec())
    lines = rendered(end_screen(facts, PLACES, make_spec(), beside_paper=table), 100).splitlines()
    rows = {words[0]: words[1:] for line in lines if (words := line.split()) and words[0] in paper}
    assert rows == {
        "exchanges": ["2", "4", "differs"],
        "similarity": ["auto", "0.9", "differs"],
        "temperature": ["0.8", "0.8"],
        "embedder": ["-", "bert", "differs"],
    }
