import pytest

from benchmarks.figures import figure, ratio


def test_a_ratio_of_unequal_traces_does_not_exist() -> None:
    with pytest.raises(ValueError, match="equal traces, got aaa and bbb: record again"):
        ratio("efficiency", [1.0], [1.0], traces=("aaa", "bbb"))


def test_a_ratio_needs_the_same_number_of_repeats() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio("efficiency", [1.0, 2.0], [1.0])


def test_a_ratio_is_taken_repeat_by_repeat() -> None:
    found = ratio("speedup", [2.0, 6.0, 4.0], [1.0, 2.0, 4.0], goal=2.0)
    assert found.values == (2.0, 3.0, 1.0)
    assert (found.median, found.min, found.max, found.repeats) == (2.0, 1.0, 3.0, 3)
    assert found.is_reached is True


def test_a_figure_without_repeats_does_not_exist() -> None:
    with pytest.raises(ValueError, match="at least one measurement"):
        figure("lag", "ms", [])


@pytest.mark.parametrize(
    ("goal", "is_at_most", "expected"),
    [(None, False, None), (2.0, False, True), (3.0, False, False), (2.0, True, True)],
)
def test_a_goal_has_a_side(goal: float | None, is_at_most: bool, expected: bool | None) -> None:
    assert figure("lag", "ms", [1.0, 2.0, 9.0], goal=goal, is_at_most=is_at_most).is_reached is expected
