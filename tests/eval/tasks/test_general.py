"""The general items: one right option by every seed, told by oracles of their own; examples never put."""

import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from eval.items import Item
from eval.tasks import find_task, general_words
from eval.tasks.general import GENERAL, KINDS, MAX_ITEMS, NUM_EXAMPLES, make_general
from eval.tasks.loading import load_items


def quoted(item: Item) -> str:
    found = re.search(r'"([^"]*)"', item.question)
    assert found is not None
    return found[1]


def listed(item: Item) -> list[str]:
    return item.question.partition(": ")[2].rstrip("?").split(", ")


def category_of(word: str) -> str:
    (name,) = [name for name, members in general_words.CATEGORIES.items() if word in members]
    return name


def is_odd(item: Item, text: str) -> bool:
    return Counter(map(category_of, listed(item)))[category_of(text)] == 1


def reckoned(item: Item) -> int:
    one, sign, other = item.question.removeprefix("What is ").rstrip("?").split()
    return int(one) + int(other) * (1 if sign == "+" else -1)


def follows(item: Item) -> bool:
    """Follow the statements from the thing that the name is to the thing that is asked about."""
    *rules, named, asked = re.split(r"[.?] ?", item.question.rstrip("?"))
    holds = {named.split()[-1]: True}
    for rule in rules:
        quantifier, one, _, _, other = rule.split()
        assert holds[one]
        holds[other] = quantifier == "Every"
    return holds[asked.split()[-1]]


OPPOSITE = {one: other for pair in general_words.OPPOSITES for one, other in (pair, pair[::-1])}
ORACLES: dict[str, Callable[[Item, str], bool]] = {
    "larger": lambda item, text: int(text) == max(map(int, listed(item))),
    "sum": lambda item, text: int(text) == reckoned(item),
    "difference": lambda item, text: int(text) == reckoned(item) >= 0,
    "first_letter": lambda item, text: text[0] == quoted(item)[0],
    "last_letter": lambda item, text: text[-1] == quoted(item)[-1],
    "alphabetical": lambda item, text: text == sorted(listed(item))[0],
    "num_letters": lambda item, text: int(text) == len(quoted(item)),
    "num_words": lambda item, text: int(text) == quoted(item).count(" ") + 1,
    "opposite": lambda item, text: OPPOSITE[quoted(item)] == text,
    "plural": lambda item, text: (quoted(item), text) in general_words.PLURALS,
    "past_tense": lambda item, text: (quoted(item), text) in general_words.PAST_TENSES,
    "category": lambda item, text: category_of(quoted(item)) == text,
    "odd_one_out": is_odd,
    "translation": lambda item, text: (quoted(item), text) in general_words.TRANSLATIONS[item.question.split()[3]],
    "negation": lambda item, text: text == quoted(item).replace(" is ", " is not "),
    "order": lambda item, text: text in {first for first, _ in general_words.EVENTS},
    "logic": lambda item, text: (text == "Yes") == follows(item),
}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**64))
def test_every_item_has_exactly_one_right_option(seed: int) -> None:
    made = make_general(12, seed)
    for item in (*made.items, *made.examples):
        texts = [option.text for option in item.options]
        right = [option.label for option in item.options if ORACLES[item.subject](item, option.text)]
        assert right == [item.gold], item
        assert len({text.casefold() for text in texts}) == len(texts) in (2, 4)
        assert dict(zip(item.labels, texts, strict=True))[item.gold] == item.gold_text
        assert item.labels == tuple("ABCD"[: len(texts)]) and all(texts)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_the_most_items_are_there_no_question_twice_and_no_letter_better_than_another(seed: int) -> None:
    made = make_general(MAX_ITEMS, seed)
    assert len({item.id for item in made.items}) == len(made.items) == MAX_ITEMS * len(KINDS)
    assert len(made.examples) == NUM_EXAMPLES * len(KINDS)
    questions = [item.question for item in (*made.items, *made.examples)]
    assert len(set(questions)) == len(questions)
    for kind in KINDS:
        golds = Counter(item.gold for item in made.items if item.subject == kind)
        assert max(golds.values()) - min(golds.values()) <= 2, (kind, golds)


def test_fewer_items_are_the_first_of_more_and_another_seed_makes_others() -> None:
    few, more, other = make_general(2, 7), make_general(5, 7), make_general(2, 8)
    assert few.items == more.items[: 2 * len(KINDS)] and few.examples == more.examples
    assert [item.id for item in few.items[:2]] == ["general/larger/1", "general/sum/1"]
    assert few.items[len(KINDS)].id == "general/larger/2"
    same = {item.question for item in few.items} & {item.question for item in other.items}
    assert len(same) < len(few.items) // 2


def test_no_word_is_in_two_places_of_a_list() -> None:
    for pairs in (general_words.OPPOSITES, general_words.EVENTS):
        words = [word for pair in pairs for word in pair]
        assert len(set(words)) == len(words)
    members = [word for listed in general_words.CATEGORIES.values() for word in listed]
    assert len(set(members)) == len(members)
    for translated in general_words.TRANSLATIONS.values():
        assert len({word for _, word in translated}) == len(translated)


@pytest.mark.parametrize("item", make_general(1, 0).items, ids=lambda item: item.subject)
def test_the_text_of_an_option_is_an_answer_too(item: Item) -> None:
    assert GENERAL.parse(item, item.gold) == GENERAL.parse(item, f"{item.gold}. {item.gold_text}") == item.gold
    assert GENERAL.parse(item, item.gold_text) == item.gold


def test_no_file_holds_its_items() -> None:
    with pytest.raises(InputError, match="read from files, got general: leave the path out"):
        load_items(find_task("general"), "items.jsonl")
