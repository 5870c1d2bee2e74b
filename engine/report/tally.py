"""What a corpus came to, counted in one pass over the episodes that are looked at, in bounded memory.

Knows records and what their protocol declares of itself; nothing of pages.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from engine.page.spread import Spread
from engine.protocol import ProtocolSpec
from engine.record import EpisodeRecord, StepRecord
from engine.sampling import Reservoir
from engine.show import decoded, facts
from engine.transcript import turns

NUM_TRANSCRIPTS: Final = 5


class CallTally:
    """Answered calls of one role, or for one purpose."""

    def __init__(self) -> None:
        self.num = self.num_cut_off = 0
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.latency_s = Spread()

    def add(self, step: StepRecord) -> None:
        """Count a step that has a reply."""
        if (reply := step.reply) is None:
            return
        self.num += 1
        self.num_cut_off += reply.is_cut_off
        self.prompt_tokens += reply.usage.prompt_tokens
        self.cached_tokens += reply.usage.cached_tokens
        self.completion_tokens += reply.usage.completion_tokens
        self.latency_s.add(reply.latency_s)


class Tally:
    """The figures of a run in the making: `add` each record.

    `paused_s` says how long the run stood still between two moments (Unix time), which no episode is blamed for.
    """

    def __init__(
        self, spec: ProtocolSpec, seed: int = 0, paused_s: Callable[[float, float], float] = lambda start, end: 0.0
    ) -> None:
        self._spec = spec
        self._paused_s = paused_s
        self.num = 0
        self.statuses: Counter[str] = Counter()
        self.protocols: Counter[str] = Counter()
        self.models: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.weights: Counter[str] = Counter()
        self.roles: defaultdict[str, CallTally] = defaultdict(CallTally)
        self.purposes: defaultdict[str, CallTally] = defaultdict(CallTally)
        self.attempts: Counter[str] = Counter()
        self.num_similarities = 0
        self.num_turns = Spread()
        self.duration_s = Spread()
        self.words: defaultdict[str, Spread] = defaultdict(Spread)
        self.facts: defaultdict[str, Spread] = defaultdict(Spread)
        self.histograms: defaultdict[str, Spread] = defaultdict(Spread)
        self.missing: Counter[str] = Counter()
        self.transcripts: Reservoir[EpisodeRecord] = Reservoir(NUM_TRANSCRIPTS, seed)

    def update(self, records: Iterable[EpisodeRecord]) -> None:
        """Count episodes."""
        for record in records:
            self.add(record)

    def add(self, record: EpisodeRecord) -> None:
        """Count one episode: its calls whatever became of it, what was said and decided if it was completed."""
        self.num += 1
        self.statuses[record.status] += 1
        self.protocols[record.protocol] += 1
        self.weights.update(record.weights)
        for role, model in record.models.items():
            self.models[role][model] += 1
        for step in record.steps:
            self._count(step)
        if record.status == "completed":
            self._read(record)

    def _count(self, step: StepRecord) -> None:
        self.attempts.update(attempt.kind for attempt in step.attempts)
        if step.kind == "similarity":
            self.num_similarities += len(step.floats)
        elif step.reply is not None:
            self.roles[step.role].add(step)
            self.purposes[step.purpose].add(step)

    def _read(self, record: EpisodeRecord) -> None:
        self.transcripts.add(record)
        spoken = turns(record, self._spec.turns)
        self.num_turns.add(len(spoken))
        if record.started_at and record.ended_at >= record.started_at:
            span_s = record.ended_at - record.started_at
            self.duration_s.add(max(span_s - self._paused_s(record.started_at, record.ended_at), 0.0))
        for turn in spoken:
            self.words[turn.role].add(len(turn.text.split()))
        for name, value in facts(record, self._spec).items():
            self.facts[name].add(value)
        outcome = decoded(record.outcome)
        if isinstance(outcome, dict):
            self.missing.update(self._spec.missing(outcome) if self._spec.missing else {})
            for name, values in (self._spec.histograms(outcome) if self._spec.histograms else {}).items():
                self.histograms[name].update(values)
