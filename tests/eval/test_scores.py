"""Scores: figures against scikit-learn and statsmodels, invalid replies, baselines, subjects."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from eval.items import Item, Option
from eval.scores import Mark, baselines, figures, mark, mark_answer, score
from eval.tasks import find_task

MEDQA = find_task("medqa")
OPTIONS = (Option("A", "one"), Option("B", "two"), Option("C", "three"))


def make_item(line: int, gold: str, subject: str = "") -> Item:
    text = next(option.text for option in OPTIONS if option.label == gold)
    return Item(
        id=f"medqa/{line}",
        task="medqa",
        line=line,
        question="?",
        options=OPTIONS,
        gold=gold,
        gold_text=text,
        subject=subject,
    )


def make_mark(gold: str, answer: str | None, subject: str = "") -> Mark:
    return Mark(id="x", subject=subject, gold=gold, answer=answer)


def test_counts_and_interval() -> None:
    from statsmodels.stats.proportion import proportion_confint

    marks = [
        mark(MEDQA, make_item(1, "A"), "A"),
        mark(MEDQA, make_item(2, "A"), "B"),
        mark(MEDQA, make_item(3, "B"), ""),
        mark(MEDQA, make_item(4, "C"), "The answer is C", finish="length"),
        mark(MEDQA, make_item(5, "C"), "The answer is C."),
    ]
    result = score(MEDQA, marks)
    assert (result.num_items, result.num_right, result.num_invalid, result.num_cut_off) == (5, 2, 2, 1)
    assert (result.accuracy, result.invalid_rate) == (0.4, 0.4)
    low, high = proportion_confint(2, 5, method="wilson")
    assert result.low == pytest.approx(low, abs=1e-6)
    assert result.high == pytest.approx(high, abs=1e-6)
    # The published rule takes the empty reply for right, the sentence with a full stop for wrong.
    assert [one.legacy_right for one in marks] == [True, False, True, False, False]
    assert result.legacy_accuracy == 0.4


def test_figures_by_hand() -> None:
    """Class A: 2 of 3 right and one B taken for A; class B: 1 of 2. An invalid reply is a miss of its class only."""
    found = figures(["A", "A", "A", "B", "B"], ["A", "A", None, "A", "B"])
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.macro_f1 == pytest.approx((2 * 2 / (2 * 2 + 1 + 1) + 2 * 1 / (2 * 1 + 1)) / 2)


def test_all_invalid_scores_nothing_and_warns_of_nothing() -> None:
    found = figures(["A", "B"], [None, None])
    assert (found.accuracy, found.macro_f1, found.balanced_accuracy) == (0, 0, 0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(["A", "B", "C", None])), min_size=1, max_size=30))
def test_figures_agree_with_scikit_learn(pairs: list[tuple[str, str | None]]) -> None:
    import warnings

    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    golds, answers = [gold for gold, _ in pairs], [answer for _, answer in pairs]
    given_answers = [answer or "invalid" for answer in answers]
    found = figures(golds, answers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        balanced = balanced_accuracy_score(golds, given_answers)
    assert found.accuracy == pytest.approx(accuracy_score(golds, given_answers), abs=1e-9)
    assert found.balanced_accuracy == pytest.approx(balanced, abs=1e-9)


def test_baselines_name_the_majority_and_the_trivial_answers() -> None:
    found = baselines(find_task("dreaddit"), ["no", "no", "yes"])
    assert [(one.name, one.label) for one in found] == [
        ("majority (no)", "no"),
        ("always yes", "yes"),
        ("always no", "no"),
    ]
    assert [one.figures.accuracy for one in found] == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert [one.figures.balanced_accuracy for one in found] == pytest.approx([0.5, 0.5, 0.5])


def test_of_equal_classes_the_first_is_the_majority() -> None:
    assert baselines(MEDQA, ["C", "B", "C", "B"])[0].label == "B"


def test_subjects_are_scored_apart() -> None:
    marks = [make_mark("A", "A", "eye"), make_mark("A", None, "eye"), make_mark("B", "B", "ear"), make_mark("A", "A")]
    found = {one.subject: one for one in score(MEDQA, marks).subjects}
    assert list(found) == ["ear", "eye"]
    assert (found["eye"].num_items, found["eye"].num_right, found["eye"].num_invalid) == (2, 1, 1)
    assert found["eye"].majority == 1
    assert found["ear"].low < found["ear"].accuracy == 1


def test_a_vote_is_scored_as_given_and_the_published_rule_sees_its_text() -> None:
    marked = mark_answer(MEDQA, make_item(1, "B"), "B", "A")
    assert marked.is_right
    assert marked.legacy_right is False


def test_a_task_without_a_published_rule_has_no_legacy_score() -> None:
    from eval.tasks.imhi import class_task

    task = class_task("own", "Own", OPTIONS)
    assert score(task, [mark(task, make_item(1, "A"), "A")]).legacy_accuracy is None


def test_no_items_are_refused() -> None:
    with pytest.raises(InputError, match="must have at least one item"):
        score(MEDQA, [])
