"""What a run came to, for machines: one JSON object, and the figures the end screen shows."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from engine.bill import BillRow, total_cost
from engine.journal import Totals
from engine.prices import rounded
from engine.protocol import ProtocolSpec
from engine.run import Result


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What the outcomes of all completed episodes show: missing values per field, mean facts, warnings."""

    missing: dict[str, int] = {}
    facts: dict[str, float] = {}
    warnings: list[str] = []


def findings(spec: ProtocolSpec, outcomes: Iterable[Mapping[str, Any]]) -> Findings:
    """Read the outcomes once and keep none; facts are means over episodes."""
    missing: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    counts: Counter[str] = Counter()

    def counted() -> Iterator[Mapping[str, Any]]:
        for outcome in outcomes:
            missing.update(spec.missing(outcome) if spec.missing else {})
            found = spec.facts(outcome) if spec.facts else {}
            sums.update(found)
            counts.update(found.keys())
            yield outcome

    watched = counted()
    warnings = spec.warnings(watched) if spec.warnings else []
    deque(watched, maxlen=0)  # those that the warnings did not need
    means = {name: sums[name] / count for name, count in counts.items()}
    return Findings(missing=dict(missing), facts=means, warnings=warnings)


def summarize(result: Result, found: Findings, directory: str, bill: Sequence[BillRow] = ()) -> dict[str, Any]:
    """Return the JSON object that `--json` prints last. Counts are the run's, speeds this invocation's.

    `bill` and the counts are those of terminal episodes; `spent`, with limits, has the live ones too.
    """
    after = result.after
    ended = _num_ended(after) - _num_ended(result.before)
    return {
        "episodes": result.episodes,
        "calls": after.calls,
        "replies": after.turns,
        "prompt_tokens": after.prompt_tokens,
        "completion_tokens": after.completion_tokens,
        "cached_tokens": after.cached_tokens,
        "cost": rounded(total_cost(row.cost for row in bill)),
        "roles": {row.role: row.figures for row in bill},
        "spent": None if result.spent is None else result.spent.figures,
        "reached": [reached.name for reached in result.reached],
        "elapsed_s": round(result.elapsed_s, 3),
        "startup_s": round(result.startup_s, 3),
        "episodes_per_s": round(ended / result.elapsed_s, 6) if result.elapsed_s else 0.0,
        "unplayed": result.num_unplayed,
        "missing": found.missing,
        "facts": {name: round(value, 6) for name, value in found.facts.items()},
        "warnings": found.warnings,
        "directory": directory,
    }


def _num_ended(totals: Totals) -> int:
    return totals.completed + totals.failed + totals.cancelled
