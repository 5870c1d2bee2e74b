"""Collapse monitors: figures by hand on small rounds, and rules that name their value."""

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.convert import Tally
from training.formats import Row
from training.monitors import (
    DEFAULT_RULES,
    RoundFigures,
    Rule,
    breaches,
    diversity_gain,
    entropy,
    measure_log,
    measure_rows,
)
from training.sample_log import Mark


def make_tally(kept: int, **dropped: int) -> Tally:
    return Tally(Counter(diagnosis=kept), Counter({name.replace("_", " "): n for name, n in dropped.items()}))


def make_row(label: str, taught: str) -> Row:
    return {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": taught}], "label": label}


HEALTHY = measure_rows(["a", "b", "c", "c"] * 4, [10, 20, 30, 40], make_tally(16))


def test_figures_by_hand() -> None:
    found = measure_rows(["mdd", "mdd", "gad", "mdd"], [4, 6], make_tally(6, duplicate=1, near_duplicate=1, empty=9))
    assert (found.num_rows, found.num_labels, found.top_label, found.top_share) == (6, 2, "mdd", 0.75)
    assert found.label_entropy == pytest.approx(0.75 * math.log2(4 / 3) + 0.25 * 2)
    assert (found.duplicate_share, found.mean_length) == (0.25, 5.0)


def test_a_round_without_rows_has_no_labels_and_breaks_a_rule() -> None:
    found = measure_rows([], [], make_tally(0))
    assert found == RoundFigures(num_rows=0)
    assert [one.rule.figure for one in breaches(DEFAULT_RULES, found, None)] == ["num_rows"]


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 50), min_size=1, max_size=8))
def test_entropy_lies_between_one_label_and_all_alike(counts: dict[str, int]) -> None:
    assert -1e-9 <= entropy(counts) <= math.log2(len(counts)) + 1e-9
    assert entropy(dict.fromkeys(counts, 7)) == pytest.approx(math.log2(len(counts)))


def test_a_healthy_round_breaks_no_rule() -> None:
    assert breaches(DEFAULT_RULES, HEALTHY, None) == []
    assert breaches(DEFAULT_RULES, HEALTHY, HEALTHY) == []


def test_one_label_for_all_is_named_with_its_value() -> None:
    poisoned = measure_rows(["mdd"] * 50, [20] * 50, make_tally(50))
    found = breaches(DEFAULT_RULES, poisoned, HEALTHY)
    assert [one.rule.figure for one in found] == ["top_share", "num_labels"]
    assert found[0].sentence == "top_share must be at most 0.8, got 1: roll back"
    assert found[1].sentence == "num_labels must be at least 1.5, got 1: roll back"


def test_a_few_labels_say_too_little() -> None:
    few = measure_rows(["mdd"] * 5, [20] * 5, make_tally(5))
    assert breaches(DEFAULT_RULES, few, HEALTHY) == []


def test_a_log_is_measured_by_what_it_teaches() -> None:
    rows = [make_row("mdd", "depression"), make_row("", "a longer turn of talk")]
    found = measure_log(rows, Mark(num_samples=2, kept={"diagnosis": 1, "patient": 1}, dropped={"duplicate": 2}))
    assert (found.num_rows, found.num_labelled, found.num_labels, found.top_share) == (2, 1, 1, 1.0)
    assert found.duplicate_share == 0.5 and found.mean_length is not None


async def test_diversity_gain_is_the_distance_to_the_nearest_earlier_row() -> None:
    near = {("a", "x"): 0.9, ("a", "y"): 0.4, ("b", "x"): 0.2, ("b", "y"): 0.5}

    async def similarities(pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [near[pair] for pair in pairs]

    rows, earlier = [make_row("", "a"), make_row("", "b")], [make_row("", "x"), make_row("", "y")]
    found = await diversity_gain(rows, earlier, similarities, random.Random(0))
    assert found == pytest.approx((0.1 + 0.5) / 2)


def test_limits_of_the_round_before() -> None:
    rule = Rule(figure="mean_length", at_least=0.5, at_most=2.0, of_before=True, then="stop")
    before = RoundFigures(num_rows=1, mean_length=100.0)
    for length, is_broken in ((49.0, True), (50.0, False), (200.0, False), (201.0, True)):
        assert bool(breaches([rule], RoundFigures(num_rows=1, mean_length=length), before)) == is_broken
    assert breaches([rule], RoundFigures(num_rows=1, mean_length=1.0), None) == []


def test_what_was_not_measured_breaks_nothing() -> None:
    rules = [Rule(figure="exam", at_least=0.9), Rule(figure="perplexity", at_most=2.0, of_before=True)]
    assert breaches(rules, RoundFigures(num_rows=1), RoundFigures(num_rows=1)) == []
    assert len(breaches(rules, RoundFigures(num_rows=1, exam=0.5), None)) == 1


@pytest.mark.parametrize(("low", "high", "is_undone"), [(-0.2, -0.01, True), (-0.2, 0.0, False), (0.01, 0.2, False)])
def test_a_round_is_undone_by_its_exam_only_when_the_whole_interval_is_a_fall(
    low: float, high: float, is_undone: bool
) -> None:
    figures = RoundFigures(num_rows=1, exam_change=(low + high) / 2, exam_change_low=low, exam_change_high=high)
    found = breaches(DEFAULT_RULES, figures, None)
    assert [one.sentence for one in found] == ["exam_change_high must be at least 0, got -0.01: roll back"] * is_undone


def test_a_difference_has_limits_of_its_own() -> None:
    found = Rule(figure="exam_change_high", at_least=-2, of_before=True).problems("rounds.rules[0]")
    assert found == [
        "rounds.rules[0].at_least must be within -1..1 for exam_change_high, got -2: give a share, 0.02 for two points",
        "rounds.rules[0].of_before must be false for exam_change_high, a difference already: leave it out",
    ]
    assert Rule(figure="exam_change_low", at_least=-0.02).problems("rounds.rules[0]") == []
    assert Rule(figure="exam_change_low", at_least=-0.02, at_most=0.5).text == (
        "exam_change_low at_least -0.02 at_most 0.5"
    )


def test_rules_are_checked() -> None:
    assert Rule(figure="exam", at_least=0.1).problems("rounds.rules.0") == []
    found = Rule(figure="colour").problems("rounds.rules.0")
    assert len(found) == 2 and "rounds.rules.0.figure must be one of num_rows" in found[0]
