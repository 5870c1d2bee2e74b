"""Figures for people: one row per figure, one column per corpus, as plain text cells; pure.

The same table shows one corpus and compares rounds. Words that models wrote are made harmless and cut.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from engine.tables import MISSING
from engine.transcript import one_line
from eval.detectors.crisis import LEVELS
from eval.quality.figures import CorpusFigures, Difference, RoleFigures, Share, Spread

Cell: TypeAlias = Callable[[CorpusFigures], str]

MAX_TEXT: Final = 30
SIGNIFICANT: Final = 0.05


class Grid(msgspec.Struct, frozen=True):
    """A table as data: a title, column heads, and rows of as many cells."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def comparison(corpora: Sequence[CorpusFigures]) -> Grid:
    """Return the figures of corpora side by side, a figure a row; rows that no corpus has are left out."""
    roles = sorted({role for figures in corpora for role in figures.roles})
    cells = [*_about_all(), *(cell for role in roles for cell in _about_role(role)), *_about_contents()]
    rows = ((name, *(cell(figures) for figures in corpora)) for name, cell in cells)
    kept = tuple(row for row in rows if any(cell != MISSING for cell in row[1:]))
    return Grid("Corpus quality", ("figure", *(one_line(figures.name) for figures in corpora)), kept)


def differences(figures: CorpusFigures) -> Grid:
    """Return how retried episodes differ from the others; p below 0.05 is marked."""
    rows = tuple(
        (one.figure, _decimal(one.retried), _decimal(one.others), f"{one.difference:+.3g}", _p(one))
        for one in figures.retried
    )
    title = f"{one_line(figures.name)}: retried episodes ({figures.num_retried}) and others"
    return Grid(title, ("figure", "retried", "others", "difference", "p"), rows)


def examples(figures: CorpusFigures) -> Grid:
    """Return a few leaks: where, and the words."""
    rows = tuple((episode, path, one_line(words)) for episode, path, words in figures.leaks.examples)
    return Grid(f"{one_line(figures.name)}: leaks", ("episode", "step", "words"), rows)


def grids(corpora: Sequence[CorpusFigures]) -> list[Grid]:
    """Return all tables of a report; empty ones are left out."""
    found = [comparison(corpora)]
    for figures in corpora:
        found += [grid for grid in (differences(figures), examples(figures)) if grid.rows]
    return found


def _about_all() -> Iterator[tuple[str, Cell]]:
    yield "episodes", lambda c: f"{c.num_episodes:,}"
    yield "  failed", lambda c: _of(Share(c.statuses.get("failed", 0), c.num_episodes))
    yield "  cancelled", lambda c: _of(Share(c.statuses.get("cancelled", 0), c.num_episodes))
    yield "  retried", lambda c: _of(Share(c.num_retried, c.statuses.get("completed", 0)))
    yield "turns per episode", lambda c: _spread(c.turns)


def _about_role(role: str) -> Iterator[tuple[str, Cell]]:
    def told(cell: Callable[[RoleFigures], str]) -> Cell:
        return lambda c: cell(c.roles[role]) if role in c.roles else MISSING

    name = one_line(role)
    yield f"{name}: turns", told(lambda r: f"{r.num_turns:,}")
    yield f"{name}: words per turn", told(lambda r: _spread(r.words))
    yield f"{name}: tokens per turn", told(lambda r: _spread(r.tokens))
    yield f"{name}: distinct-1 / 2 / 3", told(lambda r: " / ".join(map(_decimal, r.distinct)))
    yield f"{name}: self-BLEU", told(lambda r: _decimal(r.self_bleu))
    yield f"{name}: top opening", told(lambda r: f"{_of(r.openings)} {one_line(r.opening, MAX_TEXT)}")
    yield f"{name}: refusals", told(lambda r: _of(Share(sum(r.refusals.values()), r.num_turns)))
    yield f"{name}: role confusion", told(lambda r: _of(Share(sum(r.confusion.values()), r.num_turns)))


def _about_contents() -> Iterator[tuple[str, Cell]]:
    yield "near duplicates", lambda c: _of(c.duplicates)
    yield "labels", lambda c: f"{c.labels.num_labels:,} of {c.labels.num_labelled:,}" if c.labels else MISSING
    yield "  missing", lambda c: f"{c.labels.num_missing:,}" if c.labels else MISSING
    yield "  entropy, bits", lambda c: _decimal(c.labels.entropy) if c.labels else MISSING
    yield "  top", _top_label
    yield "valid outcomes", lambda c: _of(c.validity.whole)
    yield "crisis: active / passive / denied", _levels
    yield "  not taken up", lambda c: _of(c.crisis.unanswered)
    yield "episodes with leaks", lambda c: _of(c.leaks.episodes)
    yield "embedding distance", lambda c: _decimal(c.embedding.distance) if c.embedding else MISSING
    yield "  gain over earlier", lambda c: _decimal(c.embedding.gain) if c.embedding else MISSING
    yield "perplexity", lambda c: _decimal(c.perplexity.value) if c.perplexity else MISSING
    yield "  under", lambda c: one_line(c.perplexity.model, MAX_TEXT) if c.perplexity else MISSING
    yield (
        "  cut to the window",
        lambda c: _of(Share(c.perplexity.num_cut, c.perplexity.num_texts)) if c.perplexity else MISSING,
    )


def _levels(figures: CorpusFigures) -> str:
    counts = (figures.crisis.levels.get(level, 0) for level in LEVELS[:3])
    return " / ".join(map(str, counts)) if figures.crisis.episodes.of else MISSING


def _top_label(figures: CorpusFigures) -> str:
    if figures.labels is None or not figures.labels.top:
        return MISSING
    label, number = next(iter(figures.labels.top.items()))
    return f"{_of(Share(number, figures.labels.num_labelled))} {one_line(label, MAX_TEXT)}"


def _of(share: Share) -> str:
    return MISSING if share.share is None else f"{share.num:,} ({100 * share.share:.3g} %)"


def _spread(spread: Spread | None) -> str:
    return MISSING if spread is None else f"{spread.mean:.1f}, p90 {spread.p90}"


def _decimal(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"


def _p(one: Difference) -> str:
    if one.p is None:
        return MISSING
    return f"{one.p:.3g}{' *' if one.p < SIGNIFICANT else ''}"
