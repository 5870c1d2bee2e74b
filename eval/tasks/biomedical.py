"""The biomedical exams: MedQA, MedMCQA, PubMedQA, MMLU."""

from typing import Final

from eval.items import Option
from eval.legacy import medmcqa_rule, medqa_rule, pubmedqa_rule
from eval.tasks.forms import CHOICES, COLUMNS, LETTERED, MEDMCQA, PUBMEDQA, PUBMEDQA_SET
from eval.tasks.task import Task, show_abstract, show_options, show_question

ASK_LETTER: Final = "Answer with the letter of the one correct option and nothing else."
ASK_DECISION: Final = "Answer with one word and nothing else: yes, no or maybe."

DECISIONS: Final = (Option("yes", "yes"), Option("no", "no"), Option("maybe", "maybe"))

MEDQA: Final = Task(
    name="medqa",
    title="MedQA (United States licensing examination)",
    forms=(LETTERED,),
    show=show_options,
    ask=ASK_LETTER,
    legacy=medqa_rule,
    trivial=("A",),
)
MEDMCQA_TASK: Final = Task(
    name="medmcqa",
    title="MedMCQA (Indian entrance examinations)",
    forms=(MEDMCQA,),
    show=show_options,
    ask=ASK_LETTER,
    legacy=medmcqa_rule,
    trivial=("A",),
)
MMLU: Final = Task(
    name="mmlu",
    title="MMLU (one subject a file)",
    forms=(LETTERED, CHOICES, COLUMNS),
    show=show_options,
    ask=ASK_LETTER,
    legacy=medqa_rule,
    trivial=("A",),
)
PUBMEDQA_TASK: Final = Task(
    name="pubmedqa",
    title="PubMedQA, the question without its abstract",
    forms=(PUBMEDQA, PUBMEDQA_SET),
    show=show_question,
    ask=ASK_DECISION,
    classes=DECISIONS,
    legacy=pubmedqa_rule,
    metric="macro_f1",
    trivial=("yes",),
    is_skewed=True,
)
PUBMEDQA_ABSTRACT: Final = Task(
    name="pubmedqa-abstract",
    title="PubMedQA, the question with its abstract",
    forms=(PUBMEDQA, PUBMEDQA_SET),
    show=show_abstract,
    ask=ASK_DECISION,
    classes=DECISIONS,
    legacy=pubmedqa_rule,
    metric="macro_f1",
    trivial=("yes",),
    is_skewed=True,
)
