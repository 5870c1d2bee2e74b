"""What an exam came to: a score per set, a row per item, written into the run's directory.

`items.parquet` has every reply with what was read from it, `exam.json` the scores; both are made anew from the corpus,
so they may be deleted. An item whose episode failed counts as invalid. Knows nothing of how items were put.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.corpus import Corpus, latest_tries
from engine.errors import InputError
from engine.files import write_atomic
from engine.planning import SHARED, thaw_rules
from engine.protocol import Report, Section
from engine.protocols.exam import wilson
from engine.record import EpisodeRecord
from engine.rundir import RunDirectory
from engine.tables import MISSING, in_percent
from eval.exam import ItemOutcome, Materials, Source, Vote, set_of
from eval.exam.rules import WAYS, ItemRules, Prompting
from eval.exposure import Exposure
from eval.items import Item
from eval.scores import Mark, SubjectScore, TaskScore, mark_answer, score
from eval.tasks import find_task

ITEMS: Final = "items.parquet"
SCORES: Final = "exam.json"
NOTE: Final = (
    "Accuracy with its 95 % interval (Wilson); an invalid reply is wrong. Majority: what giving the most frequent "
    "right answer to every item would get. Legacy: by the published rules, defects included."
)
CHANCE: Final = (
    "Normalised: the accuracy on a scale on which drawing options blindly gets 0 and all right 100; below 0 is worse"
    " than drawing."
)


class Sat(msgspec.Struct, frozen=True, kw_only=True):
    """One item with what was answered. `error` says why its episode failed, "" when it did not."""

    item: Item
    outcome: ItemOutcome
    mark: Mark
    weights: tuple[str, ...] = ()
    model: str = ""
    error: str = ""


class CleanScore(msgspec.Struct, frozen=True, kw_only=True):
    """How many items of a set stand in a training corpus, of those that could be looked for, and the score of all
    others (the unchecked among them), with a 95 % interval; None where none or nothing but overlaps.
    """

    num_checked: int
    num_overlapping: int
    num_items: int
    accuracy: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def share(self) -> float | None:
        """Share of the checked items that overlap, None where none could be checked."""
        return self.num_overlapping / self.num_checked if self.num_checked else None


class SetScore(msgspec.Struct, frozen=True, kw_only=True):
    """The score of one set of items, and where they came from; `clean` where a training corpus was named."""

    name: str
    source: Source
    score: TaskScore
    num_failed: int = 0
    clean: CleanScore | None = None


class ExamScores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of an exam, set by set, with how it was put."""

    prompting: Prompting
    scorer: str
    model: str
    weights: tuple[str, ...]
    sets: tuple[SetScore, ...]


def report(rundir: RunDirectory) -> Report:
    """Score an exam's run and write both files. Raises InputError when the directory holds none."""
    sat = read_sat(Corpus.open(rundir))
    if not sat:
        raise InputError(f"{rundir.path}: must hold an exam with at least one answered item, got none: finish it first")
    rules = thaw_rules(rundir, ItemRules)
    scores = score_sat(sat, read_materials(rundir), rules)
    write_atomic(rundir.path / SCORES, msgspec.json.format(msgspec.json.encode(scores)))
    write_items(rundir.path / ITEMS, sat)
    sections = [_table(scores), *_subjects(scores), *_clean(scores), *_notes(scores)]
    return Report(figures=figures(scores), sections=sections, files=[rundir.path / SCORES, rundir.path / ITEMS])


def read_materials(rundir: RunDirectory) -> Materials:
    """Return what all episodes of an exam share. Raises InputError when the run is none."""
    path = rundir.path / SHARED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Materials)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{rundir.path}: must be an exam's run, got {error}: give the directory of an exam") from error


def read_scores(directory: Path) -> ExamScores:
    """Return the scores that were written into a run's directory. Raises InputError when there are none."""
    path = directory / SCORES
    try:
        return msgspec.json.decode(path.read_bytes(), type=ExamScores)
    except (OSError, msgspec.DecodeError) as error:
        advice = f"`sandplay resume {directory}` finishes an exam and writes them"
        raise InputError(f"{directory}: must hold the scores of a finished exam, got {error}: {advice}") from error


def read_sat(records: Iterable[EpisodeRecord]) -> list[Sat]:
    """Return the latest try of each item, in the order of sets and lines."""
    found = [_sat(record) for record in latest_tries(one for one in records if one.status != "cancelled")]
    return sorted(found, key=lambda one: (set_of(one.item), one.item.line, one.item.id))


def _sat(record: EpisodeRecord) -> Sat:
    item = msgspec.json.decode(record.case, type=Item)
    if record.outcome:
        outcome = msgspec.json.decode(record.outcome, type=ItemOutcome)
    else:
        outcome = ItemOutcome(task=item.task, gold=item.gold, answer=None, votes=(Vote("", None),))
    votes = outcome.votes
    return Sat(
        item=item,
        outcome=outcome,
        mark=mark_answer(
            find_task(item.task),
            item,
            outcome.answer,
            votes[0].text,
            is_cut_off=outcome.answer is None and any(vote.is_cut_off for vote in votes),
        ),
        weights=record.weights,
        model=next(iter(record.models.values()), ""),
        error=f"{record.error.kind}: {record.error.message}" if record.error is not None else "",
    )


def score_sat(sat: Sequence[Sat], materials: Materials, rules: ItemRules) -> ExamScores:
    """Return the scores of answered items, set by set in the order of the configuration."""
    by_set: dict[str, list[Sat]] = {name: [] for name in materials.sources}
    for one in sat:
        by_set[set_of(one.item)].append(one)
    return ExamScores(
        prompting=rules.prompting,
        scorer=rules.scorer,
        model=sat[0].model,
        weights=tuple(sorted({version for one in sat for version in one.weights})),
        sets=tuple(
            SetScore(
                name=name,
                source=materials.sources[name],
                score=score(find_task(materials.sources[name].task), [one.mark for one in found]),
                num_failed=sum(bool(one.error) for one in found),
                clean=clean_score(found, materials.exposure) if materials.exposure is not None else None,
            )
            for name, found in by_set.items()
            if found
        ),
    )


def clean_score(sat: Sequence[Sat], exposure: Exposure) -> CleanScore:
    """Return the score of the items of one set that stand in no training corpus."""
    overlapping = {one.id for one in exposure.found}
    others = [one.mark for one in sat if one.item.id not in overlapping]
    num_unchecked = len({one.item.id for one in sat}.intersection(exposure.unchecked))
    found = CleanScore(
        num_checked=len(sat) - num_unchecked, num_overlapping=len(sat) - len(others), num_items=len(others)
    )
    if not others or not found.num_overlapping:
        return found
    num_right = sum(mark.is_right for mark in others)
    interval = wilson(num_right, len(others))
    return msgspec.structs.replace(found, accuracy=num_right / len(others), interval=interval)


def figures(scores: ExamScores) -> dict[str, Any]:
    """Return what `--json` prints of an exam: per set its items, score, interval, invalid, baselines, legacy score."""
    return {"exam": {"prompting": scores.prompting, "scorer": scores.scorer, "model": scores.model}} | {
        "tasks": {one.name: _figures(one, scores.scorer) for one in scores.sets}
    }


def _figures(one: SetScore, scorer: str) -> dict[str, Any]:
    found = one.score
    legacy = found.legacy_accuracy
    return {
        "task": found.task,
        "items": found.num_items,
        "score": legacy if scorer == "legacy" and legacy is not None else found.accuracy,
        "accuracy": found.accuracy,
        "interval": [found.low, found.high],
        "macro_f1": found.macro_f1,
        "balanced_accuracy": found.balanced_accuracy,
        "invalid": found.num_invalid,
        "cut_off": found.num_cut_off,
        "failed": one.num_failed,
        "baselines": {baseline.name: baseline.figures.accuracy for baseline in found.baselines},
        "legacy": legacy,
        "subjects": {subject.subject: subject.accuracy for subject in found.subjects},
        "normalised": found.normalised,
        "normalised_subjects": {
            subject.subject: subject.normalised for subject in found.subjects if subject.normalised is not None
        },
        "notes": list(one.source.notes),
    } | ({"clean": {**msgspec.to_builtins(one.clean), "share": one.clean.share}} if one.clean is not None else {})


def write_items(path: Path, sat: Sequence[Sat]) -> None:
    """Write a row per item as Parquet; the file appears whole."""
    import pyarrow
    import pyarrow.parquet

    rows = [_row(one) for one in sat]
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=_schema(pyarrow)), sink, compression="zstd")
    write_atomic(path, sink.getvalue().to_pybytes())


def _schema(pyarrow: Any) -> Any:
    texts = ("id", "set", "task", "source_id", "subject", "gold", "answer", "text", "model", "weights", "error")
    flags = ("is_right", "is_invalid", "is_cut_off", "legacy_right")
    fields = [*((name, pyarrow.string()) for name in texts), ("line", pyarrow.int64())]
    fields += [*((name, pyarrow.bool_()) for name in flags), ("votes", pyarrow.list_(pyarrow.string()))]
    return pyarrow.schema(fields)


def _row(one: Sat) -> Mapping[str, Any]:
    item, mark, votes = one.item, one.mark, one.outcome.votes
    return {
        "id": item.id,
        "set": set_of(item),
        "task": item.task,
        "line": item.line,
        "source_id": item.source_id,
        "subject": item.subject,
        "gold": item.gold,
        "answer": mark.answer,
        "is_right": mark.is_right,
        "is_invalid": mark.answer is None,
        "is_cut_off": mark.is_cut_off,
        "legacy_right": mark.legacy_right,
        "text": _storable(votes[0].text),
        "votes": [vote.answer for vote in votes],
        "model": one.model,
        "weights": "+".join(one.weights),
        "error": _storable(one.error),
    }


def _storable(text: str) -> str:
    """Replace halves of surrogate pairs, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _table(scores: ExamScores) -> Section:
    heads = ("set", "items", "accuracy", "95 %", "macro-F1", "balanced", "invalid", "majority", "legacy", "")
    rows = [_cells(one) for one in scores.sets]
    title = f"Exam: {scores.model or 'model'}, {scores.prompting.replace('_', '-')}, {scores.scorer} scores lead"
    return Section(title=title, columns=heads, rows=tuple(rows), note=NOTE)


def _cells(one: SetScore) -> tuple[str, ...]:
    found, majority = one.score, one.score.baselines[0].figures.accuracy
    return (
        one.name,
        f"{found.num_items:,}",
        in_percent(found.accuracy),
        f"{in_percent(found.low)} to {in_percent(found.high)}",
        in_percent(found.macro_f1),
        in_percent(found.balanced_accuracy),
        f"{found.num_invalid:,}",
        in_percent(majority),
        MISSING if found.legacy_accuracy is None else in_percent(found.legacy_accuracy),
        standing(found.low, found.high, majority),
    )


def standing(low: float, high: float, majority: float) -> str:
    """Say in words where an interval lies beside the majority baseline."""
    if low > majority:
        return "above the majority"
    return "BELOW the majority" if high < majority else "not told from the majority"


def _subjects(scores: ExamScores) -> list[Section]:
    """Return a row per subject; where scores are told beside chance, a row of the whole set and a column of these."""
    told = [one for one in scores.sets if one.score.normalised is not None or len(one.score.subjects) > 1]
    has_chance = any(one.score.normalised is not None for one in told)
    rows = []
    for one in told:
        found, majority = one.score, one.score.baselines[0].figures.accuracy
        if found.normalised is not None:
            rows.append((one.name, "all", *_shares(found, majority), _normalised(found.normalised)))
        for subject in found.subjects if len(found.subjects) > 1 else ():
            told_of = (*_shares(subject, subject.majority), _normalised(subject.normalised))
            rows.append((one.name, subject.subject, *told_of))
    heads = ("set", "subject", "items", "accuracy", "95 %", "majority", "normalised")
    width = len(heads) if has_chance else len(heads) - 1
    cells = tuple(row[:width] for row in rows)
    return [Section(title="By subject", columns=heads[:width], rows=cells, note=CHANCE * has_chance)] if rows else []


def _shares(found: TaskScore | SubjectScore, majority: float) -> tuple[str, ...]:
    interval = f"{in_percent(found.low)} to {in_percent(found.high)}"
    return f"{found.num_items:,}", in_percent(found.accuracy), interval, in_percent(majority)


def _normalised(score: float | None) -> str:
    return MISSING if score is None else in_percent(score)


def _clean(scores: ExamScores) -> list[Section]:
    rows = tuple(
        (one.name, *_clean_cells(one.clean), in_percent(one.score.accuracy))
        for one in scores.sets
        if one.clean is not None
    )
    heads = ("set", "looked for", "overlap", "share", "others", "accuracy of the others", "95 %", "accuracy of all")
    return [Section(title="Items that stand in the training corpus", columns=heads, rows=rows)] if rows else []


def _clean_cells(clean: CleanScore) -> tuple[str, ...]:
    shares = [MISSING if value is None else in_percent(value) for value in (clean.share, clean.accuracy)]
    interval = MISSING if clean.interval is None else " to ".join(map(in_percent, clean.interval))
    counts = (f"{number:,}" for number in (clean.num_checked, clean.num_overlapping))
    return (*counts, shares[0], f"{clean.num_items:,}", shares[1], interval)


def _notes(scores: ExamScores) -> list[Section]:
    rows = [(one.name, note) for one in scores.sets for note in one.source.notes]
    if WAYS[scores.prompting].is_shown:
        same = (
            "no examples file: each item was shown others of its own set; name tasks.NAME.examples for a fair few-shot"
        )
        rows += [(one.name, same) for one in scores.sets if one.source.examples == one.source.path]
    rows += [(one.name, f"{one.num_failed} items failed and count as invalid") for one in scores.sets if one.num_failed]
    rows += [
        (one.name, f"{one.score.num_cut_off} replies were cut off before an answer: raise protocol.max_tokens")
        for one in scores.sets
        if one.score.num_cut_off
    ]
    return [Section(title="Notes", columns=("set", "note"), rows=tuple(rows))] if rows else []
