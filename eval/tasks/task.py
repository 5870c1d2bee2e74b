"""Task: what one exam is, as data.

A task says how its published records are read, how an item is shown, how a reply is parsed, which published rule there
is to compare with, and what answers without reading would be. Knows no model and no scores.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from eval.answers import parse_letter
from eval.class_answers import parse_class
from eval.items import Item, Option
from eval.legacy import LegacyRule

LETTERS: Final = "ABCDEFGHIJ"

Metric = Literal["accuracy", "macro_f1", "balanced_accuracy"]
Report = Callable[[str], None]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What one record says, before it has a place."""

    question: str
    options: tuple[Option, ...]
    gold: str
    source_id: str = ""
    subject: str = ""
    context: str = ""
    gold_text: str = ""


class Reading(msgspec.Struct, frozen=True):
    """What a form needs besides the record: the task's classes and the number of the first option (0 or 1)."""

    classes: tuple[Option, ...] = ()
    first_option: int = 1


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """One published form of records: the keys that tell it, and how a record is read.

    `columns` name the fields of CSV files that are published without a first line of names, () for no such files.
    `read` returns None for a faulty record, having reported what is wrong ("cop must be ..., got ...: do ...").
    """

    name: str
    keys: frozenset[str]
    read: Callable[[Mapping[str, Any], Reading, Report], Content | None]
    columns: tuple[str, ...] = ()


class Made(NamedTuple):
    """Items that a task makes itself: those to be put, and others to be shown as examples."""

    items: tuple[Item, ...]
    examples: tuple[Item, ...]


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """How a task makes its items: so many of each subject, from a seed; `num_items` when nobody says, at most
    `max_items`.
    """

    make: Callable[[int, int], Made]
    num_items: int
    max_items: int


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One exam.

    `forms` are the record forms it can be read from; `classes` the fixed options of a classification, () where every
    item has options of its own. `show` gives an item's question with its options, `ask` what form the answer must have.
    `metric` is the primary one; `trivial` the labels that are given to every item as baselines, beside the majority.
    `marks`: one of these words stands in every question of the set, () where a file cannot be told by them.
    `making` makes the items of a task that is read from no file. With `is_by_kind` its subjects are different
    abilities: examples are of an item's own subject, and scores are told beside what chance gives.
    """

    name: str
    title: str
    forms: tuple[Form, ...]
    show: Callable[[Item], str]
    ask: str
    classes: tuple[Option, ...] = ()
    legacy: LegacyRule | None = None
    metric: Metric = "accuracy"
    trivial: tuple[str, ...] = ()
    is_skewed: bool = False
    marks: tuple[str, ...] = ()
    making: Making | None = None
    is_by_kind: bool = False

    def parse(self, item: Item, text: str, *, is_cut_off: bool = False, is_final: bool = False) -> str | None:
        """Return the label that a reply gives, None when it is invalid; `is_final` for replies that reason first."""
        parser = parse_class if self.classes else parse_letter
        return parser(item.options, text, is_cut_off=is_cut_off, is_final=is_final)


def show_options(item: Item) -> str:
    """Show a question with its lettered options, one a line."""
    options = "\n".join(f"{option.label}. {option.text}" for option in item.options)
    return f"{item.question}\n\nOptions:\n{options}"


def show_question(item: Item) -> str:
    """Show the question alone, as PubMedQA was asked without its abstract."""
    return item.question


def show_abstract(item: Item) -> str:
    """Show the abstract, then the question."""
    return f"Abstract:\n{item.context}\n\nQuestion: {item.question}"


def show_post(item: Item) -> str:
    """Show the quoted post, the question about it, and the classes to choose from."""
    classes = ", ".join(option.label for option in item.options)
    return f'Post: "{item.context}"\n\nQuestion: {item.question}\nPossible answers: {classes}'
