"""Judging as a protocol the engine can play: a transcript is its case, verdicts are its outcome.

Any rubric goes with any pipeline. Nothing heavy is imported: texts compile with the first episode.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from engine.protocol import STRAIGHT, ProtocolSpec, Report, Section, Setting, Sight
from engine.record import EpisodeRecord
from engine.rundir import RunDirectory
from engine.steps import Protocol, enter, parallel
from eval.judging.bench import CATALOG, Bench, Question, make_bench
from eval.judging.pipelines import PIPELINES
from eval.judging.rules import JUDGE, JudgeRules
from eval.rubric import find_rubric, load_rubric, shipped_rubrics
from eval.transcripts import Transcript
from eval.verdicts import JudgingOutcome, Verdict, count_missing, make_verdict, means, read_outcome


def judging(transcript: Transcript, rules: JudgeRules, *, setting: Setting) -> Protocol[JudgingOutcome]:
    """Return the judging of one transcript: all questions of the rubric side by side.

    Raises StepFailed(`no_turns`) and StepFailed(`no_case`) for a transcript that the rubric does not fit, InputError
    for a broken rubric or broken prompt files.
    """
    rubric = load_rubric(rules.rubric)
    bench = make_bench(transcript, rules, rubric, setting.prompts)
    yield from enter("judge")
    verdicts = yield from parallel([_judge(bench, question) for question in bench.questions])
    return JudgingOutcome(
        rubric=rubric.name, fingerprint=rubric.fingerprint, pipeline=rules.pipeline, verdicts=tuple(verdicts)
    )


def _judge(bench: Bench, question: Question) -> Protocol[Verdict]:
    votes = yield from PIPELINES[bench.rules.pipeline](bench, question)
    return make_verdict(question.path, question.dimension, votes, turn=question.turn, statement=question.statement)


def facts(outcome: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the mean score per dimension of one transcript, and the share of its verdicts that are missing."""
    known = read_outcome(outcome)
    shares = [verdict.status == "missing" for verdict in known.verdicts]
    return {**means(known), "missing verdicts": sum(shares) / len(shares) if shares else 0.0}


def missing(outcome: Mapping[str, Any]) -> Mapping[str, int]:
    """Return missing verdicts per dimension of one transcript."""
    return count_missing(read_outcome(outcome))


def sections(record: EpisodeRecord) -> list[Section]:
    """Return the table of verdicts; cells hold model text as it is."""
    if not record.outcome:
        return []
    outcome = msgspec.json.decode(record.outcome, type=JudgingOutcome)
    rows = tuple(
        (
            verdict.item,
            verdict.status.replace("_", " ") if verdict.score is None else f"{verdict.score:g}",
            ", ".join(vote.option or "missing" for vote in verdict.votes),
            "\n".join(vote.reason for vote in verdict.votes if vote.reason),
        )
        for verdict in outcome.verdicts
    )
    title = f"Verdicts ({outcome.rubric}, {outcome.pipeline})"
    return [Section(title=title, columns=("question", "score", "votes", "reasons"), rows=rows)]


def _report(rundir: RunDirectory) -> Report:
    from eval.judging.report import report

    return report(rundir)


def spec_for(rules: JudgeRules) -> ProtocolSpec:
    """Return the protocol as these rules need it: the roles of their pipeline, the text of their own rubric."""
    texts = (*CATALOG.paths, find_rubric(rules.rubric))
    sees = dict.fromkeys(rules.roles, Sight(hidden=bool(load_rubric(rules.rubric).case_fields)))
    return msgspec.structs.replace(PROTOCOL, roles=rules.roles, texts=texts, sees=sees)


PROTOCOL: Final = ProtocolSpec(
    name="judging",
    session=judging,
    roles=(JUDGE,),
    rules=JudgeRules,
    case=Transcript,
    suited=spec_for,
    extremes=STRAIGHT,
    turns=("reason", "argument"),
    facts=facts,
    missing=missing,
    sections=sections,
    report=_report,
    texts=(*CATALOG.paths, *shipped_rubrics().values()),
)
