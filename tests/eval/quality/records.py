"""Records of played sessions, made for tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.corpus_parts import Extent, name_part
from engine.protocol import ProtocolSpec
from engine.protocols.counseling import PROTOCOL
from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, ErrorRecord, NodeRecord, StepRecord
from engine.rundir import RunDirectory
from engine.steps import Reply, Usage
from tests.engine.kept import put_part

SPEC: ProtocolSpec = PROTOCOL
CASE = {
    "id": "tilda",
    "name": "Tilda",
    "history": "Tilda repairs violins in Ghent and hides her shaking hands from every customer.",
    "intermediate_belief": "A craftsman without steady hands is a fraud.",
    "coping_strategies": "She works behind closed shutters and sends the apprentice to the counter.",
    "situation": "On Tuesday a cellist asked to watch while she fitted the sound post.",
    "auto_thought": "He will see it at once.",
    "emotion": ["afraid"],
    "behavior": "Told him that the shop was closed.",
}
TALK = (
    ("therapist", "Good morning. What brings you here today?"),
    ("patient", "I can't work any more, and I don't know whom to tell."),
    ("therapist", "Say more about the work, if you like."),
    ("patient", "My hands shake. Nobody knows."),
)


def make_step(number: int, role: str, text: str, view: int = -1, **more: Any) -> StepRecord:
    values = {"path": f"{number}/{role}", "purpose": f"{role}_turn", **more}
    reply = Reply(text, usage=Usage(10, len(text.split()), 0))
    return StepRecord(kind="generate", hash="00", role=role, view=view, reply=reply, **values)


def make_record(case: str = "tilda", talk: Sequence[tuple[str, str]] = TALK, **more: Any) -> EpisodeRecord:
    """One session; `outcome` and `case_json` are objects, `attempts` makes the first step a retried one."""
    attempts = (AttemptRecord(0, "timeout", "no answer"),) if more.pop("is_retried", False) else ()
    steps = tuple(make_step(n, role, text, attempts=attempts if n == 0 else ()) for n, (role, text) in enumerate(talk))
    values: dict[str, Any] = {
        "key": EpisodeKey(case),
        "status": "completed",
        "case": json.dumps(more.pop("case_json", CASE)),
        "outcome": json.dumps(more.pop("outcome", {"turns": 2, "ended_by": "max_turns"})),
        "steps": steps,
        **more,
    }
    return EpisodeRecord(seed=1, protocol="counseling", **values)


def make_failed(case: str) -> EpisodeRecord:
    words = (("therapist", "Good morning."),)
    return make_record(case, words, status="failed", error=ErrorRecord("timeout", "no answer"), outcome={})


def with_view(record: EpisodeRecord, at: int, *messages: tuple[str, str]) -> EpisodeRecord:
    """Return the record with what the step at that place saw, (role, text) oldest first."""
    nodes = tuple(NodeRecord(n - 1, role, text) for n, (role, text) in enumerate(messages))
    steps = list(record.steps)
    steps[at] = msgspec.structs.replace(steps[at], view=len(nodes) - 1)
    return msgspec.structs.replace(record, nodes=nodes, steps=tuple(steps))


def keep_run(path: Path, records: Sequence[EpisodeRecord]) -> RunDirectory:
    """Write a run of the counseling protocol with these episodes sealed."""
    run = RunDirectory.create(path, {"config.toml": b'[protocol]\nname = "counseling"\n'})
    numbered = [msgspec.structs.replace(record, seq=seq) for seq, record in enumerate(records)]
    if numbered:
        name_part(run, Extent(), put_part(run, Extent(), numbered))
    return run
