"""Predictions as tables for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from engine.panel import duration
from engine.simulation.prediction import Prediction
from engine.tables import make_table, plain

if TYPE_CHECKING:
    from rich.table import Table

SWEEP_HEADS: Final = (
    "episodes/s",
    "steady",
    "calls/s",
    "tokens/s",
    "hits",
    "slots",
    "KV",
    "max/mean",
    "tail",
    "per replica",
)


def prediction_table(found: Prediction) -> "Table":
    """Return the figures of one run."""
    table = make_table(("simulated", "figure"), numbers=("figure",))
    for name, figure in prediction_rows(found):
        table.add_row(plain(name), plain(figure))
    return table


def prediction_rows(found: Prediction) -> list[tuple[str, str]]:
    """Return what is shown of one run: names and figures."""
    return [
        ("replicas", str(found.replicas)),
        ("episodes", f"{found.completed} completed, {found.failed} failed"),
        ("virtual time", duration(found.elapsed_s)),
        ("episodes per second, whole run", f"{found.episodes_per_s:.3g}"),
        ("episodes per second, steady state", f"{found.steady_episodes_per_s:.3g}"),
        ("calls per second", f"{found.calls_per_s:,.1f}"),
        ("turns per second", f"{found.turns_per_s:,.1f}"),
        ("completion tokens per second", f"{found.completion_tokens_per_s:,.0f}"),
        ("prompt tokens per second", f"{found.prompt_tokens_per_s:,.0f}"),
        ("prompt tokens cached", f"{found.cached_share:.1%}"),
        ("prefix hits of those possible", f"{found.hit_ratio:.1%}"),
        ("preemptions per 1,000 calls", f"{found.preemptions_per_1000:.2f}"),
        ("retries", str(found.retries)),
        ("busy time, max / mean replica", f"{found.busy_ratio:.3f}"),
        ("slots used", f"{found.slot_share:.1%}"),
        ("KV cache held", f"{found.kv_share:.1%}"),
        ("dialogues live at most", str(found.max_live)),
        ("tail", f"{duration(found.tail_s)} ({found.tail_s / found.elapsed_s:.0%})"),
        ("longest episode", duration(found.longest_episode_s)),
        ("simulated in", f"{found.real_s:.1f} s, {found.speedup:,.0f} times real time"),
    ]


def sweep_table(name: str, found: Sequence[tuple[str, Prediction]]) -> "Table":
    """Return one row per value of a sweep."""
    table = make_table((name, *SWEEP_HEADS), numbers=(name, *SWEEP_HEADS))
    for value, one in found:
        cells = (
            value,
            f"{one.episodes_per_s:.3g}",
            f"{one.steady_episodes_per_s:.3g}",
            f"{one.calls_per_s:,.1f}",
            f"{one.completion_tokens_per_s:,.0f}",
            f"{one.hit_ratio:.1%}",
            f"{one.slot_share:.1%}",
            f"{one.kv_share:.1%}",
            f"{one.busy_ratio:.2f}",
            f"{one.tail_s / one.elapsed_s:.0%}",
            f"{one.episodes_per_s / one.replicas:.3g}",
        )
        table.add_row(*(plain(cell) for cell in cells))
    return table
