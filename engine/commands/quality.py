"""`sandplay quality`: what a corpus is like, one run beside the other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eval.quality.figures import CorpusFigures


def quality(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Runs, or a run of rounds.")],
    embed: Annotated[bool, typer.Option("--embed", help="Also measure diversity by embeddings (starts Ray).")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the samples that pairs are drawn from.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Measure corpora: lengths, diversity, duplicates, labels, refusals, role confusion, leaks, crises, retries."""
    import uvloop

    from eval.quality.command import report, runs_in

    runs_in(directories)
    report(uvloop.run(_measure(directories, embed, seed)), as_json=as_json)


async def _measure(directories: list[Path], embed: bool, seed: int) -> "list[CorpusFigures]":
    from eval.quality.command import quality
    from training.labels import canonical_label

    if not embed:
        return await quality(directories, seed=seed, canonical=canonical_label)
    from actors.crew import open_embedder
    from engine.config import EmbedderConfig

    async with open_embedder(EmbedderConfig()) as embedder:
        return await quality(directories, seed=seed, canonical=canonical_label, similarities=embedder.similarities)
