"""Judgings read back from their runs: the rubric, every transcript's verdicts, who judged. Knows nothing of statistics.

Invariant: judgings that are read to be laid beside each other have one rubric, told by the fingerprint of its file.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from engine.cases.schema import show
from engine.config import read_table
from engine.corpus import Corpus, latest_tries
from engine.errors import InputError
from engine.planning import thaw_rules
from engine.rundir import RunDirectory
from eval.judging.rules import JudgeRules
from eval.rubric import Rubric, load_rubric
from eval.verdicts import JudgingOutcome, Verdict

_EPISODE: Final = re.compile(r"(.+)\.(\d+)(?:\.t\d+)?", re.DOTALL)


class Judged(msgspec.Struct, frozen=True):
    """One transcript and its verdicts."""

    transcript: str
    verdicts: tuple[Verdict, ...]


class Judging(msgspec.Struct, frozen=True, kw_only=True):
    """One judging: its transcripts in order of name. `failed` holds those without verdicts, with the kind of error."""

    name: str
    rubric: Rubric
    pipeline: str
    models: tuple[str, ...]
    judged: tuple[Judged, ...]
    failed: Mapping[str, str]

    @property
    def failures(self) -> Counter[str]:
        """How many transcripts failed, by kind of error."""
        return Counter(self.failed.values())


def read_judging(rundir: RunDirectory, name: str = "") -> Judging:
    """Return the judging in a run directory, under `name` or its directory's.

    Raises InputError when it holds none, nothing judged, or the rubric's file is another one by now.
    """
    protocol = str(read_table(rundir.config).get("protocol", {}).get("name", ""))
    if protocol != JudgeRules().name:
        advice = f"`sandplay judge {rundir.path}` makes one"
        raise InputError(f"{rundir.path}: must be a judging, got a run of protocol {show(protocol)}: {advice}")
    rules = thaw_rules(rundir, JudgeRules)
    rubric = load_rubric(rules.rubric)
    judged: list[Judged] = []
    failed: dict[str, str] = {}
    models: set[str] = set()
    fingerprints: set[str] = set()
    for record in latest_tries(Corpus.open(rundir)):
        models.update(record.models.values())
        if record.outcome:
            outcome = msgspec.json.decode(record.outcome, type=JudgingOutcome)
            fingerprints.add(outcome.fingerprint)
            judged.append(Judged(record.key.case, outcome.verdicts))
        elif record.error is not None:
            failed[record.key.case] = record.error.kind
    if not judged and not failed:
        raise InputError(f"{rundir.path}: must hold a judging with at least one transcript, got none: finish it first")
    if fingerprints - {rubric.fingerprint}:
        advice = "put the old file back, or judge again"
        raise InputError(
            f"{rundir.path}: its rubric must be as it was, got another {show(rules.rubric, 400)}: {advice}"
        )
    return Judging(
        name=name or rundir.path.name,
        rubric=rubric,
        pipeline=rules.pipeline,
        models=tuple(sorted(models)),
        judged=tuple(sorted(judged, key=lambda one: one.transcript)),
        failed=failed,
    )


def refuse_mixed(judgings: Sequence[Judging]) -> None:
    """Raise InputError unless all judgings have the same rubric."""
    if len({one.rubric.fingerprint for one in judgings}) > 1:
        found = ", ".join(f"{one.name}: {one.rubric.name} ({one.rubric.fingerprint[:10]})" for one in judgings)
        raise InputError(f"judgings must be by one rubric, got {found}: judge all of them by the same file")


def place_of(transcript: str) -> tuple[str, str]:
    """Return the (case, repeat) of a transcript by its id; one that names no repeat is a case of its own."""
    found = _EPISODE.fullmatch(transcript)
    return (found[1], found[2]) if found else (transcript, "")
