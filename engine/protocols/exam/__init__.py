"""Exam: one question about a case that was never trained on, which of a few conditions fits it best.

A run of this protocol is an exam of the served model: a case is an item, its `condition` the right answer. The wrong
ones are drawn by the episode's seed. An answer that cannot be read is invalid, which is wrong and counted, never
guessed. Knows nothing of rounds.
"""

import math
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.asking import ask_value
from engine.cases.grammar import load_conditions
from engine.cases.schema import Case
from engine.errors import StepFailed
from engine.protocol import STRAIGHT, ProtocolSpec, Rules, Setting, Sight
from engine.protocols.texts import Catalog
from engine.steps import Choice, Generate, Protocol, Sampling, enter
from engine.views import View

EXAMINEE: Final = "therapist"
Z_95: Final = 1.959964
"""Standard deviations on either side that hold 95 % of a normal distribution."""

CATALOG: Final = Catalog(
    Path(__file__).parent / "prompts",
    {
        "examinee": frozenset(),
        "item": frozenset({"situation", "thought", "emotion", "behavior", "coping", "options", "option"}),
    },
)


class ExamRules(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of an exam: an item offers `num_options` conditions, one of them right; answers are greedy by default."""

    name: str = "exam"
    max_tokens: int = 24
    temperature: float = 0.0
    num_options: int = 4

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each."""
        found, most = super().problems(), len(load_conditions())
        if not 2 <= self.num_options <= most:
            found.append(f"protocol.num_options must be 2..{most}, got {self.num_options}: set a number in that range")
        return found


class ExamOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answered item; `answer` is None where the reply named no option."""

    right: str
    answer: str | None

    @property
    def is_right(self) -> bool:
        """Whether the answer is the right one."""
        return self.answer == self.right


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What an exam came to: the share of right answers with its 95 % interval, and what a guess would get.

    `always_one` is the share that naming the most frequent condition each time would get right.
    """

    num_items: int
    num_right: int
    num_invalid: int
    accuracy: float
    low: float
    high: float
    always_one: float


def exam(case: Case, rules: ExamRules, *, seed: int, setting: Setting) -> Protocol[ExamOutcome]:
    """Return one item. Raises StepFailed(`no_label`) for a case whose condition is not known."""
    if not case.condition:
        raise StepFailed("no_label", f"an exam's case must have a condition, got none in {case.id}: add it")
    texts = CATALOG.load(setting.prompts)
    options = draw_options(case.condition, rules.num_options, seed)
    item = texts.render(
        "item",
        situation=case.situation,
        thought=case.auto_thought,
        emotion=case.emotion_text,
        behavior=case.behavior,
        coping=case.coping_strategies,
        options=options,
    )
    yield from enter("exam")
    view = View.common(texts.shared("examinee")).hear(item)
    sampling = Sampling(rules.max_tokens, rules.temperature)
    value = yield from ask_value(Generate("item", EXAMINEE, view, sampling, "answer", Choice(options)), max_reasks=0)
    return ExamOutcome(right=case.condition, answer=value.choice)


def draw_options(right: str, number: int, seed: int) -> tuple[str, ...]:
    """Return the right condition among others, `number` in all, in the order that the seed gives."""
    draw = random.Random(f"options {seed}")
    others = [one.condition for one in load_conditions() if one.condition != right]
    options = [right, *draw.sample(others, number - 1)]
    draw.shuffle(options)
    return tuple(options)


def score(outcomes: Iterable[Mapping[str, Any]], num_failed: int = 0) -> Score:
    """Return the score of answered items; items that failed count as invalid. Raises ValueError for none at all."""
    answered = [msgspec.convert(outcome, ExamOutcome) for outcome in outcomes]
    number = len(answered) + num_failed
    if not number:
        raise ValueError("an exam must have at least one item, got none")
    right = sum(one.is_right for one in answered)
    labels = [one.right for one in answered]
    low, high = wilson(right, number)
    return Score(
        num_items=number,
        num_right=right,
        num_invalid=num_failed + sum(one.answer is None for one in answered),
        accuracy=right / number,
        low=low,
        high=high,
        always_one=max((labels.count(label) for label in set(labels)), default=0) / number,
    )


def wilson(num_right: int, number: int) -> tuple[float, float]:
    """Return the 95 % interval of a share. Source: Wilson's score interval."""
    share, spread = num_right / number, Z_95**2 / number
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / number + spread / (4 * number)) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def facts(outcome: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the figures of one item that a run reports as means."""
    return {
        "accuracy": float(outcome["answer"] == outcome["right"]),
        "invalid": float(outcome["answer"] is None),
    }


PROTOCOL: Final = ProtocolSpec(
    name="exam",
    session=exam,
    roles=(EXAMINEE,),
    sees={EXAMINEE: Sight(transcript=False)},
    rules=ExamRules,
    extremes=STRAIGHT,
    facts=facts,
    texts=CATALOG.paths,
)
