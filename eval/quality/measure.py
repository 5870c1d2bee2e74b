"""Measuring a corpus: one pass over its episodes, in bounded memory.

Counts and spreads are exact. What needs texts side by side (distinct-n, self-BLEU, openings) is told of a seeded
sample of turns. Near duplicates are told of the first `MAX_COMPARED` dialogues, about a kilobyte each.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from engine.duplicates import Seen
from engine.protocol import ProtocolSpec
from engine.record import EpisodeRecord
from engine.sampling import Reservoir, drawn
from engine.transcript import one_line
from eval.quality.figures import (
    MAX_EXAMPLES,
    CorpusFigures,
    CrisisFigures,
    LeakFigures,
    RoleFigures,
    Share,
    ValidityFigures,
    labels_of,
    spread_of,
)
from eval.quality.outcomes import tidied
from eval.quality.profile import EpisodeProfile, TurnProfile, figures_of, profile_of
from eval.quality.retried import Groups
from eval.quality.text import distinct, self_bleu, top_opening

SAMPLED_TURNS: Final = 2000
BLEU_TURNS: Final = 500
SAMPLED_DIALOGUES: Final = 256
DIALOGUE_CHARS: Final = 4000
"""Characters kept of a sampled dialogue."""
MAX_COMPARED: Final = 200_000
NEAR: Final = 0.8
"""Jaccard similarity of word 3-grams from which on two dialogues are one."""
DISTINCT_ORDERS: Final = (1, 2, 3)


class Measure:
    """The figures of one corpus in the making: `add` each record, then ask for `figures`.

    `canonical` brings labels into common words, so that spellings of one label count as one.
    """

    def __init__(
        self, name: str, spec: ProtocolSpec, *, seed: int = 0, canonical: Callable[[str], str] = tidied
    ) -> None:
        self.name, self._spec, self._seed, self._canonical = name, spec, seed, canonical
        self._statuses: Counter[str] = Counter()
        self._protocols: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._turns: Counter[int] = Counter()
        self._roles: dict[str, _RoleTally] = {}
        self._seen = Seen(NEAR)
        self._num_compared = self._num_duplicates = 0
        self._labels: Counter[str] = Counter()
        self._num_unlabelled = 0
        self._outcomes = _OutcomeTally()
        self._risks = _RiskTally()
        self._groups = Groups(seed)
        self.dialogues: Reservoir[str] = Reservoir(SAMPLED_DIALOGUES, seed)

    def add(self, record: EpisodeRecord) -> None:
        """Count one episode; the contents of completed ones only."""
        self._statuses[record.status] += 1
        self._protocols[record.protocol] += 1
        if record.error is not None:
            self._errors[record.error.kind] += 1
        if record.status == "completed":
            self._add_profile(profile_of(record, self._spec), record.episode)

    def _add_profile(self, profile: EpisodeProfile, episode: str) -> None:
        self._turns[len(profile.spoken)] += 1
        for turn in profile.turns:
            if turn.role not in self._roles:
                self._roles[turn.role] = _RoleTally(self._seed)
            self._roles[turn.role].add(turn)
        self._compare(profile.dialogue)
        if profile.label is not None:
            label = self._canonical(profile.label)
            self._labels.update([label] if label else [])
            self._num_unlabelled += not label
        self._outcomes.add(profile)
        self._risks.add(profile, episode)
        self._groups.add(figures_of(profile), is_retried=profile.is_retried)

    def _compare(self, dialogue: str) -> None:
        if not dialogue:
            return
        self.dialogues.add(dialogue[:DIALOGUE_CHARS])
        if self._num_compared < MAX_COMPARED:
            self._num_compared += 1
            self._num_duplicates += self._seen.reason_to_drop("", dialogue) is not None

    def figures(self) -> CorpusFigures:
        """Return the figures of what was added."""
        return CorpusFigures(
            name=self.name,
            statuses=dict(sorted(self._statuses.items())),
            protocols=dict(sorted(self._protocols.items())),
            errors=dict(self._errors.most_common()),
            turns=spread_of(self._turns),
            roles={role: tally.figures() for role, tally in sorted(self._roles.items())},
            duplicates=Share(self._num_duplicates, self._num_compared),
            labels=labels_of(self._labels, self._num_unlabelled),
            validity=self._outcomes.figures(),
            crisis=self._risks.crisis(),
            leaks=self._risks.leaks(),
            num_retried=self._groups.num_retried,
            retried=self._groups.differences(),
        )


def measure(
    records: Iterable[EpisodeRecord],
    name: str,
    spec: ProtocolSpec,
    *,
    seed: int = 0,
    canonical: Callable[[str], str] = tidied,
) -> Measure:
    """Return the measure of a whole corpus, streamed."""
    made = Measure(name, spec, seed=seed, canonical=canonical)
    for record in records:
        made.add(record)
    return made


class _RoleTally:
    """Counts the turns of one role and keeps a sample of them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._num_turns = 0
        self._words: Counter[int] = Counter()
        self._tokens: Counter[int] = Counter()
        self._refusals: Counter[str] = Counter()
        self._confusion: Counter[str] = Counter()
        self._sample: Reservoir[tuple[str, ...]] = Reservoir(SAMPLED_TURNS, seed)

    def add(self, turn: TurnProfile) -> None:
        """Count one turn."""
        self._num_turns += 1
        if turn.confusion:
            self._confusion[turn.confusion] += 1
        if turn.is_empty:
            return
        self._words[len(turn.words)] += 1
        self._sample.add(turn.words)
        if turn.tokens:
            self._tokens[turn.tokens] += 1
        if turn.refusal:
            self._refusals[turn.refusal] += 1

    def figures(self) -> RoleFigures:
        """Return the role's figures."""
        sample = self._sample.items
        compared = drawn(sample, BLEU_TURNS, self._seed)
        opening, num, of = top_opening(sample)
        return RoleFigures(
            num_turns=self._num_turns,
            words=spread_of(self._words),
            tokens=spread_of(self._tokens),
            num_sampled=len(sample),
            distinct=tuple(distinct(sample, order) for order in DISTINCT_ORDERS),
            num_bleu=len(compared),
            self_bleu=self_bleu(compared),
            opening=opening,
            openings=Share(num, of),
            refusals=dict(self._refusals.most_common()),
            confusion=dict(self._confusion.most_common()),
        )


class _OutcomeTally:
    """Counts what outcomes lack."""

    def __init__(self) -> None:
        self._num_whole = self._num = 0
        self._missing: Counter[str] = Counter()
        self._implausible: Counter[str] = Counter()

    def add(self, profile: EpisodeProfile) -> None:
        """Count one episode's outcome, if there is one."""
        if profile.missing is None or profile.implausible is None:
            return
        self._num += 1
        self._num_whole += not any(profile.missing.values()) and not profile.implausible
        self._missing.update(profile.missing)
        self._implausible.update(profile.implausible)

    def figures(self) -> ValidityFigures:
        """Return what was counted."""
        return ValidityFigures(
            whole=Share(self._num_whole, self._num),
            missing=dict(self._missing.most_common()),
            implausible=dict(self._implausible.most_common()),
        )


class _RiskTally:
    """Counts crisis turns and leaks."""

    def __init__(self) -> None:
        self._levels: Counter[str] = Counter()
        self._num_unanswered = self._num_with_crisis = self._num_episodes = 0
        self._num_traced = self._num_leaking = 0
        self._leaks: Counter[str] = Counter()
        self._examples: list[tuple[str, str, str]] = []

    def add(self, profile: EpisodeProfile, episode: str) -> None:
        """Count one episode."""
        crises = [turn for turn in profile.spoken if turn.level != "none"]
        self._levels.update(turn.level for turn in crises)
        self._num_unanswered += sum(turn.is_crisis and not turn.is_answered for turn in crises)
        self._num_with_crisis += any(turn.is_crisis for turn in crises)
        self._num_episodes += 1
        if profile.leaks is None:
            return
        self._num_traced += 1
        self._num_leaking += bool(profile.leaks)
        self._leaks.update(f"{leak.place}: {leak.finding.kind}" for leak in profile.leaks)
        room = MAX_EXAMPLES - len(self._examples)
        self._examples += [(episode, leak.path, one_line(leak.finding.text)) for leak in profile.leaks[:room]]

    def crisis(self) -> CrisisFigures:
        """Return the figures of crisis turns."""
        num_crises = self._levels["active"] + self._levels["passive"]
        return CrisisFigures(
            levels=dict(sorted(self._levels.items())),
            unanswered=Share(self._num_unanswered, num_crises),
            episodes=Share(self._num_with_crisis, self._num_episodes),
        )

    def leaks(self) -> LeakFigures:
        """Return the figures of leaks."""
        return LeakFigures(
            episodes=Share(self._num_leaking, self._num_traced),
            counts=dict(self._leaks.most_common()),
            examples=tuple(self._examples),
        )
