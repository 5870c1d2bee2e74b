"""Items: one exam question with its options and right answer, and a loaded set of them; pure data.

Invariant: an item is self-contained. It is shown, parsed and scored without the file it came from, and it is known by
its line, since published ids repeat. Knows no task, no model and no file format.
"""

from collections.abc import Sequence

import msgspec

from engine.errors import InputError


class Option(msgspec.Struct, frozen=True):
    """One possible answer: a letter with its text, or a class; `aliases` are further phrases that name a class."""

    label: str
    text: str
    aliases: tuple[str, ...] = ()


class Shot(msgspec.Struct, frozen=True):
    """An answered example: the question with its options as shown, and the answer as shown."""

    question: str
    answer: str


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One question.

    `id` is TASK/LINE, with the 1-based line on which its record begins (TASK/FILE/LINE where several files make one
    set); `source_id` is the file's own id or "". `gold` is the label of the right option, `gold_text` the right answer
    as published, `context` what the question is about (the quoted post, the abstract), "" where there is none.
    """

    id: str
    task: str
    line: int
    question: str
    options: tuple[Option, ...]
    gold: str
    source_id: str = ""
    subject: str = ""
    context: str = ""
    gold_text: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the options, in order."""
        return tuple(option.label for option in self.options)


class ItemSet(msgspec.Struct, frozen=True, kw_only=True):
    """The items of one source, in file order, and what a reader should know about them, one sentence each."""

    task: str
    source: str
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def reordered(item: Item, order: Sequence[int]) -> Item:
    """Return the item with its texts in another order under the same labels, the right answer following its text.

    `order[k]` is the place that the k-th text had: label k of the result is label `order[k]` of `item`. Raises
    InputError unless `order` is a permutation.
    """
    if sorted(order) != list(range(len(item.options))):
        wanted = f"a permutation of 0..{len(item.options) - 1}"
        raise InputError(f"the order of {item.id} must be {wanted}, got {list(order)}: name every option once")
    moved = [item.options[place] for place in order]
    options = tuple(
        msgspec.structs.replace(there, label=here.label) for here, there in zip(item.options, moved, strict=True)
    )
    gold = next(option.label for option, there in zip(options, moved, strict=True) if there.label == item.gold)
    return msgspec.structs.replace(item, options=options, gold=gold)
