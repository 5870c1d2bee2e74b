"""`sandplay quality`: what a corpus is like, one run beside the other."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.run_places import run_to_read

if TYPE_CHECKING:
    from engine.commands.serve import Serving
    from eval.quality.figures import CorpusFigures


def quality(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR|URI...", help="Runs, or a run of rounds.", parser=run_to_read)
    ],
    embed: Annotated[bool, typer.Option("--embed", help="Also measure diversity by embeddings (starts Ray).")] = False,
    under: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG.toml|CHECKPOINT", help="Also measure perplexity under this model (starts Ray)."),
    ] = None,
    model: Annotated[str, typer.Option(help="Which of \\[models] in --under (default: the only local one).")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the samples that pairs are drawn from.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Measure corpora: lengths, diversity, duplicates, labels, refusals, role confusion, leaks, crises, retries."""
    import uvloop

    from engine.commands.serve import Stopped
    from eval.quality.command import report, runs_in

    runs_in(directories)
    prepared = _prepared(under, model) if under is not None else None
    try:
        figures = uvloop.run(_measure(directories, embed, prepared, seed))
    except Stopped as stopped:
        raise typer.Exit(stopped.code) from None
    report(figures, as_json=as_json)


def _prepared(source: Path, model: str) -> "tuple[Serving, Path]":
    """Return the model that dialogues are put to, and where it lies. Raises InputError."""
    from actors.models import prepare_model
    from engine.commands.serve import plan_serving, say

    plan = plan_serving(source, [], model)
    say(f"preparing models.{plan.pool}: {plan.model.model}")
    return plan, prepare_model(plan.model.model, plan.model.max_model_len)


async def _measure(
    directories: list[Path], embed: bool, under: "tuple[Serving, Path] | None", seed: int
) -> "list[CorpusFigures]":
    from eval.quality.command import quality
    from training.labels import canonical_label

    async with AsyncExitStack() as opened:
        similarities = perplexity = None
        if under is not None:
            from engine.commands.scoring import open_scorer

            perplexity = await opened.enter_async_context(open_scorer(*under))
        if embed:
            from actors.crew import open_embedder
            from engine.config_sections import EmbedderConfig

            similarities = (await opened.enter_async_context(open_embedder(EmbedderConfig()))).similarities
        return await quality(
            directories, seed=seed, canonical=canonical_label, similarities=similarities, perplexity=perplexity
        )
