"""`sandplay scan`: personal data and secrets in stored corpora and files, counted by kind; values are never printed."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.privacy.screening import Finding

MAX_CHARS: Final = 1000


class DetectorName(StrEnum):
    """The detectors there are."""

    STRUCTURED = "structured"
    PRESIDIO = "presidio"


def scan(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|FILE...", help="Runs, directories of runs, or files (JSONL, Parquet, text)."),
    ],
    detector: Annotated[
        DetectorName, typer.Option(help="presidio adds names and places, and needs the extra `privacy`.")
    ] = DetectorName.STRUCTURED,
    places: Annotated[int, typer.Option(min=0, help="Say so many places of each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Look for personal data and secrets in what is stored; exit code 1 if anything was found."""
    import json

    from engine.privacy.screening import detector_of
    from engine.tables import write

    detect = detector_of(detector.value)
    figures: dict[str, Any] = {}
    for name, found in _sources(paths, detect):
        counts: Counter[str] = Counter()
        shown: list[str] = []
        for one in found:
            counts[one.kind] += 1
            shown += [one.line] if len(shown) < places else []
        figures[name] = {"counts": dict(counts.most_common()), "places": shown}
    if as_json:
        write(json.dumps({"sources": figures}))
    else:
        write("\n".join(_lines(figures)))
    raise typer.Exit(1 if any(one["counts"] for one in figures.values()) else 0)


def _sources(paths: "Sequence[Path]", detect: Any) -> "Iterator[tuple[str, Iterator[Finding]]]":
    """Return each file and run with what is found in it. Raises InputError naming every path that is neither."""
    from engine.errors import InputError
    from engine.privacy.stored import kept_in, scan_file, scan_run

    found: list[tuple[str, Iterator[Finding]]] = []
    problems: list[str] = []
    for path in paths:
        try:
            if path.is_file():
                found.append((str(path), scan_file(path, detect)))
            else:
                found += [(str(run), scan_run(run, detect)) for run in kept_in(path)]
        except InputError as refused:
            problems += refused.problems
    if problems:
        raise InputError(problems)
    return iter(found)


def _lines(figures: dict[str, Any]) -> "Iterator[str]":
    """Yield what people are told."""
    from engine.transcript import one_line

    for name, one in figures.items():
        counts = ", ".join(f"{number:,} {kind}" for kind, number in one["counts"].items())
        yield one_line(f"{name}: {counts or 'nothing found'}", MAX_CHARS)
        yield from (f"  {one_line(place, MAX_CHARS)}" for place in one["places"])
        if (rest := sum(one["counts"].values()) - len(one["places"])) > 0:
            yield f"  and {rest:,} more"
