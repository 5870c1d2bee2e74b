"""Items: JSON and back, and options in another order."""

import itertools

import msgspec
import pytest

from engine.errors import InputError
from eval.items import Item, Option, reordered

ITEM = Item(
    id="medqa/3",
    task="medqa",
    line=3,
    question="Which one?",
    options=(Option("A", "first"), Option("B", "second"), Option("C", "third")),
    gold="B",
    gold_text="second",
)


def test_an_item_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ITEM), type=Item) == ITEM


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_right_answer_follows_its_text(order: tuple[int, ...]) -> None:
    moved = reordered(ITEM, order)
    assert moved.labels == ("A", "B", "C")
    assert next(option.text for option in moved.options if option.label == moved.gold) == "second"
    assert [option.text for option in moved.options] == [ITEM.options[place].text for place in order]


@pytest.mark.parametrize("order", [(0, 1), (0, 0, 1), (1, 2, 3)])
def test_an_order_names_every_option_once(order: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="permutation"):
        reordered(ITEM, order)
