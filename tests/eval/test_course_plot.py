"""The picture of a series of exams: a line a task, over the rounds in their order."""

from eval.comparison import ExamResult, ItemResult, TaskResult, over_rounds
from eval.course_plot import course_picture


def exam(name: str, **right: int) -> ExamResult:
    """An exam of ten items a task, so many of them right."""
    return ExamResult(
        name,
        {task: TaskResult(tuple(ItemResult(f"{task}/{n}", n < num) for n in range(10))) for task, num in right.items()},
    )


def test_every_task_has_a_line_over_the_rounds() -> None:
    course = over_rounds([exam("base", one=3, two=5), exam("r0", one=4), exam("r$1", one=6, two=2)])
    picture = course_picture(course)
    assert picture.startswith("<svg") and "<script" not in picture
    for label in ("base", "r0", "r$1", "one", "two", "accuracy (%), with its 95 % interval"):
        assert f">{label}<" in picture
    assert picture == course_picture(course)
