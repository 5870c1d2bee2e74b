"""Labelled texts, and how well a detector finds them.

Each file is of two halves: a detector was developed on `dev`, and measured once on `unseen`, which was written before
the detector and by the same hand, so that text by others may be harder.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

HALVES = ("dev", "unseen")
# Repeats of what breaks careless patterns: near-misses of cues, quantifier bait, and text without any end.
HOSTILE = (
    "i can't " * 5_000,
    "wish " * 7_000,
    "a" * 50_000,
    "\n\t *[(" * 10_000,
    "Patient " * 6_000,
    "if a car " * 5_000,
    "i don't want to " * 3_000,
    "suicid" * 7_000,
    "the patient " * 5_000,
    "n't my brother he cut myself " * 1_000,
    "cut myself shaving " * 3000,
    "’" * 50_000,
    "\ud800" * 1000,
)


def load(name: str, half: str) -> list[Row]:
    path = Path(__file__).parent / "labelled" / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(rows) >= 60
    return [row for row in rows if row["half"] == half]


def precision_recall(
    rows: list[Row], is_found: Callable[[Row], bool], is_meant: Callable[[Row], bool]
) -> tuple[float, float]:
    found = [row for row in rows if is_found(row)]
    meant = [row for row in rows if is_meant(row)]
    both = sum(is_meant(row) for row in found)
    return both / len(found), both / len(meant)
