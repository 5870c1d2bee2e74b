"""`sandplay samples`: the command, and the files that it writes."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from training.convert import Tally
    from training.settings import SampleSettings


def samples(
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DIR|URI|FILE|a=b]...", help="More sources, and settings: legacy=true, min_score=7, ..."
        ),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option("--from", help="A run directory or its URI, or a file of six-field records or cases."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="diagnosis | treatment | medication | plan | warmup | a role.")
    ] = None,
    format: Annotated[str, typer.Option(help="messages | prompt-completion | text | preference")] = "messages",
    to: Annotated[Path | None, typer.Option(help="Where to write: a directory, or a file ending in .jsonl.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Turn finished episodes into rows to train on, and say what was left out and why."""
    from engine.errors import InputError
    from engine.run_places import run_to_read
    from engine.targets import is_uri

    own = [one for one in more or [] if "=" in one and not is_uri(one)]
    paths = [*map(run_to_read, (*(sources or []), *(one for one in more or [] if one not in own)))]
    problems = [] if paths else ["sources are missing: give --from DIR|FILE"]
    problems += [
        f"a source must be a run directory or a file, got {one}: correct it" for one in paths if not one.exists()
    ]
    if to is None:
        problems.append("the target is missing: give --to PATH")
    settings, found = _settings(own, kind, format)
    if problems + found or settings is None or to is None:
        raise InputError(problems + found)
    tally = _write_samples(paths, settings, format, to)
    if as_json:
        typer.echo(json.dumps(_summary(tally, to)))
    else:
        typer.echo("\n".join(_lines(tally, to)))


def _settings(overrides: list[str], kinds: list[str] | None, format: str) -> "tuple[SampleSettings | None, list[str]]":
    """Return the settings, or every problem of them."""
    from engine.config import apply_overrides
    from engine.config_decode import decode
    from training.settings import PLAN, SampleSettings

    table: dict[str, Any] = {"kinds": kinds} if kinds else {"kinds": [PLAN]} if format == "preference" else {}
    settings, problems = decode(SampleSettings, apply_overrides(table, overrides), "")
    return settings, problems or (settings.problems("") if settings is not None else [])


def _write_samples(paths: list[Path], settings: "SampleSettings", format: str, to: Path) -> "Tally":
    """Write the rows whole or not at all. Raises InputError."""
    from engine.errors import InputError
    from engine.staging import encoded, staged, write_lines
    from training.card import sample_card
    from training.sources import check_sources

    check_sources(paths, settings)
    rows, tally = _rows(paths, settings, format)
    with staged(to) as files:
        write_lines(files.data, map(encoded, rows))
        if not tally.num_rows:
            raise InputError(_nothing(tally))
        write_lines(files.card, [sample_card(format, settings, tally, files.data.name).encode()])
    return tally


def _rows(paths: list[Path], settings: "SampleSettings", format: str) -> "tuple[Iterable[dict[str, Any]], Tally]":
    from engine.errors import InputError
    from training.convert import LEGACY_MAKERS, Converter, Tally, legacy_rows
    from training.sources import read_samples, read_six_fields

    if settings.legacy:
        if format not in LEGACY_MAKERS:
            raise InputError(f"legacy has the formats {', '.join(LEGACY_MAKERS)}, got {format!r}: choose one of them")
        tally = Tally()
        records = (record for path in paths for record in read_six_fields(path))
        return legacy_rows(records, format, settings.kinds, tally), tally
    converter = Converter(format, settings)
    return converter.rows(sample for path in paths for sample in read_samples(path, settings)), converter.tally


def _nothing(tally: "Tally") -> str:
    dropped = ", ".join(f"{number} {reason}" for reason, number in tally.dropped.items())
    return f"there must be at least one row, got none{f' ({dropped} dropped)' if dropped else ''}: choose other kinds"


def _summary(tally: "Tally", to: Path) -> dict[str, Any]:
    return {"to": str(to), "rows": tally.num_rows, "kinds": dict(tally.kept), "dropped": dict(tally.dropped)}


def _lines(tally: "Tally", to: Path) -> list[str]:
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in tally.kept.items())
    lines = [f"{tally.num_rows:,} rows in {to}: {kinds}"]
    if tally.dropped:
        lines.append("dropped: " + ", ".join(f"{number:,} {reason}" for reason, number in tally.dropped.most_common()))
    return lines
