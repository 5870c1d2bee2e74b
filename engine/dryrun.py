"""What a run will ask for, before it asks: plays cases through the real protocol with the shortest and longest answers.

Calls and tokens are exact for the protocol's course; retries and re-asks come on top. The least replies with a word,
the most with as many tokens as each step allows. Texts are measured with the model's tokenizer where the caller has
one, otherwise as bytes / 4.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.dialogue import Answer, Dialogue
from engine.errors import InputError
from engine.planning import Plan, RunCast
from engine.protocol import Extreme
from engine.steps import Choice, Fields, Generate, Leaf, Reply
from engine.totals import CallTotals

MAX_CASES = 8
TEMPLATE_TOKENS = 8
"""Tokens that a chat template adds per message, generously."""
LEAST_TEMPLATE_TOKENS = 1
"""What every known one adds at least: the end of a message."""


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """One episode's demand by role: chat calls and tokens; and its longest context (prompt + completion) in tokens."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    max_context: int = 0
    roles: dict[str, CallTotals] = {}


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Least and most over the cases looked at, per episode.

    `expected_context` is how long a context may be expected to become, in tokens: halfway between those of the fewest
    calls and the most, with replies as long as they may be.
    """

    episodes: int
    least: Course
    most: Course
    max_context_by_role: dict[str, int]
    expected_context: int


def forecast(plan: Plan, count: Callable[[str], int]) -> Forecast:
    """Return the least and the most that an episode of this plan asks for. `count` measures a text in tokens."""
    cast = RunCast(plan)
    courses: list[Course] = []
    terse: list[Course] = []
    contexts: dict[str, int] = {}
    lengths = _memo(count)
    by_length = sorted(plan.cases, key=lambda case: len(msgspec.json.encode(case)))
    step = max(1, len(by_length) // MAX_CASES)
    chosen = {case.id for case in [*by_length[::step], *by_length[-1:]]}
    for key in (key for key in plan.roster() if key.repeat == 0 and key.case in chosen):
        for extreme in plan.spec.extremes or DEFAULT_EXTREMES:
            courses.append(_course(Dialogue(cast.play(key)), extreme, lengths, contexts))
            terse.append(_course(Dialogue(cast.play(key)), extreme, lengths, {}, is_terse=True))
    courses.sort(key=_size)
    longest = max(course.max_context for course in courses)
    return Forecast(
        episodes=plan.num_episodes,
        least=min(terse, key=_size),
        most=msgspec.structs.replace(courses[-1], max_context=longest),
        max_context_by_role=contexts,
        expected_context=(courses[0].max_context + longest) // 2,
    )


def _size(course: Course) -> tuple[int, int]:
    return course.calls, course.prompt_tokens


def refuse_overflow(plan: Plan, figures: Forecast) -> None:
    """Raise InputError for every pool whose window is too small for the longest context its roles can reach."""
    needed = plan.spec.needed_context(plan.rules) if plan.spec.needed_context else 0
    problems = []
    for name, model in plan.config.models.items():
        roles = [role for role, pool in plan.config.roles.items() if pool == name]
        longest = max([figures.max_context_by_role.get(role, 0) for role in roles], default=0)
        longest = max(longest, needed if roles else 0)
        window = model.max_model_len
        if window is not None and longest > window:
            problems.append(
                f"models.{name}: the longest possible context must fit max_model_len, got {longest} tokens"
                f" (roles {', '.join(roles)}) for a window of {window}: use a model with a longer window and raise"
                " models.NAME.max_model_len, or lower protocol.max_tokens, exchanges or max_decoder_rounds"
            )
    if problems:
        raise InputError(problems)


def _memo(count: Callable[[str], int]) -> Callable[[str], int]:
    known: dict[str, int] = {}

    def length(text: str) -> int:
        if text not in known:
            known[text] = count(text)
        return known[text]

    return length


def _course(
    dialogue: Dialogue[Any],
    extreme: Extreme,
    length: Callable[[str], int],
    contexts: dict[str, int],
    *,
    is_terse: bool = False,
) -> Course:
    roles: dict[str, CallTotals] = {}
    longest = 0
    added = LEAST_TEMPLATE_TOKENS if is_terse else TEMPLATE_TOKENS
    open_steps: list[Leaf] = dialogue.start()
    while open_steps:
        leaf = open_steps.pop()
        answer = _answer(leaf, extreme, is_terse)
        if isinstance(leaf, Generate):
            messages = leaf.view.messages()
            size = sum(length(message.text) + added for message in messages)
            said = max(length(answer.text), 1) if is_terse and isinstance(answer, Reply) else leaf.sampling.max_tokens
            roles[leaf.role] = roles.get(leaf.role, CallTotals()) + CallTotals(1, size, said)
            context = size + leaf.sampling.max_tokens
            longest = max(longest, context)
            contexts[leaf.role] = max(contexts.get(leaf.role, 0), context)
        open_steps += dialogue.deliver(leaf.path, answer)
    if dialogue.error is not None and dialogue.error.kind == "protocol_error":
        raise InputError(f"the protocol fails on every course: {dialogue.error}")
    whole = sum(roles.values(), CallTotals())
    return Course(
        calls=whole.calls,
        prompt_tokens=whole.prompt_tokens,
        completion_tokens=whole.completion_tokens,
        max_context=longest,
        roles=roles,
    )


def _answer(leaf: Leaf, extreme: Extreme, is_terse: bool) -> Answer:
    if not isinstance(leaf, Generate):
        return tuple(extreme.similarity for _ in leaf.pairs)
    text = extreme.answer(leaf)
    if text is None:
        # Ordinary English words are about one token each: a reply as long as the limit allows.
        text = " ".join(["word"] * (1 if is_terse else leaf.sampling.max_tokens))
    return Reply(text)


def _first_option(leaf: Leaf) -> str | None:
    return _option(leaf, 0)


def _last_option(leaf: Leaf) -> str | None:
    return _option(leaf, -1)


def _option(leaf: Leaf, index: int) -> str | None:
    match leaf:
        case Generate(value=Choice(options=options)):
            return options[index]
        case Generate(value=Fields(names=names)):
            return msgspec.json.encode(dict.fromkeys(names, "text")).decode()
    return None


DEFAULT_EXTREMES: Sequence[Extreme] = tuple(
    Extreme(name=f"{option} option, similarity {similarity}", similarity=similarity, answer=answer)
    for option, answer in (("first", _first_option), ("last", _last_option))
    for similarity in (0.0, 1.0)
)
