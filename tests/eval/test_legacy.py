"""The published rules on replies by hand, defects included."""

import pytest

from eval.items import Item, Option
from eval.legacy import BINARY_RULE, LegacyMark, medmcqa_rule, medqa_rule, pubmedqa_rule
from eval.tasks import find_task

LETTERED = Item(
    id="medqa/1",
    task="medqa",
    line=1,
    question="?",
    options=(Option("A", "Weight loss"), Option("B", "Weight gain")),
    gold="B",
    gold_text="Weight gain",
)


def decided(gold: str) -> Item:
    return Item(id="pubmedqa/1", task="pubmedqa", line=1, question="?", options=(), gold=gold, gold_text=gold)


@pytest.mark.parametrize(
    ("text", "in_medqa", "in_medmcqa"),
    [
        ("", True, True),
        ("  ", True, True),
        ("B", True, True),
        ("b", False, False),
        ("A", False, False),
        ("B. Weight gain", True, True),
        ("The correct option is B.", False, False),
        ("Option B", False, True),
        ("B) Weight gain", True, True),
        ("Weight gain", True, False),
        ("weight gain", False, False),
        ("gain", True, False),
        ("A, B", False, True),
        ("Big", False, True),
    ],
)
def test_letters(text: str, in_medqa: bool, in_medmcqa: bool) -> None:
    assert medqa_rule(LETTERED, text).is_right is in_medqa
    assert medmcqa_rule(LETTERED, text).is_right is in_medmcqa


@pytest.mark.parametrize(
    ("gold", "text", "is_right"),
    [
        ("yes", "Yes", True),
        ("yes", "Yes, it is not known", False),
        ("no", "Unknown", True),
        ("no", "cannot know", True),
        ("no", "yes and no", False),
        ("yes", "", False),
        ("yes", "No without explanation. Yes", True),
        ("no", "no explanation. yes", False),
        ("maybe", "MAYBE", True),
        ("maybe", "maybe yes, maybe no", False),
    ],
)
def test_decisions(gold: str, text: str, is_right: bool) -> None:
    assert pubmedqa_rule(decided(gold), text).is_right is is_right


@pytest.mark.parametrize(
    ("gold_text", "text", "mark"),
    [
        ("no. Reasoning: yes", "No. Reasoning: yes", LegacyMark(True)),
        ("no. Reasoning: x", "yes or no", LegacyMark(False)),
        ("no. Reasoning: x", "I do not know", LegacyMark(True)),
        ("no. Reasoning: x", "", LegacyMark(True, is_default=True)),
        ("yes. Reasoning: x", "Reasoning: yes", LegacyMark(False, is_default=True)),
        ("yes. Reasoning: x", "eyes", LegacyMark(True)),
        ("perhaps", "yes", LegacyMark(False, is_unread=True)),
    ],
)
def test_verdicts(gold_text: str, text: str, mark: LegacyMark) -> None:
    item = Item(id="dr/1", task="dr", line=1, question="?", options=(), gold="no", gold_text=gold_text)
    assert BINARY_RULE(item, text) == mark


@pytest.mark.parametrize(
    ("task", "gold_text", "text", "mark"),
    [
        ("cams", "alienation. Reasoning: x", "Alienation, none other", LegacyMark(False)),
        ("cams", "none. Reasoning: x", "I cannot say", LegacyMark(True, is_default=True)),
        ("cams", "This post shows no causes of depression.", "none", LegacyMark(False, is_unread=True)),
        ("sad", "work. Reasoning: x", "workload at school", LegacyMark(False)),
        ("sad", "other causes. Reasoning: x", "?", LegacyMark(True, is_default=True)),
        ("t-sid", "suicide or self-harm tendency.", "suicide after depression", LegacyMark(False)),
        ("swmh", "This post shows no mental disorders.", "No mental illness", LegacyMark(True)),
    ],
)
def test_the_first_keyword_in_the_published_order_decides(
    task: str, gold_text: str, text: str, mark: LegacyMark
) -> None:
    rule = find_task(task).legacy
    assert rule is not None
    item = Item(id="x/1", task=task, line=1, question="?", options=(), gold="", gold_text=gold_text)
    assert rule(item, text) == mark
