"""Letters read from replies: what is read, what is invalid, and that hostile text costs linear time."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.answers import parse_letter
from eval.items import Option

OPTIONS = tuple(
    Option(label, text)
    for label, text in zip("ABCD", ["Agranulocytosis", "Shortened QT interval", "Gynecomastia", "E. coli"], strict=True)
)
READ = [
    ("B", "B"),
    ("(B)", "B"),
    ("B.", "B"),
    ("b", "B"),
    ("a", "A"),
    ("a) agranulocytosis", "A"),
    ("Answer: B", "B"),
    ("**Answer:** B", "B"),
    ("Answer:\n\nB", "B"),
    ("# Answer\nB", "B"),
    ("> - B", "B"),
    ("The correct option is B.", "B"),
    ("The correct option is: **(B)**", "B"),
    ("The correct answer to this question is B.", "B"),
    ("The correct answer is most likely B because of the dose", "B"),
    ("Option B", "B"),
    ("Choice (B)", "B"),
    ("B) Shortened QT interval", "B"),
    ("B. Shortened QT", "B"),
    ("B - Shortened QT interval", "B"),
    ("B Shortened QT interval", "B"),
    ("B: Shortened QT interval", "B"),
    ("B (Shortened QT interval)", "B"),
    ("B is the correct answer.", "B"),
    ("C is correct. A, B and D are wrong.", "C"),
    ("B, because option A is wrong", "B"),
    ("B\n\nExplanation: A is wrong, C) is wrong, D too.", "B"),
    ("My answer is C, not B.", "C"),
    ("I would choose B.", "B"),
    ("Sure, B.", "B"),
    ("shortened qt interval.", "B"),
    ('"Gynecomastia"', "C"),
    ("Gynecomastia. Risperidone blocks dopamine.", "C"),
    ("Gynecomastia because dopamine is blocked", "C"),
    ("The answer is gynecomastia.", "C"),
    ("E. coli", "D"),
    ("The answer is A", "A"),
    ("The answer is a", "A"),
    ("A patient on risperidone; the answer is C.", "C"),
    ("Answer: A\nAnswer: A", "A"),
    ("\uff22", "B"),
    ("$\\boxed{\\text{B}}$", "B"),
    ("<answer>B</answer>", "B"),
    ('{"answer": "B"}', "B"),
    ("<think>A is right? No.</think>B", "B"),
]
INVALID = [
    "",
    "   \n",
    "I cannot answer medical questions.",
    "La respuesta correcta es la B.",
    "Die Antwort ist B.",
    "\u7b54\u6848\u662fB",
    "A patient with schizophrenia should be treated.",
    "The answer is A patient",
    "The answer is a drug",
    "B or C",
    "B and C",
    "B, C",
    "B/C",
    "Either B or C",
    "Both A and C are correct",
    "Neither A nor B is correct.",
    "The answer is B or C.",
    "The answer is not B.",
    "The answer is not B, it is C",
    "I would not choose B.",
    "Option B is incorrect.",
    "Option A: no. Option C: yes.",
    "It could be B.",
    "not B",
    "B?",
    "Is the answer: B?",
    "If the answer is B, then the dose is too high",
    "Vitamin B is the best",
    "A) Agranulocytosis\nB) Shortened QT interval\nC) Gynecomastia",
    "A) Agranulocytosis B) Shortened QT interval",
    "Agranulocytosis\nGynecomastia",
    "The options are A, B, C and D.",
    "Answer: A\nAnswer: B",
    "B) Agranulocytosis",
    "A: B",
    "E. coli is the cause.",
    "None of the above",
    "E",
    "ABCD",
    "<think>A is right",
]
FINAL = [
    ("A is tempting. The answer is B. But wait, the answer is C.", "C"),
    ("So the final answer is (C).", "C"),
    ("Reasoning: because x, since y.\nFinal answer: D", "D"),
    ("It blocks D2 receptors.\nC", "C"),
    ("The answer is B. This answer is consistent with guidelines.", "B"),
    ("Therefore the answer is gynecomastia.", "C"),
    ("**Final Answer:** The correct option is **B) Shortened QT interval**.", "B"),
    ("We exclude A. Therefore, C is the best option.", "C"),
    ("Answer: B is incorrect. Answer: C", "C"),
    ("The answer is B. No, the answer is B or C.", None),
    ("The answer is not A. It must be something else.", None),
    ("Only thoughts, no answer", None),
    ("", None),
]
CUT_OFF = [
    ("B", None),
    ("B)", "B"),
    ("B. Shor", "B"),
    ("Gynecomastia", None),
    ("Gynecomastia\nIt is", "C"),
    ("The answer is B", None),
    ("The answer is B.", "B"),
]
HOSTILE = [
    "A ",
    "answer is ",
    "answer to this question ",
    "answer: ",
    "answer is the correct ",
    "\\boxed{",
    "> ",
    "- ",
    "B or ",
    "A) ",
    "(",
    " ",
    "\n",
    "<think>",
    "not the answer is B ",
    "because ",
    "B is the best ",
    "\ud800",
    "\x00",
    "\u0301",
]


@pytest.mark.parametrize(("text", "label"), READ)
def test_an_answer_is_read(text: str, label: str) -> None:
    assert parse_letter(OPTIONS, text) == label


@pytest.mark.parametrize("text", INVALID)
def test_what_would_have_to_be_guessed_is_invalid(text: str) -> None:
    assert parse_letter(OPTIONS, text) is None


@pytest.mark.parametrize(("text", "label"), FINAL)
def test_a_reply_that_reasons_first_gives_its_last_statement(text: str, label: str | None) -> None:
    assert parse_letter(OPTIONS, text, is_final=True) == label


@pytest.mark.parametrize(("text", "label"), CUT_OFF)
def test_a_reply_cut_off_counts_where_its_answer_is_complete(text: str, label: str | None) -> None:
    assert parse_letter(OPTIONS, text, is_cut_off=True) == label
    assert parse_letter(OPTIONS, text, is_cut_off=True, is_final=True) is None


def test_a_text_that_two_options_share_names_neither() -> None:
    options = (Option("A", "4.6"), Option("B", "4.6"), Option("C", "4.61"))
    assert parse_letter(options, "4.6") is None
    assert parse_letter(options, "4.61") == "C"


@pytest.mark.parametrize(
    ("options", "text", "label"),
    [
        (("1%", "1", ".1", "-1"), "1.", "B"),
        (("1%", "1", ".1", "-1"), ".1", "C"),
        (("1%", "1", ".1", "-1"), "-1", "D"),
        (("ac", "a", "ad", "ab"), "a", "A"),
        (("ac", "a", "ad", "ab"), "ad", "C"),
        (("A and C", "Only B", "x", "y"), "A and C", "A"),
        (("known because of pedigrees", "x", "y", "z"), "Known because of pedigrees", "A"),
        (("All of the above", "x", "y", "z"), "All of the above.", "A"),
    ],
)
def test_texts_are_compared_exactly(options: tuple[str, ...], text: str, label: str) -> None:
    assert parse_letter(tuple(map(Option, "ABCD", options)), text) == label


@pytest.mark.parametrize("is_final", [False, True])
@pytest.mark.parametrize("part", HOSTILE)
def test_long_hostile_text_is_read_in_no_time(part: str, is_final: bool) -> None:
    text = part * (200_000 // len(part))
    begun = time.process_time()
    parse_letter(OPTIONS, text, is_final=is_final)
    assert time.process_time() - begun < 2


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("ABCDab ().,:;/-*\n\\{}isorntaweh"), max_size=80), st.booleans(), st.booleans())
def test_any_text_is_an_option_or_invalid(text: str, is_final: bool, is_cut_off: bool) -> None:
    assert parse_letter(OPTIONS, text, is_final=is_final, is_cut_off=is_cut_off) in {"A", "B", "C", "D", None}


@settings(deadline=None)
@given(st.text(max_size=40))
def test_two_different_letters_are_invalid_whatever_stands_between(text: str) -> None:
    assert parse_letter(OPTIONS, f"Answer: A\n{text}\nAnswer: B") is None or "think" in text
