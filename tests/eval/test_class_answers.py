"""Classes read from replies: verdict words, phrases, denial, and what is invalid."""

import time

import pytest

from eval.class_answers import parse_class
from eval.tasks import find_task

YES_NO = find_task("dreaddit").classes
CAUSES = find_task("cams").classes
VERDICTS = [
    ("Yes", "yes"),
    ("yes.", "yes"),
    ("NO", "no"),
    ("yes!!!", "yes"),
    ("**Yes**, the poster is under stress", "yes"),
    ("Yes the poster suffers", "yes"),
    ("no - the post is calm", "no"),
    ("No, the poster does not suffer from stress. Reasoning: yes, it is long", "no"),
    ("Label: no\nReasoning: x", "no"),
    ("The answer is yes.", "yes"),
    ("The correct option is no.", "no"),
    ("I think yes", "yes"),
    ("The poster suffers from stress.", "yes"),
    ("The poster does not suffer from stress.", "no"),
    ("", None),
    ("Yes and no", None),
    ("Yes/No", None),
    ("Yes, no", None),
    ("yes or no", None),
    ("Yes, but no", None),
    ("Yes. No.", None),
    ("yes\nno", None),
    ("The answer is not yes.", None),
    ("No idea.", None),
    ("No comment", None),
    ("No evidence of stress.", None),
    ("No, I cannot answer that.", None),
    ("Not sure", None),
    ("I don't know", None),
    ("Unknown", None),
    ("Nothing", None),
    ("yesterday", None),
    ("Maybe", None),
    ("S\u00ed", None),
    ("\u662f", None),
    ("Yes?", None),
    ("Reasoning: Yes, the post says so.", None),
]
CLASSES = [
    ("alienation", "alienation"),
    ('"Alienation"', "alienation"),
    ("Medication. Reasoning: relationship trouble", "medication"),
    ("Alienation. The post describes loneliness and relationship trouble.", "alienation"),
    ("This post shows causes of depression related to jobs and career.", "jobs and career"),
    ("This post shows no causes of depression.", "none"),
    ("This post shows alienation.", "alienation"),
    ("None.", "none"),
    ("Bias", "bias or abuse"),
    ("bias or abuse", "bias or abuse"),
    ("The assigned label is Medication", "medication"),
    ("The cause of depression in this post is relationship.", "relationship"),
    ("The cause is alienation, not relationship.", "alienation"),
    ("Job loss is mentioned; the category is alienation.", "alienation"),
    ("Alienation is the cause.", "alienation"),
    ("Job loss is mentioned.", None),
    ("Relationship problems and medication", None),
    ("None of the above", None),
    ("alienation and relationship", None),
    ("alienation, relationship", None),
    ("This post shows causes of depression related to alienation and relationship.", None),
    ("none, bias or abuse, jobs and career, medication, relationship, alienation", None),
    ("not alienation", None),
    ("The cause is not alienation.", None),
    ("This post does not show alienation.", None),
    ("The poster feels alone.", None),
    ("The post is about a relationship.", None),
    ("", None),
]
OTHER_SETS = [
    ("swmh", "This post shows mental disorder symptoms related to bipolar disorder. Reasoning: x", "bipolar disorder"),
    ("swmh", "This post shows no mental disorders.", "no mental disorders"),
    ("t-sid", "This post shows suicide or self-harm tendency. Reasoning: depression", "suicide or self-harm"),
    ("t-sid", " no mental disorders. Reasoning: no sign", "no mental disorders"),
    ("t-sid", "ptsd.", "ptsd"),
    ("sad", "This post shows the stress cause related to work. Reasoning: school", "work"),
    ("sad", "This post shows other stress causes. Reasoning: x", "other causes"),
    ("sad", "This post shows the stress cause related to emotion turmoil.", "emotional turmoil"),
    ("sad", "everyday decision making", "everyday decision making"),
    ("irf", "Yes, the post shows this risk. Reasoning: 1. x", "yes"),
    ("multiwd", "No, this wellness dimension does not exist in the post.", "no"),
    ("pubmedqa", "Maybe.", "maybe"),
    ("pubmedqa", "Yes/No/Maybe", None),
]


@pytest.mark.parametrize(("text", "label"), VERDICTS)
def test_verdicts(text: str, label: str | None) -> None:
    assert parse_class(YES_NO, text) == label


@pytest.mark.parametrize(("text", "label"), CLASSES)
def test_classes(text: str, label: str | None) -> None:
    assert parse_class(CAUSES, text) == label


@pytest.mark.parametrize(("task", "text", "label"), OTHER_SETS)
def test_every_set_has_its_own_wording(task: str, text: str, label: str | None) -> None:
    assert parse_class(find_task(task).classes, text) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The post mentions work. So the cause is alienation.", "alienation"),
        ("The label is medication. No: the label is relationship.", "relationship"),
        ("There is a breakup.\nrelationship", "relationship"),
        ("Reasoning: there is nothing. The answer is none.", "none"),
        ("The post speaks of medication and of work.", None),
    ],
)
def test_a_reply_that_reasons_first_gives_its_last_statement(text: str, label: str | None) -> None:
    assert parse_class(CAUSES, text, is_final=True) == label


@pytest.mark.parametrize(
    ("text", "label"), [("Yes", None), ("Yes.", "yes"), ("Yes. Reasoning: the po", "yes"), ("The answer is yes", None)]
)
def test_a_reply_cut_off_counts_where_its_verdict_is_complete(text: str, label: str | None) -> None:
    assert parse_class(YES_NO, text, is_cut_off=True) == label
    assert parse_class(YES_NO, text, is_cut_off=True, is_final=True) is None


@pytest.mark.parametrize("part", ["yes, ", "no ", "shows the the ", "causes of ", "related to ", "\ud800", "not ", "'"])
def test_long_hostile_text_is_read_in_no_time(part: str) -> None:
    begun = time.process_time()
    for is_final in (False, True):
        parse_class(CAUSES, part * (200_000 // len(part)), is_final=is_final)
        parse_class(YES_NO, part * (200_000 // len(part)), is_final=is_final)
    assert time.process_time() - begun < 2
