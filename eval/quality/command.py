"""What `sandplay quality DIR [DIR ...]` does: runs measured one after the other, then shown side by side.

A directory is a run, or holds rounds (`round-0`, `round-1`, ...), each of them a run. Runs are only read; one that a
driver holds shows what is sealed.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.corpus import Corpus
from engine.errors import InputError
from engine.rundir import RunDirectory
from engine.show import protocol_of
from engine.tables import make_table, plain, print_view, spaced, write_json
from eval.quality.diversity import Perplexity, Similarities, with_models
from eval.quality.figures import CorpusFigures
from eval.quality.measure import Measure, measure
from eval.quality.outcomes import tidied
from eval.quality.tables import Grid, grids

ROUND: Final = "round-"


def report(figures: Sequence[CorpusFigures], *, as_json: bool = False) -> None:
    """Print the quality of corpora, as tables or as one JSON object."""
    if as_json:
        write_json(msgspec.json.encode(as_object(figures)))
        return
    from rich.console import Group

    print_view(Group(*spaced([_view(grid) for grid in grids(figures)])))


async def quality(
    directories: Sequence[Path],
    *,
    seed: int = 0,
    canonical: Callable[[str], str] = tidied,
    similarities: Similarities | None = None,
    perplexity: Perplexity | None = None,
) -> list[CorpusFigures]:
    """Return the figures of every run in `directories`, in order; rounds of one directory in order of their number.

    Raises InputError when a directory holds no run, or none of them an episode; JournalError for a damaged part.
    """
    measures = [_measured(name, path, seed, canonical) for name, path in runs_in(directories)]
    figures = await with_models(measures, similarities=similarities, perplexity=perplexity, seed=seed)
    if not any(one.num_episodes for one in figures):
        names = ", ".join(one.name for one in figures)
        raise InputError(f"a corpus must hold at least one finished episode, got none in {names}: play some first")
    return figures


def runs_in(directories: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return (name, path) of each run. Raises InputError naming every directory that holds none."""
    problems: list[str] = []
    found: list[tuple[str, Path]] = []
    for directory in directories:
        runs = list(_runs(directory))
        found += runs
        if not runs:
            what = "holds neither" if directory.is_dir() else "is no directory"
            problems.append(
                f"must be a run or hold rounds ({ROUND}0, ...), got {directory}, which {what}: check the path"
            )
    if not directories:
        problems.append("quality must be given at least one run directory, got none: name one")
    if problems:
        raise InputError(problems)
    return found


def as_object(figures: Sequence[CorpusFigures]) -> dict[str, Any]:
    """Return the figures as the JSON object that `--json` prints."""
    return {"corpora": [msgspec.to_builtins(one) for one in figures]}


def _runs(directory: Path) -> Iterator[tuple[str, Path]]:
    if _is_run(directory):
        yield directory.name or str(directory), directory
        return
    numbered = [path for path in directory.glob(f"{ROUND}*") if path.name.removeprefix(ROUND).isdecimal()]
    for path in sorted(numbered, key=lambda path: int(path.name.removeprefix(ROUND))):
        if _is_run(path):
            yield f"{directory.name}/{path.name}", path


def _is_run(path: Path) -> bool:
    return (path / "journals").is_dir() and (path / "episodes").is_dir()


def _measured(name: str, path: Path, seed: int, canonical: Callable[[str], str]) -> Measure:
    rundir = RunDirectory.open(path)
    corpus = Corpus.open(rundir)
    return measure(corpus.iterate(), name, protocol_of(rundir), seed=seed, canonical=canonical)


def _view(grid: Grid) -> Any:
    table = make_table(grid.heads, title=grid.title)
    for row in grid.rows:
        table.add_row(*map(plain, row))
    return table
