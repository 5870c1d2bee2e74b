"""The protocol `items`: one exam question, put in one of several ways of prompting; each episode is an item.

Invariant: what an item is asked depends on the item, the rules, the seed and the pool of examples alone. Nothing of the
right answer reaches the examinee, and no example is the item itself or one with the same question. A reply that names
no option is invalid, never guessed, never asked again. Knows nothing of files and of scores.
"""

import functools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.protocol import EMBEDDER, STRAIGHT, ProtocolSpec, Report, Setting, Sight
from engine.protocols.texts import Catalog, Texts
from engine.rundir import RunDirectory
from engine.steps import Choice, Generate, Protocol, Reply, Sampling, ask, enter, parallel, similar
from engine.views import View
from eval.exam.rules import ItemRules
from eval.exposure import Exposure
from eval.items import Item, Shot, reordered
from eval.tasks import find_task

EXAMINEE: Final = "examinee"
SHOWN: Final = Sight(hidden=False, transcript=False, note="items, and examples with their answers")
MAX_CANDIDATES: Final = 64
"""Examples that an item is compared with when the nearest are wanted: a pool that is larger is drawn from."""

CATALOG: Final = Catalog(
    Path(__file__).parent / "prompts",
    {
        "examinee": frozenset(),
        "answer": frozenset({"question", "instruction"}),
        "reason": frozenset({"question", "instruction"}),
    },
)


class Pool(msgspec.Struct, frozen=True):
    """The examples of one task: items of a file of their own, or of the exam itself."""

    task: str
    items: tuple[Item, ...]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a set of items came from: `sha256` over all its items as read, `notes` what a reader should know of it."""

    task: str
    path: str
    sha256: str
    num_items: int
    subject: str = ""
    examples: str = ""
    notes: tuple[str, ...] = ()


class Materials(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all episodes of an exam share, by the name of the set: examples, and where the items came from.

    `exposure` is what was found of the items in a training corpus, None where nobody named one.
    """

    pools: dict[str, Pool]
    sources: dict[str, Source]
    exposure: Exposure | None = None


def set_of(item: Item) -> str:
    """Return the name of the set that an item is of."""
    return item.id.partition("/")[0]


class Vote(msgspec.Struct, frozen=True):
    """One answer: its text, the label that was read from it (None: invalid), and whether it was cut off.

    Where options were shuffled, `answer` is the label in the item's own order.
    """

    text: str
    answer: str | None
    is_cut_off: bool = False


class ItemOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One item, answered. `answer` is what the votes came to, None for an invalid one."""

    task: str
    gold: str
    answer: str | None
    votes: tuple[Vote, ...]


def sit(case: Item, rules: ItemRules, *, seed: int, setting: Setting) -> Protocol[ItemOutcome]:
    """Put one item. Every reply counts as it is: empty or cut off, it is invalid."""
    texts, way = CATALOG.load(setting.prompts), rules.way
    yield from enter("exam")
    shots: tuple[Shot, ...] = ()
    if way.is_shown:
        candidates = _candidates(case, setting.shared, seed if way.is_nearest else None)
        chosen = (yield from _nearest(case, candidates)) if way.is_nearest else candidates
        shots = tuple(_shot(one, texts) for one in chosen[: rules.num_shots])
    view = beginning(texts.shared("examinee"), shots)
    num_votes = rules.num_samples if way.is_voted else 1
    votes = yield from parallel([_vote(case, rules, texts, view, number, seed) for number in range(num_votes)])
    answer = majority([vote.answer for vote in votes])
    return ItemOutcome(task=case.task, gold=case.gold, answer=answer, votes=tuple(votes))


def _vote(item: Item, rules: ItemRules, texts: Texts, view: View, number: int, seed: int) -> Protocol[Vote]:
    """Ask for one answer, the options in an order of its own where they are shuffled; read it back into the item's."""
    task, way = find_task(item.task), rules.way
    order = list(range(len(item.options)))
    if way.is_shuffled and not task.classes:
        random.Random(f"order {seed} {number}").shuffle(order)
    put = reordered(item, order)
    text = texts.render("reason" if way.is_reasoned else "answer", question=task.show(put), instruction=task.ask)
    sampling = Sampling(rules.max_tokens, rules.vote_temperature if way.is_voted else rules.temperature)
    value = Choice(put.labels) if rules.constrained else None
    reply: Reply = yield from ask(Generate(f"vote/{number}", EXAMINEE, view.hear(text), sampling, "answer", value))
    found = task.parse(put, reply.text, is_cut_off=reply.is_cut_off, is_final=way.is_reasoned)
    answer = item.options[order[put.labels.index(found)]].label if found is not None else None
    return Vote(reply.text, answer, reply.is_cut_off)


@functools.lru_cache(maxsize=4096)
def beginning(system: str, shots: tuple[Shot, ...]) -> View:
    """Return a view with the examples as a dialogue; items with the same ones share it, and so the prefix cache."""
    view = View.of(system)
    for shot in shots:
        view = view.hear(shot.question).say(shot.answer)
    return view.shared()


def majority(answers: Sequence[str | None]) -> str | None:
    """Return the most frequent answer, of equally frequent ones the first given; None when all are invalid."""
    counts = Counter(answer for answer in answers if answer is not None)
    return counts.most_common(1)[0][0] if counts else None


def _candidates(item: Item, materials: Materials, seed: int | None) -> list[Item]:
    """Return the examples that may be shown with an item, in order; with a seed at most `MAX_CANDIDATES`, drawn."""
    others = [one for one in materials.pools[set_of(item)].items if one.question != item.question]
    if find_task(item.task).is_by_kind:
        others = [one for one in others if one.subject == item.subject]
    if seed is not None and len(others) > MAX_CANDIDATES:
        return random.Random(f"candidates {seed}").sample(others, MAX_CANDIDATES)
    return others


def _nearest(item: Item, candidates: Sequence[Item]) -> Protocol[list[Item]]:
    """Return the examples in order of likeness to the question, the most like it first."""
    if not candidates:
        return []
    floats = yield from similar("nearest", [(item.question, one.question) for one in candidates])
    order = sorted(range(len(candidates)), key=lambda place: -floats[place])
    return [candidates[place] for place in order]


def _shot(item: Item, texts: Texts) -> Shot:
    """Return an example as it is shown: asked as the item itself is, and answered in the form that is asked for."""
    task = find_task(item.task)
    right = next(option for option in item.options if option.label == item.gold)
    answer = f"{right.text.capitalize()}." if task.classes else right.label
    return Shot(texts.render("answer", question=task.show(item), instruction=task.ask), answer)


def facts(outcome: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the figures of one item that a run reports as means."""
    return {"accuracy": float(outcome["answer"] == outcome["gold"]), "invalid": float(outcome["answer"] is None)}


def _suited(rules: ItemRules) -> ProtocolSpec:
    return msgspec.structs.replace(PROTOCOL, needs_embedder=rules.way.is_nearest)


def _report(rundir: RunDirectory) -> Report:
    from eval.exam.report import report

    return report(rundir)


PROTOCOL: Final = ProtocolSpec(
    name="items",
    session=sit,
    roles=(EXAMINEE,),
    sees={EXAMINEE: SHOWN, EMBEDDER: SHOWN},
    rules=ItemRules,
    case=Item,
    shared=Materials,
    suited=_suited,
    extremes=STRAIGHT,
    facts=facts,
    report=_report,
    texts=CATALOG.paths,
)
