"""Forms: how the records of each published form are read; pure.

Invariant: a record is read whole or refused with everything that is wrong with it; a missing right answer, a missing
option and an unknown label are faults, never filled in. Knows nothing of files.
"""

import ast
from collections.abc import Mapping
from typing import Any, Final

from eval.class_answers import parse_class
from eval.item_files import shown
from eval.items import Option
from eval.tasks.task import LETTERS, Content, Form, Reading, Report

_KEYS_ABCD: Final = ("opa", "opb", "opc", "opd")
_INSTRUCTION: Final = 'Consider this post: "'
_COMPLETION: Final = "Post: "
_MARKER: Final = " Question: "
MAX_LIST_CHARS: Final = 200_000


def _text(record: Mapping[str, Any], name: str, report: Report) -> str:
    """Return a text that must be there."""
    value = record.get(name)
    if isinstance(value, str) and value.strip():
        return value.strip()
    report(f"{name} must be a text that is not empty, got {shown(value)}: fill it in or remove the record")
    return ""


def _options(texts: Mapping[str, Any], report: Report) -> tuple[Option, ...]:
    """Return lettered options; at least two, labelled A, B, C, ... without a gap, each with a text."""
    labels = tuple(LETTERS[: len(texts)])
    if len(texts) < 2 or tuple(texts) != labels:
        report(f"options must be two or more, labelled A, B, C, ..., got {shown(list(texts))}: correct the record")
        return ()
    for label, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            report(f"option {label} must be a text that is not empty, got {shown(text)}: fill it in")
    return tuple(Option(label, str(text).strip()) for label, text in texts.items())


def _gold(gold: object, options: tuple[Option, ...], name: str, report: Report) -> str:
    labels = [option.label for option in options]
    if gold in labels or not options:
        return str(gold)
    got = "none" if gold is None or gold == "" else shown(gold)
    report(f"{name} must be one of {', '.join(labels)}, got {got}: give the right answer or remove the record")
    return ""


def read_lettered(record: Mapping[str, Any], reading: Reading, report: Report) -> Content:
    """MedQA and MMLU: `options` by letter, `answer_idx` the right letter, `answer` its text."""
    raw = record["options"]
    if not isinstance(raw, Mapping):
        report(f"options must be an object of letters and texts, got {shown(raw)}: correct the record")
    options = _options(raw, report) if isinstance(raw, Mapping) else ()
    gold = _gold(record.get("answer_idx"), options, "answer_idx", report)
    text = next((option.text for option in options if option.label == gold), "")
    stated = record.get("answer")
    if options and gold and isinstance(stated, str) and stated.strip() and stated.strip() != text:
        report(f"answer must be the text of option {gold}, {shown(text)}, got {shown(stated)}: correct one of them")
    return Content(
        question=_text(record, "question", report),
        options=options,
        gold=gold,
        # The published rule compares with the text as it stands in the file.
        gold_text=stated if isinstance(stated, str) and stated.strip() else text,
        subject=_optional(record, "meta_info"),
    )


def read_choices(record: Mapping[str, Any], reading: Reading, report: Report) -> Content:
    """MMLU as a data set: `choices` in order, `answer` the number of the right one, counted from 0."""
    raw = record["choices"]
    texts = list(raw) if isinstance(raw, list | tuple) else []
    options = _options(dict(zip(LETTERS, texts, strict=False)), report)
    gold = _gold(_letter(record.get("answer"), 0), options, "answer (counted from 0)", report)
    return Content(
        question=_text(record, "question", report),
        options=options,
        gold=gold,
        gold_text=next((option.text for option in options if option.label == gold), ""),
        subject=_optional(record, "subject"),
    )


def read_columns(record: Mapping[str, Any], reading: Reading, report: Report) -> Content:
    """MMLU as first published: the question, the options in columns `A` to `D`, `answer` the right letter."""
    options = _options({letter: record[letter] for letter in LETTERS[:4]}, report)
    gold = _gold(_optional(record, "answer"), options, "answer", report)
    return Content(
        question=_text(record, "question", report),
        options=options,
        gold=gold,
        gold_text=next((option.text for option in options if option.label == gold), ""),
        subject=_optional(record, "subject"),
    )


def read_medmcqa(record: Mapping[str, Any], reading: Reading, report: Report) -> Content:
    """MedMCQA: `opa` to `opd`, `cop` the number of the right one, counted from `reading.first_option`."""
    texts = {letter: record.get(name) for letter, name in zip(LETTERS, _KEYS_ABCD, strict=False)}
    options = _options(texts, report)
    cop = record.get("cop")
    first = reading.first_option
    gold = _letter(cop, first)
    if gold is None:
        report(f"cop must be {first}..{first + 3}, got {shown(cop)}: give the right answer or remove the record")
    return Content(
        question=_text(record, "question", report),
        options=options,
        gold=gold or "",
        gold_text=next((option.text for option in options if option.label == gold), ""),
        source_id=_optional(record, "id"),
        subject=_optional(record, "subject_name"),
    )


def _letter(number: object, first: int) -> str | None:
    """Return the letter of an option's number, given as a number or as digits."""
    if isinstance(number, str) and number.strip().isdecimal() and len(number.strip()) < 3:
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        return None
    place = number - first
    return LETTERS[place] if 0 <= place < 4 else None


def _optional(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def read_pubmedqa(record: Mapping[str, Any], reading: Reading, report: Report) -> Content:
    """PubMedQA: `QUESTION`, `CONTEXTS` (a list, or one written as text), `final_decision` yes, no or maybe."""
    decision = record.get("final_decision")
    gold = decision.strip().casefold() if isinstance(decision, str) else decision
    context = record.get("CONTEXTS", record.get("context"))
    if isinstance(context, Mapping):
        context = context.get("contexts")
    name = "QUESTION" if "QUESTION" in record else "question"
    return Content(
        question=_text(record, name, report),
        options=reading.classes,
        gold=_gold(gold, reading.classes, "final_decision", report),
        gold_text=str(gold),
        source_id=_optional(record, "id") or _optional(record, "pubid"),
        context="\n".join(_list_of_texts(context)),
    )


def _list_of_texts(value: object) -> list[str]:
    """Return the texts of a list that may be written as a Python or JSON list within a text; other text is one."""
    if isinstance(value, str) and value.lstrip().startswith("[") and len(value) <= MAX_LIST_CHARS:
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [str(value).strip()]
    if isinstance(value, str):
        return [value.strip()]
    return [str(one).strip() for one in value] if isinstance(value, list | tuple) else []


def read_imhi(record: Mapping[str, Any], reading: Reading, report: Report) -> Content:
    """IMHI: `query` holds the quoted post and the question, the other column the verdict, then its reasoning."""
    query = _text(record, "query", report)
    published = record.get("gpt-3.5-turbo")
    gold_text = published if isinstance(published, str) else ""
    gold = parse_class(reading.classes, gold_text)
    if gold is None:
        labels = ", ".join(option.label for option in reading.classes)
        got = shown(gold_text.strip()[:60]) if gold_text.strip() else "none"
        report(f"gpt-3.5-turbo must begin with a verdict ({labels}), got {got}: correct it or remove the record")
    post, question = split_query(query)
    if query and not (post and question):
        report(f"query must be a post, then 'Question:' and a question, got {shown(query)}: correct the record")
    return Content(question=question, options=reading.classes, gold=gold or "", context=post, gold_text=gold_text)


def split_query(query: str) -> tuple[str, str]:
    """Return post and question of an IMHI query; a post may itself hold the word that parts them, so the last counts.

    Two forms are published: `Consider this post: "POST" Question: ...` and `Post: POST Question: ...`, the latter a
    sentence to be completed.
    """
    post, marker, question = query.rpartition(_MARKER)
    if not marker:
        return "", ""
    post = post.rstrip()
    if post.startswith(_INSTRUCTION):
        post = post.removeprefix(_INSTRUCTION).removesuffix('"')
    return post.removeprefix(_COMPLETION).strip(), question.strip()


LETTERED: Final = Form(
    name="lettered options", keys=frozenset({"question", "options", "answer_idx"}), read=read_lettered
)
CHOICES: Final = Form(name="choices", keys=frozenset({"question", "choices", "answer"}), read=read_choices)
_COLUMNS: Final = ("question", *LETTERS[:4], "answer")
COLUMNS: Final = Form(name="columns", keys=frozenset(_COLUMNS), read=read_columns, columns=_COLUMNS)
MEDMCQA: Final = Form(name="MedMCQA", keys=frozenset({"question", *_KEYS_ABCD, "cop"}), read=read_medmcqa)
PUBMEDQA: Final = Form(name="PubMedQA", keys=frozenset({"QUESTION", "final_decision"}), read=read_pubmedqa)
PUBMEDQA_SET: Final = Form(
    name="PubMedQA data set", keys=frozenset({"question", "context", "final_decision"}), read=read_pubmedqa
)
IMHI: Final = Form(name="IMHI", keys=frozenset({"query", "gpt-3.5-turbo"}), read=read_imhi)
FORMS: Final = (LETTERED, CHOICES, COLUMNS, MEDMCQA, PUBMEDQA, PUBMEDQA_SET, IMHI)
"""Every known form, those with more keys first where one has another's keys."""
