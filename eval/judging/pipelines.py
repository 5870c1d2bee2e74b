"""Pipelines: how judges come to a vote on one question; each fits every rubric.

Each takes the bench and a question and returns its votes. What one judge wrote reaches another only fenced, as what a
transcript says does: it may repeat what the transcript ordered. Knows nothing of scales beyond their options.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from engine.steps import Protocol, parallel
from engine.values import describe
from engine.views import View
from eval.judging.bench import Bench, Question, say
from eval.judging.fence import fence
from eval.judging.rules import JUDGE
from eval.verdicts import Vote

Votes: TypeAlias = tuple[Vote, ...]
Pipeline: TypeAlias = Callable[[Bench, Question], Protocol[Votes]]


def single(bench: Bench, question: Question) -> Protocol[Votes]:
    """Ask one judge once."""
    return ((yield from bench.vote(f"{question.path}/1", JUDGE, bench.ask(question), question)),)


def dual(bench: Bench, question: Question) -> Protocol[Votes]:
    """Let a second judge correct the first, whose verdict and reasons it sees; the first counts if that is missing."""
    asked = bench.ask(question)
    first = yield from bench.vote(f"{question.path}/1", JUDGE, asked, question)
    reasons = fence("REASONS", [("judge 1", first.reason)]) if first.reason else ""
    told = asked.hear(bench.texts.render("correct", option=first.option or "", reasons=reasons))
    second = yield from bench.vote(f"{question.path}/2", JUDGE, told, question)
    is_corrected = second.option is not None
    return (msgspec.structs.replace(first, is_counted=not is_corrected), second)


def majority(bench: Bench, question: Question) -> Protocol[Votes]:
    """Ask one judge several times; the samples know nothing of each other."""
    return (yield from _apart(bench, question, (JUDGE,) * bench.rules.num_judges))


def panel(bench: Bench, question: Question) -> Protocol[Votes]:
    """Ask each role of the panel once; they know nothing of each other."""
    return (yield from _apart(bench, question, bench.rules.roles))


def _apart(bench: Bench, question: Question, roles: Sequence[str]) -> Protocol[Votes]:
    asked = bench.ask(question)
    branches = [bench.vote(f"{question.path}/{n}", role, asked, question) for n, role in enumerate(roles, 1)]
    return tuple((yield from parallel(branches)))


def debate(bench: Bench, question: Question) -> Protocol[Votes]:
    """Let judges argue in rounds, each having read the others' last arguments, and then vote."""
    views = [bench.ask(question)] * bench.rules.num_judges
    arguments = [""] * len(views)
    for number in range(1, bench.rules.num_rounds + 1):
        branches = [
            _argue(bench, f"{question.path}/{judge}/argue/{number}", view, _others(arguments, judge))
            for judge, view in enumerate(views, 1)
        ]
        argued = yield from parallel(branches)
        views, arguments = [view for view, _ in argued], [text for _, text in argued]
    closing = [
        _close(bench, question, judge, view, (arguments[judge - 1], _others(arguments, judge)))
        for judge, view in enumerate(views, 1)
    ]
    return tuple((yield from parallel(closing)))


def _argue(bench: Bench, path: str, view: View, others: str) -> Protocol[tuple[View, str]]:
    """Return a judge's view after its argument, and the argument; without one the view stays as it was."""
    asked = view.hear(bench.texts.render("argue", arguments=others))
    reply = yield from bench.say(path, JUDGE, asked, "argument")
    text = reply.text.strip()
    return (say(asked, reply), text) if text else (view, "")


def _close(bench: Bench, question: Question, judge: int, view: View, arguments: tuple[str, str]) -> Protocol[Vote]:
    """Return the vote of one judge, who has read the others' last arguments; its own last one is its reason."""
    own, others = arguments
    form = describe(question.dimension.schema)
    text = bench.texts.render("vote", arguments=others, form=form)
    option = yield from bench.choose(f"{question.path}/{judge}/verdict", JUDGE, view, question, text)
    return Vote(judge=JUDGE, option=option, reason=own)


def _others(arguments: Sequence[str], judge: int) -> str:
    """Return the arguments of all judges but this one (1-based), fenced; "" when nobody has argued."""
    known = [(f"judge {n}", text) for n, text in enumerate(arguments, 1) if n != judge and text]
    return fence("ARGUMENTS", known) if known else ""


PIPELINES: Final[Mapping[str, Pipeline]] = {
    "single": single,
    "dual": dual,
    "debate": debate,
    "majority": majority,
    "panel": panel,
}
