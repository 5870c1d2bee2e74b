"""What the options of a request mean to a replica: the room for its completion, and the details of its reply; pure.

Knows nothing of vLLM or of texts; tokens are spelled by a function that is given.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from actors.engine import Generated
from engine.backend import RequestOptions
from engine.steps import ReplyDetails, Sampling

LEAST: Final = -9999.0
"""Stands for the logarithm of zero, which JSON has no number for; vLLM's own endpoint writes the same."""

Row = Mapping[int, float] | None


def fit_sampling(sampling: Sampling, options: RequestOptions | None, room: int) -> Sampling:
    """Return the sampling with a limit that the engine takes; `room` is how many tokens the prompt leaves.

    The engine always makes one token; one that nobody asked for is taken off by `trimmed`.
    """
    if options is None:
        return sampling
    limit = min(sampling.max_tokens, room) if options.fills_window else sampling.max_tokens
    return msgspec.structs.replace(sampling, max_tokens=max(limit, 1))


def trimmed(made: Generated, sampling: Sampling) -> Generated:
    """Return what was made without the token that the engine makes where none was asked for."""
    if sampling.max_tokens > 0:
        return made
    rows = None if made.log_probabilities is None else made.log_probabilities[:0]
    return msgspec.structs.replace(made, token_ids=(), finish="length", log_probabilities=rows, text="")


def details_of(
    options: RequestOptions | None, prompt_ids: Sequence[int], made: Generated, spell: Callable[[Sequence[int]], str]
) -> ReplyDetails | None:
    """Return the details that the options ask for, None where they ask for none. `spell` turns ids into their text."""
    if options is None or not (options.is_echoed or options.num_tops is not None):
        return None
    prompt = ""
    if options.is_echoed:
        prompt = options.prompt if isinstance(options.prompt, str) else spell(prompt_ids)
    if options.num_tops is None:
        return ReplyDetails(prompt=prompt, num_prompt=len(prompt_ids) if options.is_echoed else 0)
    ids: list[int] = [*made.token_ids]
    rows: list[Row] = [*(made.log_probabilities or ())]
    if options.is_echoed:
        ids, rows = [*prompt_ids, *ids], [*(made.prompt_log_probabilities or ()), *rows]
    tokens = tuple(spell([token_id]) for token_id in ids)
    return ReplyDetails(
        prompt=prompt,
        num_prompt=len(prompt_ids) if options.is_echoed else 0,
        tokens=tokens,
        log_probabilities=tuple(_own(row, token_id) for row, token_id in zip(rows, ids, strict=True)),
        tops=tuple(None if row is None else _by_text(row.items(), spell) for row in rows),
    )


def _own(row: Row, token_id: int) -> float | None:
    return None if row is None else max(row[token_id], LEAST)


def _by_text(row: Iterable[tuple[int, float]], spell: Callable[[Sequence[int]], str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for token_id, value in row:
        text = spell([token_id])
        found[text] = max(value, found.get(text, LEAST))
    return found
