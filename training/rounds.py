"""Rounds: play, make samples, train, swap, examine, keep or roll back, and again.

    round:  play -> sample -> (rules) -> train -> swap -> examine -> (rules) -> keep | roll back | stop

The order of steps and what follows from them; how a step is done is the business of `Stages`. Invariants: a step whose
line is in the log is not done again; which version is current changes only when a round is kept; whatever the rules
say, the next round is played with the version that the last decision names.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from msgspec.structs import replace

from engine.errors import first_cause
from training.monitors import Breach, RoundFigures, Rule, breaches
from training.round_log import BEFORE, Decided, Examined, Played, RoundLog, Sampled, Swapped, Trained
from training.round_settings import RoundsSettings

S = TypeVar("S", Played, Sampled, Trained)

KEEP = "keep"
ROLL_BACK = "roll back"
STOP = "stop"


class Stages(Protocol):
    """How the steps are done. Each may be called again after a crash, and then goes on where it was: what costs (a
    dialogue, a training step, a published checkpoint) is never done twice. Versions are names, "" the base model.
    """

    async def play_held_out(self) -> Played:
        """Play the cases that are never trained, with the base model, and write their samples."""

    async def play(self, number: int, version: str) -> Played:
        """Play a round's dialogues on a served version, and write their samples as they end."""

    async def sample(self, number: int) -> Sampled:
        """Look at a round's samples, which are all written."""

    async def train(self, number: int, version: str) -> Trained:
        """Train on a round's samples, perhaps while they are written, and publish the checkpoint."""

    async def serve(self, number: int, version: str) -> Swapped | None:
        """See to it that a version is served; None when it was. A version that is refused leaves the old one."""

    async def examine(self, number: int, version: str, against: int | None) -> Examined | None:
        """Put the exam to the served version, and compare it with that of a round; None where there is no exam."""

    def commit(self, version: str) -> None:
        """Make a version the current one; durable when this returns."""


class Rounds:
    """A run of rounds."""

    def __init__(
        self,
        log: RoundLog,
        stages: Stages,
        settings: RoundsSettings,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._stages = stages
        self._settings = settings
        self._say = say
        self._clock = clock

    async def run(self) -> None:
        """Go on with the first step that is not done, until all rounds are decided or one stops the run.

        Raises what the stages raise; the log then says how far the run is.
        """
        try:
            await self._play()
        except BaseExceptionGroup as failed:
            raise first_cause(failed) from failed

    async def _play(self) -> None:
        await self._before()
        for number in range(self._settings.num_rounds):
            decided = self._log.find(Decided, number) or await self._round(number)
            if decided.action == STOP:
                return

    async def _before(self) -> None:
        """Do what is done once: the yardstick of all rounds."""
        log, stages = self._log, self._stages
        if self._settings.held_out and log.find(Played, BEFORE) is None:
            await self._serve(BEFORE, "")
            log.add(await stages.play_held_out())
        if log.find(Examined, BEFORE) is None and log.find(Played, 0) is None:
            await self._serve(BEFORE, "")
            await self._examine(BEFORE, "")

    async def _round(self, number: int) -> Decided:
        version = self._log.serves
        if self._log.find(Played, number) is None:
            await self._serve(number, version)
        if self._settings.overlap:
            sampled = await self._overlapping(number, version)
        else:
            await self._once(Played, number, lambda: self._stages.play(number, version))
            sampled = await self._once(Sampled, number, lambda: self._stages.sample(number))
        figures = sampled.figures
        if broken := self._broken(figures):
            return await self._decide(number, version, version, figures, broken)
        trained = await self._once(Trained, number, lambda: self._stages.train(number, version))
        return await self._judge(number, version, trained, _with_losses(figures, trained))

    async def _overlapping(self, number: int, version: str) -> Sampled:
        """Train while dialogues are played; neither waits for the other, but for samples."""
        async with asyncio.TaskGroup() as group:
            if self._log.find(Trained, number) is None:
                group.create_task(self._once(Trained, number, lambda: self._stages.train(number, version)))
            await self._once(Played, number, lambda: self._stages.play(number, version))
            sampled = await self._once(Sampled, number, lambda: self._stages.sample(number))
        return sampled

    async def _judge(self, number: int, version: str, trained: Trained, figures: RoundFigures) -> Decided:
        """Look at what training did to the model; serve it and examine it only when that is not bad already."""
        if trained.failure:
            self._say(f"round {number}: {trained.failure}")
            return await self._decide(number, version, version, figures, [])
        if broken := self._broken(figures):
            return await self._decide(number, version, trained.version, figures, broken)
        swapped = await self._serve(number, trained.version)
        if swapped is not None and swapped.refused:
            return await self._decide(number, version, trained.version, figures, [])
        examined = self._log.find(Examined, number) or await self._examine(number, trained.version)
        if examined is not None:
            figures = _with_exam(figures, examined)
        return await self._decide(number, version, trained.version, figures, self._broken(figures))

    async def _decide(
        self, number: int, version: str, candidate: str, figures: RoundFigures, broken: Sequence[Breach]
    ) -> Decided:
        """Write the decision, behind whatever makes it true."""
        is_kept = not broken and not failures_of(self._log, number)
        action = KEEP if is_kept else STOP if any(one.rule.then == STOP for one in broken) else ROLL_BACK
        serves = candidate if is_kept else version
        for breach in broken:
            self._say(f"round {number}: {breach.sentence}")
        if action != STOP:
            await self._serve(number, serves)
        self._stages.commit(serves)
        decided = Decided(
            round=number,
            at=self._clock(),
            action=action,
            serves=serves,
            breaches=tuple(broken),
            figures=figures,
        )
        self._log.add(decided)
        self._say(f"round {number}: {action}; {serves or 'the base model'} is current")
        return decided

    def _broken(self, figures: RoundFigures) -> list[Breach]:
        rules: Sequence[Rule] = self._settings.rules
        return breaches(rules, figures, self._log.kept_figures or self._baseline())

    def _baseline(self) -> RoundFigures | None:
        """Return what is known of the base model, which the first round is compared with."""
        examined = self._log.find(Examined, BEFORE)
        return None if examined is None else _with_exam(RoundFigures(num_rows=0), examined)

    async def _serve(self, number: int, version: str) -> Swapped | None:
        swapped = await self._stages.serve(number, version)
        if swapped is not None:
            self._log.add(swapped)
            if swapped.refused:
                self._say(f"round {number}: {version} is not served: {swapped.refused}")
        return swapped

    async def _examine(self, number: int, version: str) -> Examined | None:
        kept = self._log.kept_exam
        examined = await self._stages.examine(number, version, None if kept is None else kept.round)
        if examined is not None:
            self._log.add(examined)
        return examined

    async def _once(self, kind: type[S], number: int, do: Callable[[], Awaitable[S]]) -> S:
        """Return a step that is done, doing it when it is not."""
        found = self._log.find(kind, number)
        if found is None:
            found = await do()
            self._log.add(found)
        return found


def failures_of(log: RoundLog, number: int) -> list[str]:
    """Return why a round has no checkpoint that could be kept: training that failed, a swap that was refused."""
    trained = log.find(Trained, number)
    failed = [trained.failure] if trained is not None and trained.failure else []
    return failed + [one.refused for one in log.all(Swapped) if one.round == number and one.refused]


def _with_exam(figures: RoundFigures, examined: Examined) -> RoundFigures:
    """Add what the exam came to."""
    found, change = examined.score, examined.change
    figures = replace(figures, exam=found.accuracy, exam_low=found.low, exam_high=found.high)
    if change is None:
        return figures
    return replace(figures, exam_change=change.value, exam_change_low=change.low, exam_change_high=change.high)


def _with_losses(figures: RoundFigures, trained: Trained) -> RoundFigures:
    """Add what training measured on held-out rows."""
    before, after = trained.held_out_before, trained.held_out_after
    if before is None or after is None:
        return figures
    perplexity = math.exp(min(before, 700.0))
    return replace(figures, held_out_loss=after, held_out_ratio=after / before, perplexity=perplexity)
