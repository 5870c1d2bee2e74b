import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.choices import option_probabilities, token_ids_of_options

END = 0
TEXT = {1: "1", 2: "2", 3: "0", 4: "10", 5: "y", 6: "yes", 7: "es", 8: "no"}
IDS = {text: token_id for token_id, text in TEXT.items()}
NUMBERS = ("1", "2", "10")


def rows(*steps: dict[int, float]) -> list[dict[int, float]]:
    return [{i: math.log(p) if p else -math.inf for i, p in step.items()} for step in steps]


def probabilities(options: tuple[str, ...], tokens: list[int], *steps: dict[int, float]) -> dict[str, float]:
    return option_probabilities(options, tokens, rows(*steps), TEXT.__getitem__, [END])


def test_a_shared_beginning_is_split_where_sampling_went_along_it() -> None:
    found = probabilities(NUMBERS, [1, 3, END], {1: 0.8, 2: 0.2, END: 0.0}, {3: 0.75, END: 0.25}, {END: 1.0})
    assert found == pytest.approx({"1": 0.2, "2": 0.2, "10": 0.6})


def test_a_branch_not_taken_is_left_out_when_it_is_ambiguous() -> None:
    assert probabilities(NUMBERS, [2, END], {1: 0.8, 2: 0.2}, {END: 1.0}) == pytest.approx({"2": 0.2})


def test_several_tokenizations_of_one_option_add_up() -> None:
    found = probabilities(("yes", "no"), [5, 7, END], {5: 0.1, 6: 0.5, 8: 0.4}, {7: 1.0}, {END: 1.0})
    assert found == pytest.approx({"yes": 0.6, "no": 0.4})


def test_a_single_token_for_a_longer_option_counts_at_once() -> None:
    found = probabilities(NUMBERS, [1, END], {1: 0.5, 2: 0.1, 4: 0.4}, {END: 0.5, 3: 0.5})
    assert found == pytest.approx({"1": 0.25, "2": 0.1, "10": 0.65})


def test_a_completion_cut_off_in_a_shared_beginning_leaves_its_options_out() -> None:
    assert probabilities(NUMBERS, [1], {1: 0.9, 2: 0.1}) == pytest.approx({"2": 0.1})


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.floats(0, 1))
def test_probabilities_of_a_fully_seen_tree_sum_to_one(weights: list[float], end: float) -> None:
    first = dict(zip((1, 2, 4), (w / sum(weights) for w in weights), strict=True))
    assert sum(probabilities(NUMBERS, [1, END], first, {END: end, 3: 1 - end}).values()) == pytest.approx(1.0)


def test_watched_tokens_are_all_pieces_of_all_options() -> None:
    assert token_ids_of_options(("yes", "10"), IDS, [END]) == [END, 1, 3, 4, 5, 6, 7]
