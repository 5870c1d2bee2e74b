"""The shipped tasks: found by name, shown whole, asked without giving the answer away."""

import pytest

from engine.errors import InputError
from eval.items import Item, Option
from eval.tasks import TASKS, find_task


def make_item(task: str) -> Item:
    options = find_task(task).classes or (Option("A", "lithium"), Option("B", "valproate"))
    return Item(
        id=f"{task}/1",
        task=task,
        line=1,
        question="What is given first?",
        options=options,
        gold=options[0].label,
        context="A post of two sentences. This is the second.",
    )


def test_a_task_is_found_in_any_case() -> None:
    assert find_task(" MedQA ").name == "medqa"


@pytest.mark.parametrize(("name", "near"), [("medqua", "medqa"), ("dreadit", "dreaddit"), ("tsid", "t-sid")])
def test_an_unknown_task_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"did you mean '{near}'"):
        find_task(name)


def test_a_name_like_none_is_refused_with_all() -> None:
    with pytest.raises(InputError, match=r"task must be one of medqa, .*, got 'zzzz': set one of these"):
        find_task("zzzz")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_shows_its_question_and_reads_its_own_labels(name: str) -> None:
    task, item = TASKS[name], make_item(name)
    assert item.question in task.show(item)
    assert task.ask.endswith(".") or task.ask.endswith("maybe.")
    for option in item.options:
        assert task.parse(item, option.label) == option.label
        assert all(task.parse(item, alias) == option.label for alias in option.aliases)
    assert task.parse(item, "") is None
    assert set(task.trivial) <= {*item.labels, "A"}


def test_options_stand_on_a_line_each() -> None:
    assert TASKS["medqa"].show(make_item("medqa")).endswith("Options:\nA. lithium\nB. valproate")


def test_a_post_is_shown_with_its_classes() -> None:
    shown = TASKS["cams"].show(make_item("cams"))
    assert '"A post of two sentences. This is the second."' in shown
    assert shown.endswith("none, bias or abuse, jobs and career, medication, relationship, alienation")


def test_only_one_of_the_two_pubmedqa_tasks_shows_the_abstract() -> None:
    item = make_item("pubmedqa")
    assert item.context not in TASKS["pubmedqa"].show(item)
    assert item.context in TASKS["pubmedqa-abstract"].show(item)
