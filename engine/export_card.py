"""The card of an export: what the data is, what it is not, and how it was made; as markdown with a YAML head.

Pure. Names in it come from configurations and models and are escaped.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.transcript import one_line

_SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SPECIAL: Final = "\\`*_[]<>|"

_COLUMNS: Final = {
    "records": "One row per episode, the protocol's own fields.",
    "messages": "One row per episode and role: its own turns are `assistant`, everybody else's `user`.",
    "prompt-completion": "One row per turn: `prompt` is what the role saw when asked, `completion` what it said.",
    "sharegpt": "One row per episode and role: its own turns are `gpt`, everybody else's `human`.",
}

NOTICE: Final = """\
> **Synthetic data for research.** Every person here is invented, and every word was written by a language model or for
> one. Nothing was reviewed by a clinician. It is no advice, no basis for any clinical decision, and must not be used
> to care for people. If you or someone near you is in crisis, call your local emergency number or a crisis line:
> nothing trained on this data can help."""


class ExportMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What an export says of its run. `settings` are printed as they are; `cases` names their source."""

    name: str
    cases: str = ""
    cases_license: str = ""
    settings: Mapping[str, Any] = {}


class CardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted while exporting. `models` maps role to model to episodes."""

    format: str
    data_file: str
    num_rows: int
    columns: tuple[str, ...]
    statuses: dict[str, int]
    skipped: dict[str, int]
    missing: dict[str, int]
    models: dict[str, dict[str, int]]
    weights: dict[str, int]
    protocols: dict[str, int]


def card(meta: ExportMeta, facts: CardFacts) -> str:
    """Return the card."""
    num_episodes = sum(facts.statuses.values())
    blocks = [
        _head(meta, facts),
        f"# {_safe(meta.name)}",
        NOTICE,
        f"{facts.num_rows:,} rows from {num_episodes:,} episodes, format `{facts.format}`. {_COLUMNS[facts.format]}",
        _load_example(facts),
        "## Counts",
        table(("what", "number"), _counts(facts)),
        "## Missing values",
        _missing(facts),
        "## Models",
        table(
            ("role", "model", "episodes"), [(r, m, f"{n:,}") for r, ms in facts.models.items() for m, n in ms.items()]
        ),
        _weights(facts),
        "## Cases",
        _cases(meta),
        "## Settings",
        table(("setting", "value"), [(name, _plain(value)) for name, value in flat(meta.settings)]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(meta: ExportMeta, facts: CardFacts) -> str:
    """YAML; a JSON string is a YAML string, so names are quoted as JSON."""
    size = next((name for limit, name in _SIZES if facts.num_rows < limit), "n>1M")
    lines = [
        "---",
        f"pretty_name: {json.dumps(one_line(meta.name))}",
        "license: other",
        f"license_name: {json.dumps(one_line(meta.cases_license or 'unknown'))}",
        "tags:",
        *(f"- {tag}" for tag in ("synthetic", "dialogue", "research-only")),
        "size_categories:",
        f"- {json.dumps(size)}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        f"    path: {json.dumps(facts.data_file)}",
        "---",
    ]
    return "\n".join(lines)


def _load_example(facts: CardFacts) -> str:
    call = (
        'load_dataset("PATH_OF_THIS_DIRECTORY", split="train")'
        if facts.data_file == "train.jsonl"
        else f'load_dataset("json", data_files={json.dumps(facts.data_file)}, split="train")'
    )
    return f"```python\nfrom datasets import load_dataset\n\nrows = {call}\n```"


def _counts(facts: CardFacts) -> list[tuple[str, ...]]:
    return [
        ("rows", f"{facts.num_rows:,}"),
        *((f"episodes {status}", f"{number:,}") for status, number in facts.statuses.items()),
        *((f"episodes {status}, left out", f"{number:,}") for status, number in facts.skipped.items()),
        *((f"episodes of protocol {name}", f"{number:,}") for name, number in facts.protocols.items()),
    ]


def _missing(facts: CardFacts) -> str:
    if not facts.missing:
        return "None: every column has a value in every row."
    rows = [
        (name, f"{facts.missing[name]:,}", f"{100 * facts.missing[name] / facts.num_rows:.1f} %")
        for name in facts.columns
        if name in facts.missing
    ]
    return "A missing value is an empty string; it was never filled in.\n\n" + table(("column", "rows", "share"), rows)


def _weights(facts: CardFacts) -> str:
    if not facts.weights:
        return ""
    return table(("weight version", "episodes"), [(name, f"{number:,}") for name, number in facts.weights.items()])


def _cases(meta: ExportMeta) -> str:
    source = _safe(meta.cases) or "unknown"
    license_name = _safe(meta.cases_license) or "unknown: find out before you pass the data on"
    models = "The models' own licenses also apply to what they wrote."
    return f"Source: {source}. License of the cases: {license_name}. {models}"


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested settings as (dotted name, value)."""
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a markdown table; cells are escaped."""
    if not rows:
        return "Not recorded."
    lines = [heads, tuple("---" for _ in heads), *(tuple(map(_safe, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _safe(text: str) -> str:
    """Return a name on one line with markdown's and HTML's characters escaped."""
    return "".join(f"\\{c}" if c in _SPECIAL else c for c in one_line(text, 200))
