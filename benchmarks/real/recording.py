"""From finished episodes to the calls of a trace: prompts rendered again exactly, dependencies found by replay.

A record keeps every reply; the protocol is run again on them, so that each step's view comes back with the token ids
that were sampled. What a step depends on is found by withholding one reply at a time: what is then never asked depends
on it. Nothing here knows a protocol or an engine.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from actors.rendering import PromptRenderer
from benchmarks.trace import Call
from engine.dialogue import Answer, Dialogue
from engine.record import EpisodeRecord
from engine.steps import Generate
from engine.steps import Protocol as Play
from engine.token_ids import unpack_ids

Replay = Callable[[], Play[Any]]


def calls_of(record: EpisodeRecord, replay: Replay, renderer: PromptRenderer) -> list[Call]:
    """Return the calls of one completed episode in program order. `replay` makes its generator anew.

    Raises ValueError for an episode with unanswered steps, and when a rendered prompt is not as long as the one that
    was served.
    """
    answers = _answers(record)
    dialogue = _replayed(replay, answers)
    given = dialogue.answers
    before = ancestors(replay, answers, [step.path for step in record.steps if step.kind == "generate"])
    calls = []
    for leaf in dialogue.in_order():
        reply = given[leaf.path]
        if not isinstance(leaf, Generate) or isinstance(reply, tuple):
            continue
        prompt = renderer.render(leaf.view.messages()).token_ids
        if len(prompt) != reply.usage.prompt_tokens:
            found = f"{len(prompt)} tokens instead of {reply.usage.prompt_tokens}"
            raise ValueError(f"{record.episode} {leaf.path}: the prompt must render as it was served, got {found}")
        calls.append(
            Call(
                episode=record.episode,
                path=leaf.path,
                role=leaf.role,
                purpose=leaf.purpose,
                prompt_ids=tuple(prompt),
                completion_ids=tuple(unpack_ids(reply.token_ids)),
                parents=nearest(before, leaf.path),
                priority=-len(before[leaf.path]),
            )
        )
    return calls


def calls_of_all(
    records: Iterable[EpisodeRecord], replay_of: Callable[[EpisodeRecord], Replay], renderer: PromptRenderer
) -> list[Call]:
    """Return the calls of completed episodes in the order in which they were first submitted."""
    timed: list[tuple[float, Call]] = []
    for record in records:
        started = {step.path: step.reply.started_at for step in record.steps if step.reply is not None}
        timed += [(started[call.path], call) for call in calls_of(record, replay_of(record), renderer)]
    return [call for _, call in sorted(timed, key=lambda pair: pair[0])]


def ancestors(replay: Replay, answers: Mapping[str, Answer], paths: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return, for each of `paths`, those among them without whose answer it is never asked."""
    needed: dict[str, set[str]] = {path: set() for path in paths}
    for withheld in paths:
        asked = _replayed(replay, {path: answer for path, answer in answers.items() if path != withheld}).steps
        for path in paths:
            if path not in asked:
                needed[path].add(withheld)
    return {path: frozenset(found) for path, found in needed.items()}


def nearest(before: Mapping[str, frozenset[str]], path: str) -> tuple[str, ...]:
    """Return the direct parents: ancestors that are no ancestor of another one, sorted."""
    mine = before[path]
    further = frozenset[str]().union(*(before[one] for one in mine))
    return tuple(sorted(mine - further))


def _answers(record: EpisodeRecord) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    for step in record.steps:
        answer = step.reply if step.reply is not None else step.floats
        if not answer:
            raise ValueError(f"{record.episode} must have every step answered, got none for {step.path}: leave it out")
        answers[step.path] = answer
    return answers


def _replayed(replay: Replay, answers: Mapping[str, Answer]) -> Dialogue[Any]:
    dialogue = Dialogue(replay())
    opened = dialogue.start()
    while opened:
        leaf = opened.pop(0)
        if leaf.path in answers:
            opened += dialogue.deliver(leaf.path, answers[leaf.path])
    return dialogue
