"""What a run says at its end: measured facts, one transcript, where everything lies, what to do next.

`summarize` reads a corpus once, in constant memory but for a bounded number of outcomes; `end_screen` turns the summary
into renderables. Claims nothing that was not measured. Knows nothing of how the run was made.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.panel import duration
from engine.protocol import ProtocolSpec, Rules
from engine.record import EpisodeRecord
from engine.show import MISSING, decoded, dialogue_view, make_table, percent, plain, token_counts
from engine.transcript import turns

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

MAX_OUTCOMES: Final = 10_000
"""Outcomes kept for a protocol's warnings: enough for any share that matters, bounded for corpora of millions."""
NUM_TURNS: Final = 6
"""Turns of the transcript at the end of a run."""
DEFAULT_MODEL_NOTE: Final = (
    "Every part of this run is real: the served model, the scheduler, the journal, the similarities. The words are "
    "those of a model of 135 million parameters, and read like it: the quality of the text follows the model. "
    "To use another one, change one line of the configuration, under [models.base]:"
)
MODEL_LINE: Final = 'model = "your-org/your-model"'


class Spread(msgspec.Struct, frozen=True, gc=False):
    """One figure over episodes."""

    mean: float
    least: float
    most: float


class CorpusFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a corpus says of itself.

    `seconds` spans its first start to its last end, pauses between drivers included.
    """

    statuses: dict[str, int] = {}
    errors: dict[str, int] = {}
    num_turns: int = 0
    num_calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    facts: dict[str, Spread] = {}
    missing: dict[str, int] = {}
    warnings: tuple[str, ...] = ()
    example: EpisodeRecord | None = None


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run lies."""

    run: Path
    config: Path
    corpus: Path
    metrics: Path


def summarize(corpus: Iterable[EpisodeRecord], spec: ProtocolSpec) -> CorpusFacts:
    """Read a corpus once."""
    summary = _Summary(spec)
    for record in corpus:
        summary.add(record)
    return summary.facts()


class _Summary:
    """Sums over episodes."""

    def __init__(self, spec: ProtocolSpec) -> None:
        self._spec = spec
        self._statuses: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._figures: dict[str, tuple[int, float, float, float]] = {}
        self._outcomes: list[Mapping[str, Any]] = []
        self._example: EpisodeRecord | None = None
        self._started_at: float | None = None
        self._ended_at = 0.0

    def add(self, record: EpisodeRecord) -> None:
        """Count one episode."""
        spec, totals = self._spec, self._totals
        self._statuses[record.status] += 1
        if record.error is not None:
            self._errors[record.error.kind] += 1
        prompt, cached, completion = token_counts(record)
        totals["num_turns"] += len(turns(record, spec.turns))
        totals["num_calls"] += record.num_calls
        totals["prompt_tokens"] += prompt
        totals["cached_tokens"] += cached
        totals["completion_tokens"] += completion
        started = record.started_at if self._started_at is None else min(self._started_at, record.started_at)
        self._started_at = started
        self._ended_at = max(self._ended_at, record.ended_at)
        if self._example is None or (self._example.status != "completed" and record.status == "completed"):
            self._example = record
        outcome = decoded(record.outcome)
        if isinstance(outcome, dict):
            self._add_outcome(outcome)

    def _add_outcome(self, outcome: Mapping[str, Any]) -> None:
        spec = self._spec
        self._missing.update(spec.missing(outcome) if spec.missing else {})
        for name, value in (spec.facts(outcome) if spec.facts else {}).items():
            number, total, least, most = self._figures.get(name, (0, 0.0, value, value))
            self._figures[name] = (number + 1, total + value, min(least, value), max(most, value))
        if spec.warnings and len(self._outcomes) < MAX_OUTCOMES:
            self._outcomes.append(outcome)

    def facts(self) -> CorpusFacts:
        """Return the sums."""
        spec = self._spec
        return CorpusFacts(
            statuses=dict(self._statuses),
            errors=dict(self._errors.most_common()),
            seconds=max(self._ended_at - (self._started_at or 0.0), 0.0),
            facts={name: Spread(total / n, least, most) for name, (n, total, least, most) in self._figures.items()},
            missing={name: number for name, number in self._missing.items() if number},
            warnings=tuple(spec.warnings(self._outcomes)) if spec.warnings and self._outcomes else (),
            example=self._example,
            **{name: self._totals[name] for name in _SUMS},
        )


_SUMS: Final = ("num_turns", "num_calls", "prompt_tokens", "cached_tokens", "completion_tokens")


def end_screen(
    facts: CorpusFacts,
    places: Places,
    spec: ProtocolSpec,
    *,
    elapsed_s: float | None = None,
    is_default_model: bool = False,
    beside_paper: "Table | None" = None,
    width: int = 120,
) -> "Group":
    """Return the end screen.

    `elapsed_s` is this driver's own time, taken for the rates where it played the whole corpus; without it they are
    over the corpus's span. `beside_paper` comes from `settings_beside_paper`.
    """
    from rich.console import Group

    seconds = facts.seconds if elapsed_s is None else elapsed_s
    blocks: list[RenderableType] = [plain("What was measured", "bold"), facts_table(facts, seconds)]
    blocks += [plain(f"Warning: {warning}", "yellow") for warning in facts.warnings]
    if beside_paper is not None:
        blocks += ["", beside_paper]
    if facts.example is not None:
        spoken = turns(facts.example, spec.turns)
        models = ", ".join(dict.fromkeys(facts.example.models.values())) or "unknown"
        title = f"Episode {facts.example.episode}, {min(NUM_TURNS, len(spoken))} of {len(spoken)} turns, model {models}"
        blocks += ["", plain(title, "bold"), dialogue_view(spoken[:NUM_TURNS], width)]
    blocks += ["", plain("Where it lies", "bold"), _pairs(_places(places))]
    blocks += ["", plain("What to do next", "bold"), _pairs(next_commands(facts, places))]
    if is_default_model:
        blocks += ["", plain(DEFAULT_MODEL_NOTE), plain(f"    {MODEL_LINE}", "bold")]
    return Group(*blocks)


def facts_table(facts: CorpusFacts, seconds: float) -> "Table":
    """Return the measured facts."""
    rows = [
        ("episodes", _counted(facts.statuses)),
        ("time", f"{duration(seconds)}: {_rate(sum(facts.statuses.values()), seconds)} episodes/s"),
        ("turns", f"{facts.num_turns:,}: {_rate(facts.num_turns, seconds)} turns/s"),
        ("calls", f"{facts.num_calls:,}: {_rate(facts.num_calls, seconds)} calls/s"),
        (
            "tokens in",
            f"{facts.prompt_tokens:,}, {percent(facts.cached_tokens, facts.prompt_tokens)} from prefix cache",
        ),
        ("tokens out", f"{facts.completion_tokens:,}: {_rate(facts.completion_tokens, seconds)} tokens/s"),
        *((name, f"mean {s.mean:.3g}, {s.least:g} to {s.most:g}") for name, s in facts.facts.items()),
        ("missing values", _counted(facts.missing) or "none"),
    ]
    if facts.errors:
        rows.append(("failures", _counted(facts.errors)))
    return _pairs(rows)


def next_commands(facts: CorpusFacts, places: Places) -> list[tuple[str, str]]:
    """Return (purpose, command) pairs that fit the run."""
    run = _quoted(places.run)
    episode = f" {facts.example.episode}" if facts.example is not None else ""
    return [
        ("read an episode", f"sandplay show {run}{episode}"),
        ("list them all", f"sandplay show {run}"),
        ("make training data", f"sandplay export {run} --format messages --to DATASET"),
        ("go on after a stop", f"sandplay resume {run}"),
    ]


def settings_beside_paper(rules: Rules, paper: Mapping[str, Any]) -> "Table":
    """Return the rules in force beside the paper's settings, differences marked.

    `paper` maps a rule's name to the published value; a name that the rules lack is shown as absent.
    """
    table = make_table(("setting", "here", "paper", ""), title="Settings beside the paper's")
    here = msgspec.to_builtins(rules)
    for name, published in paper.items():
        value = here.get(name)
        is_same = name in here and value == published
        cells = (name, _setting(value) if name in here else MISSING, _setting(published), "" if is_same else "differs")
        table.add_row(*(plain(cell) for cell in cells))
    return table


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _places(places: Places) -> list[tuple[str, str]]:
    return [
        ("configuration", str(places.config)),
        ("corpus", str(places.corpus)),
        ("metrics", str(places.metrics)),
    ]


def _pairs(rows: Sequence[tuple[str, str]]) -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(plain(name), plain(value))
    return table


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())


def _rate(number: float, seconds: float) -> str:
    if seconds <= 0:
        return MISSING
    rate = number / seconds
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
