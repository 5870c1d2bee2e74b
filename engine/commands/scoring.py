"""Texts scored by a model as it is served, outside any run: a configuration or a checkpoint opened as `serve` does."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.backend import Request, RequestOptions
from engine.endpoint.desk import Desk, Unanswered
from engine.errors import RunError
from engine.steps import Sampling
from engine.transcript import one_line
from engine.views import neutralize

if TYPE_CHECKING:
    from engine.commands.serve import Serving
    from eval.quality.diversity import Perplexity
    from eval.quality.figures import PerplexityFigures
    from eval.quality.perplexity import ScoredText

AT_ONCE: Final = 64
"""Texts that are being scored at the same time."""
KEPT: Final = 7 / 8
"""What is tried next of a text that is longer than the window: the refusal of a long one costs next to nothing."""


def scorer(desk: Desk, model: str) -> "Perplexity":
    """Return what gives the perplexity of texts under a model whose desk is running."""
    room = asyncio.Semaphore(AT_ONCE)

    async def perplexity(texts: Sequence[str]) -> "PerplexityFigures":
        from eval.quality.perplexity import perplexity_of

        async def scored(number: int, text: str) -> "ScoredText":
            async with room:
                return await score_text(desk, text, f"score/{number}")

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(scored(number, text)) for number, text in enumerate(texts)]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return perplexity_of(model, [task.result() for task in tasks])

    return perplexity


async def score_text(desk: Desk, text: str, name: str) -> "ScoredText":
    """Return the log probabilities of a text's tokens, of its beginning where it is longer than the window.

    The text is put as it is, without a chat template; control tokens in it are broken up. Raises RunError when the
    model gives none.
    """
    from eval.quality.perplexity import ScoredText

    whole = text = neutralize(text)
    while text:
        options = RequestOptions(prompt=text, num_tops=0, is_echoed=True)
        request = Request(
            name, "text", 0, "assistant", "completion", (), Sampling(max_tokens=0, temperature=0.0), options=options
        )
        try:
            details = (await desk.ask(request)).details
        except Unanswered as unanswered:
            if unanswered.failure.kind != "context_overflow":
                raise RunError(f"a text could not be scored: {one_line(str(unanswered), 300)}") from None
            text = text[: int(len(text) * KEPT)]
            continue
        if details is None or len(details.log_probabilities) < details.num_prompt:
            raise RunError("a text could not be scored: the model gave no log probabilities of it")
        return ScoredText(details.log_probabilities[: details.num_prompt], is_cut=len(text) < len(whole))
    return ScoredText((), is_cut=True)


@asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[Desk]:
    """Keep a desk running."""
    task = asyncio.ensure_future(desk.run())
    try:
        yield desk
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def open_scorer(plan: "Serving", path: Path) -> "AsyncIterator[Perplexity]":
    """Bring a model up that lies in `path`, and end it behind. Raises RunError, and `Stopped` on a signal."""
    from engine.commands.serve import desk_of, open_crew, scratch_directory

    async with open_crew(plan, path, scratch_directory(f"scoring-{os.getpid()}")) as crew:
        await crew.start()
        async with running(desk_of(plan, crew.pools[plan.pool])) as desk:
            yield scorer(desk, plan.names[0])
