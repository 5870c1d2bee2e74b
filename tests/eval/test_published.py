"""The published files: counts, baselines, and what each kind of reply scores by our rules and by the published ones."""

from collections import Counter
from collections.abc import Callable

import pytest

from eval.items import Item
from eval.legacy import medmcqa_rule
from eval.scores import TaskScore, baselines, mark, score
from eval.tasks import find_task
from tests.eval.published import published

GOLDS = {
    "medqa": {"A": 51, "B": 39, "C": 45, "D": 38},
    "medmcqa": {"A": 133, "B": 67, "C": 51, "D": 63},
    "pubmedqa": {"yes": 321, "no": 7},
    "mmlu": {"A": 30, "B": 26, "C": 20, "D": 24},
    "cams": {
        "none": 107,
        "bias or abuse": 28,
        "jobs and career": 68,
        "medication": 64,
        "relationship": 174,
        "alienation": 184,
    },
    "dreaddit": {"yes": 211, "no": 203},
}
BASELINES = [
    ("medmcqa", "always A", 42.36),
    ("pubmedqa", "always yes", 97.87),
    ("cams", "majority (alienation)", 29.44),
    ("dreaddit", "majority (yes)", 50.97),
    ("dreaddit", "always no", 49.03),
    ("medqa", "majority (A)", 29.48),
]


def text_of(item: Item, label: str) -> str:
    return next(option.text for option in item.options if option.label == label)


def wrong(item: Item) -> str:
    return next(option.label for option in item.options if option.label != item.gold)


REPLIES: dict[str, Callable[[Item], str]] = {
    "right": lambda item: item.gold,
    "wrong": wrong,
    "sentence": lambda item: f"The correct option is {item.gold}.",
    "with text": lambda item: f"{item.gold}) {text_of(item, item.gold)}",
    "option": lambda item: f"Option {item.gold}",
    "text": lambda item: text_of(item, item.gold),
    "empty": lambda item: "",
    "refusal": lambda item: "I'm sorry, but I can't help with medical questions.",
    "two": lambda item: f"{item.gold} or {wrong(item)}",
    "lower": lambda item: item.gold.lower(),
    "spanish": lambda item: f"La respuesta correcta es la {item.gold}.",
    "all": lambda item: ", ".join(item.labels),
    "all of the above": lambda item: "All of the above",
    "unknown": lambda item: "Unknown",
}
# Per task and kind of reply: right by our rules, invalid, right by the published rule.
EXPECTED = {
    "medqa": {
        "right": (173, 0, 173),
        "wrong": (0, 0, 0),
        "sentence": (173, 0, 0),
        "with text": (173, 0, 173),
        "option": (173, 0, 0),
        "text": (173, 0, 167),
        "empty": (0, 173, 173),
        "refusal": (0, 173, 0),
        "two": (0, 173, 0),
        "lower": (173, 0, 0),
        "spanish": (0, 173, 0),
    },
    "medmcqa": {
        "right": (314, 0, 314),
        "wrong": (0, 0, 0),
        "sentence": (314, 0, 0),
        "with text": (314, 0, 314),
        "option": (314, 0, 314),
        "text": (314, 0, 22),
        "empty": (0, 314, 314),
        "refusal": (0, 314, 0),
        "two": (0, 314, 314),
        "lower": (314, 0, 0),
        "spanish": (0, 314, 0),
        "all": (0, 314, 314),
        "all of the above": (0, 309, 133),
    },
    "pubmedqa": {
        "right": (328, 0, 328),
        "wrong": (0, 0, 0),
        "sentence": (328, 0, 328),
        "with text": (328, 0, 328),
        "empty": (0, 328, 0),
        "refusal": (0, 328, 0),
        "two": (0, 328, 0),
        "spanish": (0, 328, 328),
        "unknown": (0, 328, 7),
    },
    "mmlu": {
        "right": (100, 0, 100),
        "wrong": (0, 0, 0),
        "sentence": (100, 0, 0),
        "with text": (100, 0, 100),
        "option": (100, 0, 0),
        "text": (100, 0, 67),
        "empty": (0, 100, 100),
        "refusal": (0, 100, 0),
        "two": (0, 100, 0),
        "lower": (100, 0, 0),
        "spanish": (0, 100, 0),
    },
    "cams": {
        "right": (625, 0, 625),
        "wrong": (0, 0, 0),
        "sentence": (625, 0, 625),
        "with text": (625, 0, 625),
        "empty": (0, 625, 107),
        "refusal": (0, 625, 107),
        # "none" is looked for first, then "bias", ...: right for the 107 only, whose other class comes later.
        "two": (0, 625, 107),
        "lower": (625, 0, 625),
        "spanish": (0, 625, 625),
        "all": (0, 625, 107),
    },
    "dreaddit": {
        "right": (414, 0, 414),
        "wrong": (0, 0, 0),
        "sentence": (414, 0, 414),
        "with text": (414, 0, 414),
        "empty": (0, 414, 203),
        "refusal": (0, 414, 203),
        "two": (0, 414, 211),
        "spanish": (0, 414, 414),
        "unknown": (0, 414, 203),
    },
}
CASES = [(task, kind) for task, kinds in EXPECTED.items() for kind in kinds]


def scored(name: str, reply: Callable[[Item], str]) -> tuple[TaskScore, int]:
    task = find_task(name)
    marks = [mark(task, item, reply(item)) for item in published(name).items]
    return score(task, marks), sum(bool(one.legacy_right) for one in marks)


@pytest.mark.parametrize("task", GOLDS)
def test_the_right_answers_are_those_of_the_specification(task: str) -> None:
    items = published(task).items
    assert Counter(item.gold for item in items) == GOLDS[task]
    assert len({item.id for item in items}) == len(items)
    assert all(item.gold in item.labels and item.question for item in items)


@pytest.mark.parametrize(("task", "name", "percent"), BASELINES)
def test_baselines_are_those_of_the_specification(task: str, name: str, percent: float) -> None:
    found = {one.name: one for one in baselines(find_task(task), [item.gold for item in published(task).items])}
    assert round(100 * found[name].figures.accuracy, 2) == percent


@pytest.mark.parametrize(("task", "kind"), CASES)
def test_strict_and_legacy_scores_of_each_kind_of_reply(task: str, kind: str) -> None:
    result, num_legacy = scored(task, REPLIES[kind])
    assert (result.num_right, result.num_invalid, num_legacy) == EXPECTED[task][kind]
    assert result.legacy_accuracy == num_legacy / result.num_items


def test_a_wrong_text_alone_earns_27_of_314_on_average_by_the_published_rule() -> None:
    num_right = 0
    for item in published("medmcqa").items:
        num_right += sum(medmcqa_rule(item, one.text).is_right for one in item.options if one.label != item.gold)
    assert num_right == 3 * 27


def test_repeated_ids_are_noted_and_kept() -> None:
    assert "(5 repeated lines)" in published("medmcqa").notes[0]
    assert "(46 repeated lines)" in published("pubmedqa").notes[0]


def test_cams_instruction_files_hold_the_same_classes_but_end_the_published_scorer() -> None:
    items = published("cams", "imhi/CAMS_instruction.csv").items
    assert Counter(item.gold for item in items) == GOLDS["cams"]
    task = find_task("cams")
    result = score(task, [mark(task, item, item.gold) for item in items])
    assert (result.accuracy, result.legacy_accuracy, result.num_legacy_unread) == (1.0, None, 107)


def test_both_cams_files_hold_the_same_posts() -> None:
    """One of the two files has 15 long posts cut short by its publishers."""
    num_cut = 0
    files = published("cams", "imhi/CAMS_instruction.csv"), published("cams")
    for one, other in zip(files[0].items, files[1].items, strict=True):
        first, second = sorted((" ".join(item.context.split()) for item in (one, other)), key=len)
        assert second.startswith(first)
        num_cut += first != second
    assert num_cut == 15


def test_an_empty_reply_is_the_default_class_of_the_published_rule() -> None:
    result, _ = scored("dreaddit", REPLIES["empty"])
    assert result.num_legacy_default == result.num_items == 414


def test_questions_and_posts_are_parted() -> None:
    first = published("dreaddit").items[0]
    assert first.question == "Does the poster suffer from stress?"
    assert first.context.startswith("This is good and bad")
    assert first.context.endswith("individual.")
    assert {item.question for item in published("cams").items} == {"This post shows the mental disorder cause of"}


def test_a_file_of_another_task_is_refused_by_name() -> None:
    from engine.errors import InputError
    from eval.tasks.loading import load_items
    from tests.eval.published import FILES, FOLDER

    for task, other in [("medqa", "medmcqa"), ("cams", "dreaddit"), ("dr", "dreaddit"), ("pubmedqa", "mmlu")]:
        published(other)
        with pytest.raises(InputError, match=rf"must be a .* of {task}.* got one of [^:]*\b{other}\b"):
            load_items(find_task(task), FOLDER / FILES[other])
