"""Counting a corpus: what each figure is of."""

from typing import Any

from engine.protocol import ProtocolSpec
from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, StepRecord
from engine.report.tally import Tally
from engine.steps import Protocol as Play
from engine.steps import Reply, Usage


def session() -> Play[None]:
    yield from ()


def step(role: str, words: str, purpose: str = "talk", **more: Any) -> StepRecord:
    reply = Reply(words, usage=Usage(100, 10, 40), latency_s=0.5, finish=more.pop("finish", "stop"))
    return StepRecord(
        path=f"{role}/{words}", kind="generate", hash="0", role=role, purpose=purpose, reply=reply, **more
    )


def make_record(number: int, *steps: StepRecord, **more: Any) -> EpisodeRecord:
    given = {
        "status": "completed",
        "started_at": 10.0,
        "ended_at": 12.0,
        "models": {"a": "m"},
        "weights": ("w",),
    } | more
    return EpisodeRecord(key=EpisodeKey(f"case{number}"), seed=0, protocol="p", steps=steps, **given)


SPEC = ProtocolSpec(
    name="p",
    session=session,
    roles=("a", "b"),
    turns=("talk",),
    facts=lambda outcome: {"n": outcome["n"]},
    missing=lambda outcome: {"label": int(outcome["n"] == 2)},
    histograms=lambda outcome: {"values": [outcome["n"], 0.5]},
)


def test_calls_are_counted_whatever_became_of_the_episode() -> None:
    failed = (AttemptRecord(0, "timeout", "late"), AttemptRecord(1, "server_error", "x"))
    tally = Tally(SPEC)
    tally.update(
        [
            make_record(0, step("a", "one two"), step("b", "three", finish="length"), outcome='{"n": 1}'),
            make_record(1, step("a", "four", attempts=failed), status="failed"),
            make_record(2, StepRecord(path="s", kind="similarity", hash="0", floats=(0.1, 0.2)), outcome='{"n": 2}'),
        ]
    )
    one, other = tally.roles["a"], tally.roles["b"]
    assert (one.num, one.prompt_tokens, one.cached_tokens, one.completion_tokens, one.num_cut_off) == (
        2,
        200,
        80,
        20,
        0,
    )
    assert (other.num, other.num_cut_off, other.latency_s.mean) == (1, 1, 0.5)
    assert tally.purposes["talk"].num == 3
    assert tally.attempts == {"timeout": 1, "server_error": 1}
    assert tally.statuses == {"completed": 2, "failed": 1}
    assert (tally.num, tally.num_similarities, tally.weights["w"]) == (3, 2, 3)


def test_lengths_and_figures_are_of_completed_episodes_alone() -> None:
    tally = Tally(SPEC)
    tally.update(
        [
            make_record(0, step("a", "one two"), step("b", "three"), step("b", "no turn", "score"), outcome='{"n": 1}'),
            make_record(1, step("a", "a b c d e f"), status="failed", outcome='{"n": 9}'),
            make_record(2, step("a", "x"), outcome='{"n": 2}', ended_at=5.0),
        ]
    )
    assert sorted(tally.num_turns.values) == [1, 2]
    assert (tally.words["a"].values, tally.words["b"].values) == ([2, 1], [1])
    assert tally.duration_s.values == [2.0]
    assert tally.facts["n"].values == [1, 2] and tally.histograms["values"].values == [1, 0.5, 2, 0.5]
    assert tally.missing == {"label": 1}
    assert sorted(record.key.case for record in tally.transcripts.items) == ["case0", "case2"]


def test_time_in_which_nobody_played_is_none_of_an_episodes() -> None:
    tally = Tally(SPEC, paused_s=lambda start, end: end - start - 0.5)
    tally.add(make_record(0))
    assert tally.duration_s.values == [0.5]


def test_an_outcome_that_is_no_object_has_no_figures() -> None:
    tally = Tally(SPEC)
    tally.update([make_record(0, outcome="[1]"), make_record(1, outcome="broken"), make_record(2)])
    assert not tally.facts and not tally.histograms and tally.num_turns.values == [0, 0, 0]
