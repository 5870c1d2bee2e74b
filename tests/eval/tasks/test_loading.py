"""Loading: every published form, what is kept and noted, and what is refused with file, line and remedy."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from eval.tasks import find_task
from eval.tasks.forms import split_query
from eval.tasks.loading import load_items

MEDQA = {
    "question": "Q?",
    "answer": "two",
    "options": {"A": "one", "B": "two"},
    "answer_idx": "B",
    "meta_info": "step1",
}
MEDMCQA = {
    "question": "Q?",
    "exp": None,
    "cop": 1,
    "opa": "one",
    "opb": "two",
    "opc": "three",
    "opd": "four",
    "subject_name": "Anatomy",
    "topic_name": None,
    "id": "x",
    "choice_type": "single",
}
PUBMEDQA = {"QUESTION": "Q?", "CONTEXTS": ["a", "b"], "final_decision": "yes", "id": "1"}
CAMS = ("query", "gpt-3.5-turbo")


def jsonl(path: Path, *records: Mapping[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    return path


def table(path: Path, *rows: Sequence[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([CAMS, *rows])
    return path


def refused(task: str, path: Path, **settings: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        load_items(find_task(task), path, **settings)
    return caught.value


def test_medqa(tmp_path: Path) -> None:
    (item,) = load_items(find_task("medqa"), jsonl(tmp_path / "a.jsonl", MEDQA)).items
    assert (item.id, item.gold, item.gold_text, item.subject, item.labels) == (
        "medqa/1",
        "B",
        "two",
        "step1",
        ("A", "B"),
    )


def test_mmlu_as_a_file_and_as_a_data_set(tmp_path: Path) -> None:
    task = find_task("mmlu")
    plain = {key: MEDQA[key] for key in ("question", "answer", "options", "answer_idx")}
    (item,) = load_items(task, jsonl(tmp_path / "anatomy_test.jsonl", plain)).items
    assert (item.gold, item.subject) == ("B", "anatomy")
    choices = {"question": "Q?", "choices": ["one", "two", "three"], "answer": 2, "subject": "virology"}
    (item,) = load_items(task, jsonl(tmp_path / "b.jsonl", choices)).items
    assert (item.gold, item.gold_text, item.subject) == ("C", "three", "virology")


MMLU_ROWS = (
    b'\xef\xbb\xbf"Which ""bone"", if any,\nis in the thigh?",Femur,"Ulna, or elbow bone",Rib,None,A\r\n'
    b"\r\n"
    b"What is 1 + 1?,1,2,3,4, B \r\n"
)


def test_mmlu_as_first_published_has_no_line_of_names(tmp_path: Path) -> None:
    (tmp_path / "anatomy_test.csv").write_bytes(MMLU_ROWS)
    found = load_items(find_task("mmlu"), tmp_path / "anatomy_test.csv")
    first, second = found.items
    assert first.question == 'Which "bone", if any,\nis in the thigh?' and first.gold_text == "Femur"
    assert [option.text for option in first.options] == ["Femur", "Ulna, or elbow bone", "Rib", "None"]
    assert (first.id, first.gold, first.subject) == ("mmlu/1", "A", "anatomy")
    assert (second.id, second.line, second.gold, second.gold_text) == ("mmlu/4", 4, "B", "2")


@pytest.mark.parametrize(
    "heads", ["question,A,B,C,D,answer", " question ,A,B,C,D,answer,subject", "A,B,C,D,answer,question"]
)
def test_mmlu_with_a_line_of_names_is_read_by_them(tmp_path: Path, heads: str) -> None:
    texts = {"question": "Q?", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "C", "subject": "s"}
    row = [texts[name.strip()] for name in heads.split(",")]
    path = tmp_path / "virology_dev.csv"
    path.write_text(f"{heads}\n{','.join(row)}\n", "utf-8")
    (item,) = load_items(find_task("mmlu"), path).items
    assert (item.line, item.question, item.gold, item.gold_text) == (2, "Q?", "C", "3")


def test_every_fault_of_mmlu_rows_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "law_test.csv"
    path.write_text('Q?,1,2,3,4,E\n"a\nb",1,2,3,A\nQ?,1,2,3,4,5,A\nQ?,1,,3,4,AB\n,1,2,3,4,\nQ?,1,2,3,4,D\n', "utf-8")
    assert refused("mmlu", path).problems == (
        f"{path}: line 2: must have 6 fields (question, A, B, C, D, answer), got 5: correct its quotes and commas",
        f"{path}: line 4: must have 6 fields (question, A, B, C, D, answer), got 7: correct its quotes and commas",
    )
    path.write_text("Q?,1,2,3,4,E\nQ?,1,,3,4,AB\n,1,2,3,4,\nQ?,1,2,3,4,D\n", "utf-8")
    problems = "\n".join(refused("mmlu", path).problems)
    for said in (
        "line 1: answer must be one of A, B, C, D, got 'E': give the right answer",
        "line 2: option B must be a text that is not empty, got '': fill it in",
        "line 2: answer must be one of A, B, C, D, got 'AB'",
        "line 3: answer must be one of A, B, C, D, got none",
        "line 3: question must be a text that is not empty, got ''",
    ):
        assert said in problems, problems
    assert "line 4" not in problems


def test_only_mmlu_has_files_without_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(MMLU_ROWS)
    assert "must have the keys of medqa" in str(refused("medqa", path))
    path.write_text("id,question,opa,opb,opc,opd,cop\nx,Q?,1,2,3,4,4\n", "utf-8")
    assert "got one of medmcqa: set that task" in str(refused("mmlu", path))


def test_the_files_of_a_folder_are_one_set_filtered_by_subject(tmp_path: Path) -> None:
    for name in ("anatomy_test", "virology_test"):
        jsonl(tmp_path / f"{name}.jsonl", {**MEDQA, "meta_info": ""}, {**MEDQA, "meta_info": ""})
    found = load_items(find_task("mmlu"), tmp_path)
    assert [item.id for item in found.items][1:3] == ["mmlu/anatomy/2", "mmlu/virology/1"]
    only = load_items(find_task("mmlu"), tmp_path, subject="Virology").items
    assert {item.subject for item in only} == {"virology"}


def test_medmcqa_keeps_repeated_ids_and_says_so(tmp_path: Path) -> None:
    found = load_items(find_task("medmcqa"), jsonl(tmp_path / "a.jsonl", MEDMCQA, {**MEDMCQA, "cop": 4}))
    assert [(item.id, item.source_id, item.gold) for item in found.items] == [
        ("medmcqa/1", "x", "A"),
        ("medmcqa/2", "x", "D"),
    ]
    assert found.notes == ("1 ids occur more than once (1 repeated lines): kept, told apart by line",)


@pytest.mark.parametrize(
    ("numbers", "setting", "golds"),
    [([1, 4], None, "AD"), ([0, 3], None, "AD"), ([1, 3], 1, "AC"), ([1, 3], 0, "BD"), (["2", "4"], None, "BD")],
)
def test_medmcqa_counts_from_0_or_from_1(tmp_path: Path, numbers: list[Any], setting: int | None, golds: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", *({**MEDMCQA, "cop": number} for number in numbers))
    items = load_items(find_task("medmcqa"), path, first_option=setting).items
    assert "".join(item.gold for item in items) == golds


@pytest.mark.parametrize(("numbers", "found"), [([1, 2, 3], "neither 0 nor 4"), ([0, 4], "both 0 and 4")])
def test_where_medmcqa_counts_from_is_never_guessed(tmp_path: Path, numbers: list[int], found: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", *({**MEDMCQA, "cop": number} for number in numbers))
    assert f"got {found}: set first_option to 0 or 1" in str(refused("medmcqa", path))


def test_subjects_of_medmcqa(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**MEDMCQA, "cop": 4}, {**MEDMCQA, "subject_name": "Skin"})
    (item,) = load_items(find_task("medmcqa"), path, subject="skin").items
    assert item.line == 2
    assert "must be one of: Anatomy, Skin, got 'Eye'" in str(refused("medmcqa", path, subject="Eye"))


@pytest.mark.parametrize(
    ("contexts", "context"),
    [
        (["a", "b"], "a\nb"),
        ("['a', \"b's\"]", "a\nb's"),
        ("plain text", "plain text"),
        ("[broken", "[broken"),
        (None, ""),
    ],
)
def test_the_abstract_of_pubmedqa_may_be_a_list_written_as_text(tmp_path: Path, contexts: Any, context: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**PUBMEDQA, "CONTEXTS": contexts, "final_decision": "Yes"})
    (item,) = load_items(find_task("pubmedqa"), path).items
    assert (item.context, item.gold) == (context, "yes")


def test_pubmedqa_as_a_data_set(tmp_path: Path) -> None:
    record = {"pubid": 7, "question": "Q?", "context": {"contexts": ["a"]}, "final_decision": "maybe"}
    (item,) = load_items(find_task("pubmedqa"), jsonl(tmp_path / "a.jsonl", record)).items
    assert (item.source_id, item.context, item.gold) == ("7", "a", "maybe")


def test_both_forms_of_cams(tmp_path: Path) -> None:
    stem, question = "This post shows the mental disorder cause of", "What cause of depression does this post show?"
    path = table(
        tmp_path / "a.csv",
        (f"Post: I lost\nmy job  Question: {stem} ", " none. Reasoning: x"),
        (
            f'Consider this post: "I am alone" Question: {question}',
            "This post shows no causes of depression. Reasoning: x",
        ),
    )
    first, second = load_items(find_task("cams"), path).items
    assert (first.id, first.context, first.gold) == ("cams/2", "I lost\nmy job", "none")
    assert first.question == "This post shows the mental disorder cause of"
    assert (second.id, second.context, second.gold) == ("cams/4", "I am alone", "none")
    assert second.question == "What cause of depression does this post show?"


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ('Consider this post: "Question: why?" Question: Is it so?', ("Question: why?", "Is it so?")),
        ('Consider this post: "he said "no"" Question: Is it so?', ('he said "no"', "Is it so?")),
        (
            'Post: a  Question: The answer to the question: "Is it?" is ',
            ("a", 'The answer to the question: "Is it?" is'),
        ),
        ("nothing of the kind", ("", "")),
    ],
)
def test_a_query_is_parted_at_its_last_question(query: str, parts: tuple[str, str]) -> None:
    assert split_query(query) == parts


def test_every_fault_of_a_file_is_listed_with_its_line_and_remedy(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        {**MEDQA, "answer_idx": None},
        {**MEDQA, "answer_idx": "E"},
        {**MEDQA, "options": {"A": "one", "B": " "}, "answer": ""},
        {**MEDQA, "options": {"A": "one", "C": "two"}},
        {**MEDQA, "question": ""},
        {**MEDQA, "answer": "one"},
        {**MEDQA, "options": "A"},
    )
    problems = refused("medqa", path).problems
    assert [problem.split(": ")[1] for problem in problems] == [f"line {number}" for number in range(1, 8)]
    wanted = [
        "answer_idx must be one of A, B, got none: give the right answer",
        "answer_idx must be one of A, B, got 'E'",
        "option B must be a text that is not empty, got ' ': fill it in",
        "options must be two or more, labelled A, B, C, ..., got ['A', 'C']",
        "question must be a text that is not empty, got '': fill it in",
        "answer must be the text of option B, 'two', got 'one': correct one of them",
        "options must be an object of letters and texts, got 'A'",
    ]
    assert all(part in problem for part, problem in zip(wanted, problems, strict=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cop": None}, "cop must be 1..4, got None: give the right answer"),
        ({"cop": -1}, "cop must be 1..4, got -1"),
        ({"cop": True}, "cop must be 1..4, got True"),
        ({"opc": None}, "option C must be a text that is not empty, got None: fill it in"),
    ],
)
def test_faults_of_medmcqa(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**MEDMCQA, "cop": 4}, {**MEDMCQA, **change})
    assert f"line 2: {message}" in str(refused("medmcqa", path))


@pytest.mark.parametrize(("decision", "got"), [(None, "none"), ("perhaps", "'perhaps'"), ([], "[]")])
def test_faults_of_pubmedqa(tmp_path: Path, decision: Any, got: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**PUBMEDQA, "final_decision": decision})
    assert f"final_decision must be one of yes, no, maybe, got {got}: give" in str(refused("pubmedqa", path))


@pytest.mark.parametrize(
    ("task", "record", "named"),
    [
        ("medqa", MEDMCQA, "got one of medmcqa: set that task"),
        ("medmcqa", MEDQA, "got one of medqa, mmlu: set that task"),
        ("medqa", PUBMEDQA, "got one of pubmedqa, pubmedqa-abstract: set that task"),
        ("pubmedqa", MEDMCQA, "got one of medmcqa"),
        ("medqa", {"question": "Q?", "options": {}}, "add answer_idx"),
        ("cams", MEDQA, "got one of medqa, mmlu"),
    ],
)
def test_a_file_of_another_task_is_told_by_its_keys(
    tmp_path: Path, task: str, record: dict[str, Any], named: str
) -> None:
    found = str(refused(task, jsonl(tmp_path / "a.jsonl", record)))
    assert "a.jsonl: line 1: must " in found
    assert named in found


@pytest.mark.parametrize(
    ("task", "question", "verdict", "others"),
    [
        ("cams", "Does the poster suffer from stress?", "Yes, the poster suffers from stress.", "dreaddit"),
        ("dreaddit", "Does the poster suffer from depression?", "No, the poster does not.", "dr, clp"),
        (
            "dreaddit",
            "What cause of depression does this post show?",
            "This post shows no causes of depression.",
            "cams",
        ),
        ("irf", "Does the social wellness dimension exist in the post?", "Yes.", "multiwd"),
        ("t-sid", "What is the stress cause of this post?", "This post shows the stress cause related to work.", "sad"),
    ],
)
def test_a_file_of_another_set_is_told_by_question_and_verdict(
    tmp_path: Path, task: str, question: str, verdict: str, others: str
) -> None:
    rows = [
        (f'Consider this post: "post {number}" Question: {question}', f"{verdict} Reasoning: x") for number in range(3)
    ]
    problems = refused(task, table(tmp_path / "a.csv", *rows)).problems
    assert len(problems) == 1
    assert problems[0].endswith(f"a.csv: line 2: must be a file of {task}, got one of {others}: set that task")


def test_a_single_unknown_label_is_named(tmp_path: Path) -> None:
    rows = [
        ("Post: a Question: This post shows the mental disorder cause of", label) for label in ("none", "none", "x")
    ]
    problems = refused("cams", table(tmp_path / "a.csv", *rows)).problems
    assert len(problems) == 1
    assert "line 4: gpt-3.5-turbo must begin with a verdict (none, bias or abuse, " in problems[0]
    assert "got 'x': correct it or remove the record" in problems[0]


def test_a_task_of_ones_own_needs_no_registration(tmp_path: Path) -> None:
    from eval.tasks.imhi import binary_task

    path = table(tmp_path / "a.csv", ("Post: a Question: Is the poster asleep?", "yes. Reasoning: x"))
    (item,) = load_items(binary_task("asleep", "Asleep"), path).items
    assert (item.id, item.gold) == ("asleep/2", "yes")


def test_first_option_is_0_or_1(tmp_path: Path) -> None:
    assert "first_option must be 0 or 1, got 2" in str(refused("medmcqa", tmp_path, first_option=2))
