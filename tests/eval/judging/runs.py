"""Judgings made for tests: run directories with the votes one wants, sealed as a real one is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from engine.corpus_parts import Extent, name_part
from engine.record import EpisodeKey, EpisodeRecord, ErrorRecord
from engine.rundir import RunDirectory
from eval.rubric import Rubric, load_rubric
from eval.verdicts import JudgingOutcome, Verdict, Vote, make_verdict
from tests.engine.kept import put_part

Options: TypeAlias = str | Sequence[str | None] | None
"""One vote's option, or those of several votes; None where none could be read."""

RUBRIC = """
name = "talks"
title = "how a talk goes"
instructions = "Judge the talk."

[[dimensions]]
name = "warmth"
question = "How warm is it?"
[dimensions.anchors]
1 = "cold"
2 = "cool"
3 = "neutral"
4 = "warm"
5 = "very warm"
na = "nobody speaks"

[[dimensions]]
name = "harm"
question = "Is there harm?"
better = "low"
[dimensions.anchors]
yes = "There is."
no = "There is none."
"""


def write_rubric(directory: Path, text: str = RUBRIC) -> Path:
    path = directory / "talks.toml"
    path.write_text(text, "utf-8")
    return path


def keep_judging(
    path: Path,
    votes: Mapping[str, Mapping[str, Options]],
    *,
    rubric: str = "human_or_ai",
    pipeline: str = "single",
    model: str = "stub",
    failed: Sequence[str] = (),
    roles: Sequence[str] = (),
) -> RunDirectory:
    """Write a judging run: `votes` has by transcript and item what was voted; an item is a dimension, or begins with
    one. `failed` transcripts have no turns; `roles` name the judges of the votes in turn."""
    config = f'[protocol]\nname = "judging"\nrubric = "{rubric}"\npipeline = "{pipeline}"\ntemperature = 0.7\n'
    run = RunDirectory.create(path, {"config.toml": config.encode()})
    known = load_rubric(rubric)
    records = [_record(known, name, items, pipeline, model, roles) for name, items in votes.items()]
    for name in failed:
        error = ErrorRecord("no_turns", "nobody spoke")
        key = EpisodeKey(name)
        records.append(
            EpisodeRecord(key=key, seq=0, seed=0, protocol="judging", status="failed", case="{}", error=error)
        )
    numbered = [msgspec.structs.replace(record, seq=seq) for seq, record in enumerate(records)]
    if numbered:
        name_part(run, Extent(), put_part(run, Extent(), numbered))
    return run


def _record(
    rubric: Rubric, name: str, items: Mapping[str, Options], pipeline: str, model: str, roles: Sequence[str]
) -> EpisodeRecord:
    verdicts = tuple(_verdict(rubric, item, options, roles) for item, options in items.items())
    outcome = JudgingOutcome(rubric=rubric.name, fingerprint=rubric.fingerprint, pipeline=pipeline, verdicts=verdicts)
    return EpisodeRecord(
        key=EpisodeKey(name),
        seq=0,
        seed=0,
        protocol="judging",
        status="completed",
        case="{}",
        outcome=msgspec.json.encode(outcome).decode(),
        models={"judge": model},
    )


def _verdict(rubric: Rubric, item: str, options: Options, roles: Sequence[str]) -> Verdict:
    dimension = next(one for one in rubric.dimensions if one.name == item.split("/")[0])
    given = [options] if options is None or isinstance(options, str) else list(options)
    judges = [*roles, *["judge"] * (len(given) - len(roles))]
    votes = [Vote(judge=judge, option=option) for judge, option in zip(judges, given, strict=False)]
    return make_verdict(item, dimension, votes)
