"""Where samples come from: run directories, files of six-field records, and files of cases.

Everything streams, line by line or part by part. Raises InputError with every bad line of a file before the first row
is made of it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from engine.cases.loaders import load_cases
from engine.cases.schema import show
from engine.corpus import Corpus
from engine.errors import InputError
from engine.protocols.mental_arena.outcome import RECORD_FIELDS
from engine.rundir import RunDirectory
from engine.show import protocol_of
from training.samples import Sample, Source, answer_samples, samples_of, warmup_samples
from training.settings import ANSWERS, WARMUP, SampleSettings

CASES: Final = "cases.jsonl"


def check_sources(sources: list[Path], settings: SampleSettings) -> None:
    """Read files of records, which exist, once to find what is wrong with them. Raises InputError with all of it."""
    problems: list[str] = []
    for source in sources:
        if source.is_dir():
            RunDirectory.open(source)
        elif settings.kinds != (WARMUP,):
            problems += _file_problems(source, settings)
    if problems:
        raise InputError(problems)


def read_samples(source: Path, settings: SampleSettings) -> Iterator[Sample]:
    """Yield the samples of one source."""
    kinds = tuple(kind for kind in settings.kinds if kind != WARMUP)
    if WARMUP in settings.kinds:
        for case in load_cases(str(source / "inputs" / CASES if source.is_dir() else source), seed=0):
            yield from warmup_samples(case)
    if not kinds:
        return
    if source.is_dir():
        rundir = RunDirectory.open(source)
        spec, wanted = protocol_of(rundir), msgspec.structs.replace(settings, kinds=kinds)
        for record in Corpus.open(rundir):
            yield from samples_of(record, spec, wanted)
    else:
        for number, fields in read_records(source):
            yield from answer_samples(fields, kinds, Source(episode=f"{source.stem}:{number}"))


def read_six_fields(source: Path) -> Iterator[dict[str, str]]:
    """Yield the six-field records of a source: lines of a file, or completed episodes of a run."""
    if not source.is_dir():
        yield from (fields for _, fields in read_records(source))
        return
    rundir = RunDirectory.open(source)
    spec = protocol_of(rundir)
    for record in Corpus.open(rundir).iterate(status="completed"):
        yield from spec.records(record) if spec.records else ()


def read_records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, fields) of a JSONL file of six-field records. Raises InputError at a line that is none."""
    for number, problem, fields in _lines(path):
        if problem:
            raise InputError(problem)
        yield number, fields


def _lines(path: Path) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Yield (number, what is wrong with it, its six fields) of each line that is not empty."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                problem, fields = _record(line)
                yield number, f"{path}:{number}: {problem}" if problem else "", fields


def _record(line: bytes) -> tuple[str, dict[str, str]]:
    """Return (what is wrong with the line, its six fields)."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"must be one JSON object, got {error}: correct the line", {}
    if not isinstance(found, dict):
        return f"must be one JSON object, got {show(found)}: correct the line", {}
    bad = [name for name in RECORD_FIELDS if not isinstance(found.get(name), str)]
    if bad:
        return f"must have the texts {', '.join(RECORD_FIELDS)}, got none for {', '.join(bad)}: export as records", {}
    return "", {name: found[name] for name in RECORD_FIELDS}


def _file_problems(path: Path, settings: SampleSettings) -> list[str]:
    others = [kind for kind in settings.kinds if kind not in (*ANSWERS, WARMUP)]
    if others:
        return [f"{path}: a file of records has no {', '.join(others)}: give the run directory instead"]
    return [problem for _, problem, _ in _lines(path) if problem]
