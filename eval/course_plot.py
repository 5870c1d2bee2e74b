"""The course of a series of exams as a picture: accuracy by round, one line a task, with its 95 % interval."""

from engine.pictures import canvas_of, plain_label, svg_of
from eval.comparison import Course


def course_picture(course: Course) -> str:
    """Return the accuracies by round as an SVG element; a line passes over rounds that did not take its task.

    Raises InputError without matplotlib.
    """
    canvas, axes = canvas_of(4.0, 6.4)
    places = range(len(course.rounds))
    for number, (task, found) in enumerate(course.accuracies.items()):
        shift = 0.06 * (number - (len(course.accuracies) - 1) / 2)
        known = [(place, one) for place, one in zip(places, found, strict=True) if one is not None]
        axes.errorbar(
            [place + shift for place, _ in known],
            [100 * one.value for _, one in known],
            yerr=(
                [100 * (one.value - one.interval.low) for _, one in known],
                [100 * (one.interval.high - one.value) for _, one in known],
            ),
            marker="o",
            markersize=4,
            linewidth=1,
            capsize=2,
            label=plain_label(task),
        )
    axes.set_xticks(list(places), [plain_label(name) for name in course.rounds])
    axes.set_ylabel("accuracy (%), with its 95 % interval")
    axes.legend()
    return svg_of(canvas)
